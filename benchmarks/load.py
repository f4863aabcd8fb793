"""Load generation by h2load, which is written in C and needs little CPU.

h2load sees HTTP statuses only. gRPC errors, which are in the trailers, must be counted by the server, and answers must
be checked by another client.
"""

import shutil
import struct
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

IN_FLIGHT = 4
"""Maximum number of requests in flight per sender, if it sends as fast as it is answered."""
_OK = 200
_GRPC_HEADERS = ("content-type: application/grpc", "te: trailers")


class Request(NamedTuple):
    """The request that a sender repeats."""

    url: str
    body: bytes | None = None
    headers: Sequence[str] = ()
    is_http2: bool = False


class Answers(NamedTuple):
    """The answers to all requests."""

    began: NDArray[np.int64]
    """When each request was sent, microseconds since 1970."""
    took: NDArray[np.int64]
    """Latency of each answer, in microseconds."""
    failures: int
    """Number of requests without an answer or with an HTTP status other than 200."""
    together: tuple[int, int]
    """The interval in which all senders were active, microseconds since 1970."""

    @property
    def rate(self) -> float:
        """Answers per second while all senders were active.

        Raises:
            SystemExit: If less than a fifth of the answers came in that time.
        """
        since, until = self.together
        ended = self.began + self.took
        answered = int(((ended > since) & (ended <= until)).sum())
        if answered < len(ended) / 5:
            rule = f"must be at least {len(ended) // 5}: give a larger '--requests'"
            raise SystemExit(f"answers while all senders were active == {answered}, {rule}")
        return answered / (until - since) * 1e6

    def milliseconds(self, percentile: float) -> float:
        """Return a percentile of the latency, in milliseconds."""
        return float(np.percentile(self.took, percentile)) / 1000


class Load:
    """Running senders; leaving the context waits for them.

    Args:
        requests: One per sender.
        count: Number of requests of each sender.
        core: The core that all senders run on.
        gaps: Milliseconds before each request, shape (n_senders, count); if None, they send as fast as they are
            answered.
    """

    def __init__(self, requests: Sequence[Request], count: int, core: int, gaps: NDArray[np.float64] | None = None):
        self._count = count * len(requests)
        self._folder = tempfile.TemporaryDirectory(prefix="load-")
        self._logs = [Path(self._folder.name) / f"log-{number}" for number in range(len(requests))]
        self._senders = []
        for number, (request, log) in enumerate(zip(requests, self._logs, strict=True)):
            own_gaps = None if gaps is None else gaps[number]
            command = ["taskset", "--cpu-list", str(core), *_h2load(request, count, log, own_gaps)]
            self._senders.append(subprocess.Popen(command, stdout=subprocess.DEVNULL))

    def __enter__(self) -> "Load":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for sender in self._senders:
            if kind is not None:
                sender.terminate()
            sender.wait()
        self._folder.cleanup()

    def answers(self) -> Answers:
        """Wait until all requests are answered, and return the answers.

        Raises:
            SystemExit: If a sender got no answer.
        """
        for sender in self._senders:
            sender.wait()
        if not all(log.exists() and log.stat().st_size for log in self._logs):
            raise SystemExit("h2load got no answer: see its output above")
        return _read_logs(self._logs, self._count)


def require_h2load() -> None:
    """Check that h2load is installed.

    Raises:
        SystemExit: If it is not on the PATH.
    """
    if shutil.which("h2load") is None:
        raise SystemExit("h2load is not on the PATH: sudo apt-get install nghttp2-client, or brew install nghttp2")


def saturate(requests: Sequence[Request], count: int, core: int) -> Answers:
    """Send `count` requests in total, each sender as fast as it is answered, and return the answers."""
    with Load(requests, max(1, count // len(requests)), core) as load:
        return load.answers()


def paced(requests: Sequence[Request], rate: float, count: int, core: int) -> Load:
    """Start to send `count` requests in total as a Poisson process of about `rate` requests per second."""
    shape = len(requests), max(1, count // len(requests))
    gaps = np.random.default_rng(0).exponential(1000 * len(requests) / rate, shape)
    # h2load rounds gaps up to whole milliseconds, half a millisecond on average.
    return Load(requests, shape[1], core, np.maximum(gaps - 0.5, 0))


def grpc_request(target: str, method: str, message: bytes) -> Request:
    """Return the request that calls a gRPC method, named `/package.Service/Method`."""
    body = struct.pack(">BI", 0, len(message)) + message
    return Request(f"http://{target}{method}", body, _GRPC_HEADERS, is_http2=True)


def _h2load(request: Request, count: int, log: Path, gaps: NDArray[np.float64] | None) -> list[str]:
    command = ["h2load", f"--requests={count}", f"--log-file={log}", *(f"--header={each}" for each in request.headers)]
    if request.body is not None:
        body = log.with_suffix(".body")
        body.write_bytes(request.body)
        command.append(f"--data={body}")
    if gaps is not None:
        url = urlsplit(request.url)
        script = log.with_suffix(".script")
        script.write_text("".join(f"{instant:.3f}\t{url.path}\n" for instant in np.cumsum(gaps)))
        in_flight = ["--max-concurrent-streams=100"]
        return [*command, *in_flight, f"--timing-script-file={script}", f"--base-uri={url.scheme}://{url.netloc}"]
    in_flight = [f"--max-concurrent-streams={IN_FLIGHT}"] if request.is_http2 else ["--h1", f"--clients={IN_FLIGHT}"]
    return [*command, *in_flight, request.url]


def _read_logs(logs: Sequence[Path], count: int) -> Answers:
    rows = [np.loadtxt(log, dtype=np.int64, ndmin=2) for log in logs]
    since = max(int(each[:, 0].min()) for each in rows)
    until = min(int((each[:, 0] + each[:, 2]).max()) for each in rows)
    began, status, took = np.concatenate(rows).T
    answered = status == _OK
    return Answers(began[answered], took[answered], count - int(answered.sum()), (since, until))
