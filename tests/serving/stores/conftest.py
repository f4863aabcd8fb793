import os
import sys

import pytest


@pytest.fixture
def own_environment() -> dict[str, str]:
    """For a process that imports what the tests import."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
