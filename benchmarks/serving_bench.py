"""What the parts of `benchmarks.serving` share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.load import Answers, saturate
from benchmarks.processes import Running
from benchmarks.served_shop import ServedShop
from benchmarks.service import Service

SENDERS = 8


@dataclass(frozen=True)
class Bench:
    """What is measured, and where."""

    shop: ServedShop
    requests: int
    """Of each measurement."""
    rounds: int
    cores: Sequence[int]
    """The first is the server's, the last the load's."""

    @property
    def server_core(self) -> int:
        """Where one process of the service, or a peer, runs alone."""
        return self.cores[0]

    @property
    def load_core(self) -> int:
        """Where the load comes from."""
        return self.cores[-1]

    def title(self, text: str) -> None:
        """Print what comes."""
        print(f"\n{text}", flush=True)


def measured(server: Running, load: Callable[[], Answers], count: int) -> tuple[float, float]:
    """Load a server; return answers a second, and microseconds of CPU a request.

    Raises:
        SystemExit: If a request failed.
    """
    before = server.cpu_seconds()
    answers = load()
    if answers.failures:
        raise SystemExit(f"{answers.failures} requests failed:\n{server.log.read_text()}")
    return answers.rate, (server.cpu_seconds() - before) / count * 1e6


def highest_rate(bench: Bench, service: Service) -> float:
    """Return how many requests a second a service answers at most, once it is warm."""
    requests = service.requests(SENDERS)
    saturate(requests, bench.requests // 2, bench.load_core)
    return saturate(requests, bench.requests, bench.load_core).rate


def verdict(goal: str, is_met: bool) -> None:
    """Print whether a goal is met."""
    print(f"  goal {goal}: {'met' if is_met else 'MISSED'}", flush=True)
