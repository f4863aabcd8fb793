"""Folders that tests of any package use."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CONF = ROOT / "conf"
SHARED_DATA = ROOT.parent / "shared/data"
"""Real data sets; tests that need them are skipped if they are absent."""
