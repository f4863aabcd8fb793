"""Where things lie, for tests of any folder."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CONF = ROOT / "conf"
SHARED_DATA = ROOT.parent / "shared/data"
"""Real data sets; tests that need them are skipped where they are absent."""
