"""The versions of the model: the champion, two side by side, promotion with evidence or without, rollback."""

import re
from collections.abc import Iterator

import pytest

from console.web.people import digest
from jobs.registry import tracking
from jobs.registry.promote_model import appoint, log_of
from recsys.config.settings import Settings
from recsys.instants import HOUR, from_micros
from recsys.meta_model import LogisticModel
from recsys.testing.shops import AS_OF
from tests.helpers.console_shop import NOW, ConsoleShop
from tests.helpers.small_shop import MLFLOW_WARNS

pytestmark = MLFLOW_WARNS


def trained(settings: Settings, hours: int, coefficient: float) -> str:
    """Register and appoint a version as a night does; return its number."""
    instant = AS_OF + hours * HOUR
    model = LogisticModel(["popularity", "towers"], [0.5, 0.1], [2.0, 1.0], [coefficient, -1.25], -4.5)
    known = {tracking.AS_OF: from_micros(instant).isoformat()}
    version = tracking.register(settings, model, {"examples": 7.0 + hours}, 1, f"as of {hours}", known)
    appoint(settings, version, instant, NOW)
    return version


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsoleShop]:
    """A shop with three versions, of which the first is the champion and the second was measured to be better."""
    with ConsoleShop.made(tmp_path_factory.mktemp("registered")) as shop:
        settings = shop.settings()
        first, second, _ = (trained(settings, hours, 0.25 + hours / 4) for hours in range(3))
        estimate = {"value": 0.02, "low": 0.01, "high": 0.03}
        names = {f"meta@{first}": first, f"meta@{second}": second}
        measured = {
            "window": {"from": "2026-03-05", "to": "2026-03-09", "versions": names},
            "policies": {name: {"ndcg@10": estimate} for name in names},
            "paired_ndcg@10": {f"meta@{second} - meta@{first}": estimate},
        }
        tracking.log_backtest(settings, measured)
        report = shop.folder / "backtests" / "20260305-20260309"
        report.mkdir(parents=True)
        (report / "report.html").write_text("<p>ndcg@10 by day</p>")
        yield shop


def champion(shop: ConsoleShop) -> str:
    return log_of(shop.settings()).changes()[-1].after


def text(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def test_versions_are_listed_with_the_champion(registered):
    console = registered.console()
    assert "Version 1 is the champion" in text(console.get("/models").text)
    rows = console.get("/models/versions").text.split("<tbody>")[1].split("</tr>")[:-1]
    assert [text(row).split()[0] for row in rows] == ["3", "2", "1"]
    assert ["compare with the champion" in row for row in rows] == [True, True, False]
    assert "champion" in rows[2]


def test_two_versions_are_side_by_side_the_largest_coefficient_first(registered):
    html = registered.console().get("/models/compare", params={"one": "2", "other": "champion"}).text
    rows = [text(row) for row in html.split("Coefficients")[1].split("<tbody>")[1].split("</tr>")[:-1]]
    assert rows[0].startswith("towers -1.250 -1.250")
    assert rows[1].startswith("popularity +0.500 +0.250")
    assert "ndcg@10 +0.0200, 95 % interval +0.0100 to +0.0300" in html
    assert "promote it all the same" not in html
    unmeasured = registered.console().get("/models/compare", params={"one": "3", "other": "champion"}).text
    assert "No backtest has measured both" in unmeasured
    assert "promote it all the same" in unmeasured


def test_report_of_a_backtest_is_inside_and_runs_nothing(registered):
    console = registered.console()
    assert "/models/backtests/20260305-20260309" in console.get("/models").text
    answer = console.get("/models/backtests/20260305-20260309")
    assert "ndcg@10 by day" in answer.text
    assert "sandbox" in answer.headers["content-security-policy"]
    assert console.get("/models/backtests/20260101-20260102").status_code == 404


def test_promotion_needs_evidence_or_force_and_is_rolled_back(registered):
    console = registered.console()
    refused = console.post("/models/promote", data={"version": "3", "reason": "newer"})
    assert (refused.status_code, champion(registered)) == (409, "1")
    console.post("/models/promote", data={"version": "2", "reason": "better on five days"})
    assert champion(registered) == "2"
    change = log_of(registered.settings()).changes()[-1]
    assert (change.by, change.why, change.forced) == ("local", "better on five days", False)
    console.post("/models/promote", data={"version": "3", "reason": "it must be", "force": "yes"})
    assert champion(registered) == "3"
    console.post("/models/rollback", data={"reason": "pages look odd"})
    assert champion(registered) == "2"
    log = text(console.get("/changes").text)
    assert "roll back model version 3 pages look odd version 3 version 2" in log
    assert "promote model 3 newer version 1" in log  # refused, with the reason


def test_only_admins_promote(registered):
    people = [{"name": "sue", "role": "scientist", "token_sha256": digest("t")}]
    console = registered.console(people=people)
    console.get("/?token=t")
    assert "Promote</button>" not in console.get("/models/compare", params={"one": "1", "other": "champion"}).text
    assert console.post("/models/promote", data={"version": "1", "reason": "x"}).status_code == 403
    assert console.post("/models/rollback", data={"reason": "x"}).status_code == 403
    unsaid = registered.console().post("/models/rollback", data={"reason": " "})
    assert unsaid.status_code == 409
