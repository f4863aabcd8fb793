from pydantic import Field

from recsys.config import reference
from recsys.settings import StepSettings
from tests.helpers.paths import ROOT

PAGE = ROOT / reference.PAGE


class Inner(StepSettings):
    """Inner settings."""

    share: float = Field(0.5, gt=0, le=1)
    """The share; a | b < c."""


class Outer(StepSettings):
    """Outer settings,
    in two lines."""

    name: str
    """The name."""
    many: tuple[Inner, ...] = (Inner(),)
    by_name: dict[str, Inner] = {}
    """Some."""
    other: Inner | None = None
    best: Inner = Inner(share=0.9)
    days: int | None = Field(None, ge=1)
    """How many."""


class Top(StepSettings):
    folder: str
    """Where."""
    outer: Outer


def test_page_says_what_the_settings_say():
    assert PAGE.read_text() == reference.reference(), "run python -m recsys.config.reference"


def test_every_key_has_its_type_default_and_meaning(monkeypatch):
    monkeypatch.setattr(reference, "Settings", Top)
    rows = [line for line in reference.reference().splitlines() if line.startswith("| `")]
    assert rows == [
        "| `folder` | text | required | Where. |",
        "| `outer.name` | text | required | The name. |",
        "| `outer.many` | list | `[{}]` | Inner settings. |",
        "| `outer.many[].share` | number, above 0, at most 1 | `0.5` | The share; a \\| b &lt; c. |",
        "| `outer.by_name` | mapping by name | `{}` | Some. |",
        "| `outer.by_name.NAME.share` | number, above 0, at most 1 | `0.5` | The share; a \\| b &lt; c. |",
        "| `outer.other` | settings or null | null | Inner settings. |",
        "| `outer.other.share` | number, above 0, at most 1 | `0.5` | The share; a \\| b &lt; c. |",
        "| `outer.best.share` | number, above 0, at most 1 | `0.9` | The share; a \\| b &lt; c. |",
        "| `outer.days` | whole number or null, at least 1 | null | How many. |",
    ]
    assert "Outer settings, in two lines." in reference.reference()


def test_no_key_is_without_a_meaning():
    assert [line for line in PAGE.read_text().splitlines() if line.startswith("| `") and line.endswith("|  |")] == []
