"""Helpers shared by the benchmarks of the service."""

import argparse
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from benchmarks.load import Answers, saturate
from benchmarks.processes import Running
from benchmarks.served_shop import ServedShop
from benchmarks.service import Service

SENDERS = 8


@dataclass(frozen=True)
class Bench:
    """The shop that is served, the size of measurements, and the cores."""

    shop: ServedShop
    requests: int
    """Number of requests per measurement."""
    rounds: int
    cores: Sequence[int]
    """The first core is for the server, the last one for the load."""

    @property
    def server_core(self) -> int:
        """The core of one process of the service, or of a peer."""
        return self.cores[0]

    @property
    def load_core(self) -> int:
        """The core of the senders."""
        return self.cores[-1]

    def title(self, text: str) -> None:
        """Print the title of a section."""
        print(f"\n{text}", flush=True)


def measured(server: Running, load: Callable[[], Answers], count: int) -> tuple[float, float]:
    """Load a server, and return answers per second and microseconds of CPU per request.

    Raises:
        SystemExit: If a request failed.
    """
    before = server.cpu_seconds()
    answers = load()
    if answers.failures:
        raise SystemExit(f"failed requests == {answers.failures}, must be 0:\n{server.log.read_text()}")
    return answers.rate, (server.cpu_seconds() - before) / count * 1e6


def highest_rate(bench: Bench, service: Service) -> float:
    """Return the maximum throughput of a service after a warm-up, in requests per second."""
    requests = service.requests(SENDERS)
    saturate(requests, bench.requests // 2, bench.load_core)
    return saturate(requests, bench.requests, bench.load_core).rate


def verdict(goal: str, is_met: bool) -> None:
    """Print whether a goal is met or missed."""
    print(f"  goal {goal}: {'met' if is_met else 'MISSED'}", flush=True)


def some_of(known: Collection[str]) -> Callable[[str], list[str]]:
    """Return a parser of names separated by commas, or of `none`, for the command line."""

    def parse(text: str) -> list[str]:
        names = [name for name in text.split(",") if name and name != "none"]
        if unknown := sorted(set(names).difference(known)):
            raise argparse.ArgumentTypeError(f"{unknown[0]!r}, must be one of {', '.join(known)}")
        return names

    return parse
