"""How long tests wait: for what happens at once on an idle machine, so long that a busy one is no failure."""

import time
from collections.abc import Callable

PATIENCE = 60.0
"""Timeout in seconds."""


def wait_until(condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Wait until a condition holds; fail after some seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not reached within {seconds} s"
        time.sleep(0.01)
