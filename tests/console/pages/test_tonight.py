"""Tonight: what a night did, why it was not published, and the one that runs."""

import json
import re
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from recsys.pipeline.night_values import NightValues, write_night_values
from recsys.storage.journal import leased
from recsys.storage.progress import Progress, StepProgress, write_progress
from tests.helpers.console_shop import NOW, ConsoleShop

TONIGHT, LAST_NIGHT = datetime(2026, 3, 2, tzinfo=UTC), datetime(2026, 3, 1, tzinfo=UTC)


def step(name: str, state: str = "done", seconds: float | None = 12.0, told: str = "done <b>") -> StepProgress:
    return StepProgress(name=name, state=state, started_at=NOW - timedelta(seconds=90), seconds=seconds, told=told)


def folder(shop: ConsoleShop, as_of: datetime) -> Path:
    return shop.folder / "nights" / f"{as_of:%Y%m%dT%H%M%SZ}"


def counts(table: str, rule: str, broken: int) -> dict[str, object]:
    about = {"name": rule, "meaning": f"{rule} holds", "broken": "sql", "action": "set aside"}
    return {"table": table, "rule": about, "rows": 1000, "broken": broken, "examples": ["<i>a</i>", "b", "c", "d"]}


def ended(path: Path, rules: list[dict[str, object]], *steps: StepProgress) -> None:
    """Write a night whose first step has outputs."""
    data = path / "data" / "validate"
    data.mkdir(parents=True)
    (data / "rule_counts.json").write_text(json.dumps(rules))
    with leased(path) as lease:
        outputs = ["rule_counts.json"]
        left_out = [{"what": "policy meta", "why": "no purchase", "until": "there is one", "degrades_pages": True}]
        entry = {"step": "validate_tables", "summary": "9 sales", "data": "data/validate", "outputs": outputs}
        lease.add({**entry, "left_out": left_out})
    write_progress(path, Progress(steps=steps))


@pytest.fixture
def nights(tmp_path: Path):
    with ConsoleShop.made(tmp_path) as shop:
        ended(folder(shop, LAST_NIGHT), [counts("events", "known", 3)], step("validate_tables", seconds=41.0))
        yield shop


def rows(html: str, title: str) -> list[str]:
    """The rows of the table under a title, as text."""
    table = html.split(f"<h2>{title}")[1].split("<tbody>")[1].split("</tbody>")[0]
    return [" ".join(re.sub(r"<[^>]+>", " ", row).split()) for row in table.split("</tr>")[:-1]]


def test_shop_without_a_night_is_told_what_to_run(tmp_path):
    with ConsoleShop.made(tmp_path) as shop:
        html = shop.console().get("/").text
    assert "recsys nightly" in html


def test_steps_rows_and_what_is_left_out_are_beside_the_night_before(nights):
    rules = [counts("events", "known", 7), counts("sales", "whole", 0)]
    ended(folder(nights, TONIGHT), rules, step("validate_tables", seconds=62.0), step("score_users", seconds=125.0))
    html = nights.console().get("/").text
    assert rows(html, "Steps") == [
        "validate_tables done 62 s 41 s done &lt;b&gt;",
        "score_users done 2 min – done &lt;b&gt;",
    ]
    found = rows(html, "Rows that break a rule")
    assert found == ["events known holds known 7 of 1,000 3 set aside &lt;i&gt;a&lt;/i&gt; b c"]
    assert "policy meta" in html
    assert "no purchase; until there is one" in html
    earlier = nights.console().get("/", params={"night": folder(nights, LAST_NIGHT).name}).text
    assert rows(earlier, "Steps") == ["validate_tables done 41 s – done &lt;b&gt;"]


def test_step_that_failed_says_why_and_that_nothing_was_published(nights):
    why = "share of rejected rows == 4 %, must be at most 1 %: 'recsys validate' shows them"
    ended(folder(nights, TONIGHT), [], step("check_night", "failed", told=why))
    html = nights.console().get("/").text
    assert "check_night failed" in html
    assert why.replace("'", "&#39;") in html
    assert "<b>Not published</b>" in html


def test_night_that_was_killed_is_not_shown_as_running(nights):
    ended(folder(nights, TONIGHT), [], step("score_users", "running", None, ""))
    html = nights.console().get("/").text
    assert "It was stopped during score_users" in html
    assert "hx-trigger" not in html


def test_night_that_runs_is_followed(nights):
    ended(folder(nights, TONIGHT), [], step("score_users", "running", None, ""))
    with ExitStack() as stack:
        stack.enter_context(leased(folder(nights, TONIGHT)))
        html = nights.console().get("/").text
    assert "It runs now" in html
    assert re.search(r"score_users running (9[0-9]) s", rows(html, "Steps")[0])
    assert 'hx-trigger="every 3s"' in html


def test_values_are_beside_those_of_the_nights_before_the_latest_first(nights):
    ended(folder(nights, TONIGHT), [])
    for days, ndcg in ((0, 0.31), (1, 0.42), (2, 0.53)):
        write_night_values(
            NightValues(
                as_of=TONIGHT - timedelta(days=days),
                version="3",
                rejected_share=0.25,
                users=1000 + days,
                purchases=7,
                pages=6,
                ndcg=ndcg,
                drift={"towers": -0.5, "activity": 0.2},
                problems=("too little",) if days == 1 else (),
            ),
            nights.folder,
        )
    found = rows(nights.console().get("/").text, "Checks, beside the nights before")
    assert [row.split()[:2] for row in found] == [["02", "Mar"], ["01", "Mar"], ["28", "Feb"]]
    assert [next(word for word in row.split() if word.startswith("0.")) for row in found] == ["0.31", "0.42", "0.53"]
    assert "failed" in found[1]
    assert "towers -0.50" in found[0]
    trends = dict(re.findall(r'aria-label="([^"]+)"><polyline points="([^"]+)"', nights.console().get("/").text))
    assert (
        trends["ndcg@10 of the day before since 2026-02-28: from 0.31 to 0.53, now 0.31"]
        == "0.0,2.0 50.0,15.0 100.0,28.0"
    )


def test_unknown_night_is_refused(nights):
    answer = nights.console().get("/", params={"night": "../../etc"})
    assert answer.status_code == 409
    assert "must be one whose tables are kept" in answer.text
