"""Helpers shared by the parts of `benchmarks.serving`."""

from collections.abc import Callable, Sequence
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
