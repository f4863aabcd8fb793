"""Settings of the service."""

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from recsys.settings import StepSettings


class StoreSettings(StepSettings):
    """Storage of snapshots, closed sales and running sessions."""

    kind: Literal["folder", "redis"] = "folder"
    """`folder`: files below the shop's folder, for one machine; `redis`: a Redis server that several machines share."""

    snapshots: Literal["redis", "folder"] = "redis"
    """Where snapshots are, if `kind` is redis: in Redis too, where each user's ranking is asked for; or, with `folder`,
    whole on each machine's disk, to which they are pulled where the shop's `folder` is a URL."""

    url: str = "redis://127.0.0.1:6379/0"
    """URL of the Redis server, `rediss://` for TLS; used if `kind` is redis."""

    username: str | None = None
    """User of the Redis server, where it has several; the environment variable RECSYS_REDIS_USERNAME by default."""

    password_file: str | None = None
    """File that holds the password of the Redis server, and nothing else; the environment variable
    RECSYS_REDIS_PASSWORD by default."""

    authority: str | None = None
    """PEM file of the certificate authority of a `rediss://` server; the system's authorities by default."""

    prefix: str = "recsys:"
    """Prefix of every key in Redis, so that several shops can share a server."""

    timeout_seconds: float = Field(0.05, gt=0)
    """Timeout of a call to Redis, in seconds; after it the request is answered without Redis."""

    acknowledge_seconds: float = Field(2.0, ge=0)
    """Time that closing or hiding a sale waits for the processes of all machines to acknowledge it, in seconds; after
    it the answer names those that have not."""

    vouch_seconds: float = Field(5.0, gt=0)
    """Time since a process last read the closed and hidden sales, in seconds, after which it stops vouching: its health
    check is NOT_SERVING, so that a load balancer sends no more requests, until it can read them again."""

    @property
    def has_snapshots_on_disk(self) -> bool:
        """Whether a machine reads whole snapshots from its disk."""
        return "folder" in (self.kind, self.snapshots)


class SessionSettings(StepSettings):
    """The running session of a user."""

    minutes: float = Field(30.0, gt=0)
    """Age up to which recorded visits belong to the running session and re-rank the next page, in minutes; used if the
    website does not send the session itself."""

    max_sales: int = Field(100, ge=1)
    """Maximum number of sales of a session that are used, the latest ones."""


class LiveCountsSettings(StepSettings):
    """What the shop's users did since the night, counted while it is recorded."""

    read_seconds: float = Field(1.0, gt=0)
    """Interval at which a process reads what all processes have counted, in seconds."""

    stale_seconds: float = Field(5.0, gt=0)
    """Age of the counts that a process knows, in seconds, above which status and metrics show a problem; pages go on
    with what it knows."""


class ExposureSettings(StepSettings):
    """The log of exposures: which pages were served to whom."""

    enabled: bool = True
    """Whether served pages are logged."""

    flush_seconds: float = Field(1.0, gt=0)
    """Interval at which logged pages are written to disk, in seconds; a killed process loses at most those of one
    interval."""

    durable: bool = False
    """Whether a page is answered only after its log record is on disk: no record is lost, but every answer waits for
    the disk."""

    max_queued: int = Field(100_000, ge=1)
    """Maximum number of log records that wait for the disk; above it a uniform sample is kept and the others are
    counted as lost."""

    segment_megabytes: float = Field(64.0, gt=0)
    """A log file is finished at this size."""

    segment_seconds: float = Field(60.0, gt=0)
    """A log file is finished at this age, in seconds: from then on `recsys exposures` may take it."""


class PageSettings(StepSettings):
    """What every page says and leaves out."""

    currency: str | None = Field(None, pattern="^[A-Z]{3}$")
    """Currency of all prices, as an ISO 4217 code such as EUR; by default pages name none."""

    language: str = Field("en", pattern="^[a-z]{2,3}(-[a-z0-9]+)*$")
    """Language of reasons, where a request does not ask for another one: en, fr, de, es, or one of `wording`."""

    wording: str | None = None
    """Folder with the shop's own sentences for reasons, one YAML file per language, such as fr.yaml, with those that
    differ; the files in serving/answers/wording show all keys. By default there are none."""

    reason_texts: dict[str, str] = {}
    """The shop's own sentences for reasons in its language, by kind of evidence such as own_visits, or `detail` for a
    reason that names {detail}; {attributes} is replaced by the names of the sales' attributes."""

    just_bought_hours: float | None = Field(72.0, gt=0)
    """Sales that the user bought within this many hours are shown after all others; null for a shop whose users soon
    buy in the same sale again."""


class LimitSettings(StepSettings):
    """Limits of one request, and of one caller."""

    max_n: int = Field(100, ge=10, le=100)
    """Maximum number of sales on a page, in 10..100."""

    max_sale_ids: int = Field(1000, ge=1)
    """Maximum length of the list of allowed sales, and of that of denied sales."""

    max_attributes: int = Field(32, ge=0)
    """Maximum number of attributes in a request."""

    max_text_bytes: int = Field(256, ge=16)
    """Maximum length of each id, attribute and name, in bytes of UTF-8."""

    max_batch: int = Field(500, ge=1)
    """Maximum number of pages, or of events, in one batch request."""

    max_message_bytes: int = Field(4 * 1024 * 1024, ge=1024)
    """Maximum size of a request, in bytes; 4 MiB by default."""

    max_concurrent: int = Field(256, ge=1)
    """Maximum number of concurrent requests per process, running or waiting; others are refused with
    RESOURCE_EXHAUSTED. As many more may wait for their body; of more, the one that has waited longest is cancelled."""

    max_streams: int = Field(100, ge=1)
    """Maximum number of concurrent requests per connection; a client lets further ones wait."""

    body_seconds: float = Field(5.0, gt=0)
    """Time within which the body of a request must follow its headers, in seconds; otherwise it is cancelled."""

    max_reply_bytes: int = Field(4 * 1024 * 1024, ge=1024)
    """Maximum size of the reply to a batch, in bytes; 4 MiB by default, which is what gRPC clients accept."""

    max_per_second: float | None = Field(None, gt=0)
    """Maximum rate per caller and process, in pages per second: a batch counts once per user, and a page with reasons
    of its sales ten times. Requests above it are refused with RESOURCE_EXHAUSTED. No limit by default."""


class TlsSettings(StepSettings):
    """TLS, with files in PEM format."""

    certificate: str
    """File of the service's certificate, followed by its intermediate certificates."""

    key: str
    """File of the private key of that certificate."""

    client_authority: str | None = None
    """File of the certificate authorities that sign the callers' certificates; if set, every caller needs one (mutual
    TLS)."""

    probe_certificate: str | None = None
    """File of the client certificate of `recsys doctor` under mutual TLS; by default the service's own, which then must
    be allowed to authenticate clients too."""

    probe_key: str | None = None
    """File of the private key of that certificate."""

    @model_validator(mode="after")
    def _both_or_neither(self) -> Self:
        if (self.probe_certificate is None) != (self.probe_key is None):
            raise ValueError("probe_certificate and probe_key must be given together: they are one pair")
        return self


class Caller(StepSettings):
    """One caller and its role."""

    name: str = Field(min_length=1)
    """Name of the caller in the log; for a caller with a client certificate, the certificate's common name."""

    role: Literal["website", "admin"]
    """`website` may request pages and record events; `admin` may also close and hide sales."""

    token_sha256: str | None = Field(None, pattern="^[0-9a-f]{64}$")
    """SHA-256 of the caller's token, 64 hex digits (`printf %s TOKEN | sha256sum`); the token itself is not stored."""


class AccessSettings(StepSettings):
    """Access control; without any caller, everyone who reaches the port may do everything."""

    callers: tuple[Caller, ...] = Field((), strict=False)
    """Callers, identified by their token or by the common name of their client certificate."""


class TracingSettings(StepSettings):
    """OpenTelemetry traces; needs `pip install 'flash-sale-recsys[tracing]'`."""

    endpoint: str
    """URL of the collector, such as http://127.0.0.1:4317."""

    share: float = Field(0.01, ge=0, le=1)
    """Share of the requests that are traced, in [0, 1]; requests that their caller traces are always traced."""


class LogSettings(StepSettings):
    """The service's log."""

    format: Literal["text", "json"] = "text"
    """Format of the log; `json` writes one object per line."""

    requests: bool = False
    """Whether every request is logged."""

    user_ids: bool = False
    """Whether the log may contain ids of users; personal data, so not by default."""


class TaggingServiceSettings(StepSettings):
    """The service that tags uploaded photos, `recsys tagger serve`; it takes host, TLS and callers of `serving`."""

    port: int = Field(50060, ge=0, le=65535)
    """HTTP port to listen on; 0 for any free port."""

    metrics_port: int | None = Field(9465, ge=0, le=65535)
    """HTTP port of the Prometheus metrics; 0 for any free port, null for none."""

    max_photos: int = Field(64, ge=1)
    """Maximum number of photos in one request."""

    max_bytes: int = Field(64 * 1024 * 1024, ge=1024)
    """Maximum size of a request, in bytes; a larger one is refused before it is read. 64 MiB by default."""

    max_concurrent: int = Field(4, ge=1)
    """Maximum number of concurrent requests; others are refused with status 429."""

    body_seconds: float = Field(30.0, gt=0)
    """Time within which the body of a request must come, in seconds; otherwise it is refused with status 408."""


class ServingSettings(StepSettings):
    """Settings of the gRPC service."""

    host: str = "127.0.0.1"
    """Address to listen on, IPv4 or IPv6 (`::1`); 0.0.0.0 or `::` for all addresses: then set `tls` and `access`."""

    port: int = Field(50051, ge=0, le=65535)
    """Port to listen on; 0 for any free port."""

    admin_port: int | None = Field(50052, ge=0, le=65535)
    """Port for staff and `recsys doctor`; 0 for any free port, null for none."""

    metrics_port: int | None = Field(9464, ge=0, le=65535)
    """HTTP port of the Prometheus metrics; 0 for any free port, null for none."""

    workers: int = Field(2, ge=1)
    """Number of processes that share the ports, best one per core; a process that dies is replaced."""

    # Answering a request is bound by the processor, so threads compete: 2 answer 4,800 requests/s on 2 cores, 8 answer
    # 3,000.
    threads: int = Field(2, ge=1)
    """Number of requests that a process answers at the same time; the others wait."""

    default_policy: str = "meta"
    """Policy of requests that do not name one; a snapshot without it is refused."""

    rules: str | None = None
    """File of merchandising rules written by staff, such as conf/rules/home.yaml; none by default."""

    experiments: str | None = None
    """Folder of the A/B experiments, one file per surface, such as conf/experiments with home.yaml; none by default."""

    unknown_sales: Literal["refuse", "record"] = "refuse"
    """What happens to a reported visit or purchase of a sale that the night did not know: it is refused, by itself,
    since anybody can invent such ids; `record` is for a shop that opens sales between two nights."""

    ranking: Literal["live", "snapshot"] = "live"
    """What a page is ranked by. `live`: all open sales, by what all users and this one did up to a moment ago, as
    reported by `RecordEvents`; `snapshot`: the night's ranking of the user, and all sales by the session while one is
    running. `recsys backtest --live` measures the difference on past days, and the variants of an experiment may each
    say what they are ranked by."""

    clock: Literal["system", "replay"] = "system"
    """Clock of the service: that of the system, or a replay of the hours after the `as_of` of a snapshot."""

    replay_start_hours: float = Field(10.0, ge=0)
    """Start of a replay, in hours after the `as_of` of the first snapshot."""

    poll_seconds: float = Field(0.2, gt=0)
    """Interval at which the service looks for a new snapshot and for changed rules, in seconds."""

    pull_seconds: float = Field(10.0, gt=0)
    """Interval at which a machine looks for a new snapshot in an object store, in seconds, where `folder` is a URL and
    the store is `folder`; a fifth more or less by chance, so that a fleet does not ask at the same moment."""

    connection_minutes: float = Field(10.0, gt=0)
    """Maximum age of a connection, in minutes, after which the caller must reconnect: a connection stays with one
    process, and new connections are spread over all processes."""

    drain_seconds: float = Field(5.0, ge=0)
    """Time that running requests have to finish after SIGTERM, in seconds."""

    spare_milliseconds: float = Field(5.0, ge=0)
    """Minimum time before a request's deadline, in milliseconds; with less left, the request is answered without its
    session and without Redis."""

    reflection: bool = False
    """Whether the methods can be listed by gRPC reflection, for `grpcurl` and the like."""

    pages: PageSettings = PageSettings()
    store: StoreSettings = StoreSettings()
    session: SessionSettings = SessionSettings()
    live_counts: LiveCountsSettings = LiveCountsSettings()
    exposures: ExposureSettings = ExposureSettings()
    limits: LimitSettings = LimitSettings()
    tls: TlsSettings | None = None
    """TLS; none by default."""

    access: AccessSettings = AccessSettings()
    tracing: TracingSettings | None = None
    """OpenTelemetry traces; none by default."""

    log: LogSettings = LogSettings()
    tagging: TaggingServiceSettings = TaggingServiceSettings()

    @field_validator("host")
    @classmethod
    def _without_brackets(cls, host: str) -> str:
        return host[1:-1] if host.startswith("[") and host.endswith("]") else host

    @model_validator(mode="after")
    def _workers_can_share_ports(self) -> "ServingSettings":
        if self.workers > 1 and 0 in (self.port, self.admin_port, self.metrics_port):
            raise ValueError("port 0 is any free one, which several workers cannot share: name the ports, or 1 worker")
        return self


def host_and_port(host: str, port: int | None) -> str:
    """Return an address as clients and URLs write it: IPv6 in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
