"""What the service depends on."""

from typing import Literal

from pydantic import Field, model_validator

from recsys.settings import StepSettings


class StoreSettings(StepSettings):
    """Where the service finds snapshots, closed sales and running sessions."""

    kind: Literal["folder", "redis"] = "folder"
    """`folder`: files below the shop's folder, for one machine; `redis`: a server that a fleet shares."""

    url: str = "redis://127.0.0.1:6379/0"
    """The Redis server."""

    prefix: str = "recsys:"
    """Every key starts with it: several shops may share a server."""

    timeout_seconds: float = Field(0.05, gt=0)
    """A request that waits longer for Redis is answered without it."""


class SessionSettings(StepSettings):
    """The running session of a visitor."""

    minutes: float = Field(30.0, gt=0)
    """Recorded visits of so many minutes re-rank the next page, where the website sends no session itself."""

    max_sales: int = Field(100, ge=1)
    """The latest so many sales of a session count."""


class ExposureSettings(StepSettings):
    """The log of what was shown."""

    enabled: bool = True
    """Whether answers are logged."""

    flush_seconds: float = Field(1.0, gt=0)
    """A killed process loses at most the answers of so many seconds."""

    durable: bool = False
    """Answer only once the log is on disk: nothing is lost, and each answer waits for the disk."""

    max_queued: int = Field(100_000, ge=1)
    """Answers that wait for the disk; of more, a fair sample is kept and the rest counted."""

    segment_megabytes: float = Field(64.0, gt=0)
    """A log file is finished at this size."""

    segment_seconds: float = Field(60.0, gt=0)
    """A log file is finished at this age, in seconds: from then on `recsys exposures` may take it."""


class LimitSettings(StepSettings):
    """What one request, and one caller, may ask for."""

    max_n: int = Field(100, ge=10, le=100)
    """Sales of a page."""

    max_sale_ids: int = Field(1000, ge=1)
    """Entries of the list of allowed, or of denied, sales."""

    max_attributes: int = Field(32, ge=0)
    """Attributes of a request."""

    max_text_bytes: int = Field(256, ge=16)
    """Bytes of each id, attribute and name."""

    max_batch: int = Field(500, ge=1)
    """Pages, or events, of one request."""

    max_message_bytes: int = Field(4 * 1024 * 1024, ge=1024)
    """Bytes of one request."""

    max_concurrent: int = Field(256, ge=1)
    """Requests that a process holds at the same time; more are refused with RESOURCE_EXHAUSTED."""

    max_per_second: float | None = Field(None, gt=0)
    """Requests a second that one caller may send to a process; more are refused with RESOURCE_EXHAUSTED."""


class TlsSettings(StepSettings):
    """Encryption, by files in PEM format."""

    certificate: str
    """The service's certificate, with those that it depends on."""

    key: str
    """Its private key."""

    client_authority: str | None = None
    """Certificates that callers' own must depend on: then each caller needs one (mutual TLS)."""


class Caller(StepSettings):
    """Who may call, and what."""

    name: str = Field(min_length=1)
    """Shown in the log; for a caller with a certificate, its common name."""

    role: Literal["website", "admin"]
    """`website` may ask for pages and record events; `admin` may also close and hide sales."""

    token_sha256: str | None = Field(None, pattern="^[0-9a-f]{64}$")
    """SHA-256 of the token, in hex (`printf %s TOKEN | sha256sum`): the token itself is in no file."""


class AccessSettings(StepSettings):
    """Who may call; where no caller is named, everyone who reaches the port may do everything."""

    callers: tuple[Caller, ...] = Field((), strict=False)
    """Callers with a token, or with a client certificate of that common name."""


class TracingSettings(StepSettings):
    """OpenTelemetry traces; needs `pip install 'flash-sale-recsys[tracing]'`."""

    endpoint: str
    """The collector, such as http://127.0.0.1:4317."""

    share: float = Field(0.01, ge=0, le=1)
    """This share of the requests is traced, and those whose caller traces them."""


class LogSettings(StepSettings):
    """The service's log."""

    format: Literal["text", "json"] = "text"
    """`json` writes one object a line."""

    requests: bool = False
    """Whether each request is logged."""

    user_ids: bool = False
    """Whether the log may name users."""


class ServingSettings(StepSettings):
    """Settings of the gRPC service."""

    host: str = "127.0.0.1"
    """The address to listen on; 0.0.0.0 for all: then set `tls` and `access`."""

    port: int = Field(50051, ge=0, le=65535)
    """The port to listen on; 0 for any free one."""

    admin_port: int | None = Field(50052, ge=0, le=65535)
    """The port for staff and `recsys doctor`; 0 for any free one, null for none."""

    metrics_port: int | None = Field(9464, ge=0, le=65535)
    """The port of the Prometheus metrics, by HTTP; 0 for any free one, null for none."""

    workers: int = Field(2, ge=1)
    """Processes that share the ports; one a core is best. One that dies is replaced."""

    # An answer waits for nothing, so threads only compete: 2 answer 4,800 requests/s on 2 cores, 8 answer 3,000.
    threads: int = Field(2, ge=1)
    """Requests that a process answers at the same time; the others wait."""

    default_policy: str = "meta"
    """The policy of requests that name none; a snapshot without it is refused."""

    rules: str | None = None
    """File of the rules that staff write, such as conf/rules/home.yaml."""

    experiments: str | None = None
    """Folder of the A/B experiments, such as conf/experiments: home.yaml in it is for surface home."""

    clock: Literal["system", "replay"] = "system"
    """What time it is: the system's, or a replay of the hours after a snapshot's `as_of`."""

    replay_start_hours: float = Field(10.0, ge=0)
    """A replay starts so many hours after the `as_of` of the first snapshot, and runs on from there."""

    poll_seconds: float = Field(0.2, gt=0)
    """How often to look for a newly published snapshot and for changed rules."""

    connection_minutes: float = Field(10.0, gt=0)
    """A caller is asked to connect anew after so long: connections stay with one process, new ones are spread."""

    drain_seconds: float = Field(5.0, ge=0)
    """On SIGTERM, running requests have so long to end."""

    spare_milliseconds: float = Field(5.0, ge=0)
    """A request whose deadline is nearer is answered without its session and without Redis."""

    store: StoreSettings = StoreSettings()
    session: SessionSettings = SessionSettings()
    exposures: ExposureSettings = ExposureSettings()
    limits: LimitSettings = LimitSettings()
    tls: TlsSettings | None = None
    """Encryption; none by default."""

    access: AccessSettings = AccessSettings()
    tracing: TracingSettings | None = None
    """OpenTelemetry traces; none by default."""

    log: LogSettings = LogSettings()

    @model_validator(mode="after")
    def _shared_port(self) -> "ServingSettings":
        if self.workers > 1 and 0 in (self.port, self.admin_port, self.metrics_port):
            raise ValueError("port 0 is any free one, which several workers cannot share: name the ports, or 1 worker")
        return self
