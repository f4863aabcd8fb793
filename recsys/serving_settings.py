"""What the service depends on."""

from typing import Literal

from pydantic import Field

from recsys.settings import StepSettings


class ServingSettings(StepSettings):
    """Settings of the gRPC service."""

    host: str = "127.0.0.1"
    """The address to listen on; 0.0.0.0 for all, without encryption."""

    port: int = Field(50051, ge=0, le=65535)
    """The port to listen on; 0 for any free one."""

    # An answer waits for nothing, so threads only compete: 2 answer 4,800 requests/s on 2 cores, 8 answer 3,000.
    threads: int = Field(2, ge=1)
    """Requests that are answered at the same time; the others wait."""

    default_policy: str = "meta"
    """The policy of requests that name none; a snapshot without it is refused."""

    clock: Literal["system", "replay"] = "system"
    """What time it is: the system's, or a replay of the hours after a snapshot's `as_of`."""

    replay_start_hours: float = Field(10.0, ge=0)
    """A replay starts so many hours after the `as_of` of the first snapshot, and runs on from there."""

    poll_seconds: float = Field(1.0, gt=0)
    """How often to look for a newly published snapshot."""
