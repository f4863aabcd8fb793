"""The experiments: which have alarms, what a changed file would do, and the kill switch."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from console.pages.experiments import with_kill_switch
from console.web.people import digest
from recsys.errors import ConfigurationError
from recsys.experiments.changes import changes
from recsys.experiments.files import load_experiments
from recsys.instants import to_micros
from serving.client import Client
from tests.helpers.console_shop import NOW, ConsoleShop
from tests.helpers.reported_experiments import result
from tests.helpers.waiting import wait_until

FILE = """# Ours.
schema_version: 1
default: {policy: meta}   # what everybody else sees
layers:
  home: {seed: "layer:home:t:"}
experiments:
  - key: calm
    status: running
    start: 2026-02-15T00:00:00Z
    end: 2026-03-28T00:00:00Z
    layer: {name: home, ranges: [[0.0, 0.5]]}
    coverage: 0.4
    variants:
      - {key: control, weight: 0.5, policy: meta}
      - {key: other, weight: 0.5, policy: collaborative}
    analysis: {primary: [{name: purchases_per_user, type: mean, column: purchases}]}
  - key: split
    status: running
    start: 2026-02-15T00:00:00Z
    end: 2026-02-28T00:00:00Z
    layer: {name: home, ranges: [[0.5, 1.0]]}
    variants:
      - {key: control, weight: 0.5, policy: meta}
      - {key: popular, weight: 0.5, policy: popularity}
    analysis: {primary: [{name: purchases_per_user, type: mean, column: purchases}]}
"""


@pytest.fixture(scope="module")
def tested(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsoleShop]:
    """A shop with two experiments, of which the second has a sample ratio mismatch."""
    with ConsoleShop.made(tmp_path_factory.mktemp("tested")) as shop:
        folder = shop.folder / "written"
        folder.mkdir()
        (folder / "home.yaml").write_text(FILE)
        for key, p in (("calm", 0.4), ("split", 0.00012)):
            found = result()
            health = replace(found.health, sequential_sample_ratio_p=p, warnings=())
            report = shop.folder / "experiments" / f"{key}-1" / "report"
            report.mkdir(parents=True)
            (report / "result.json").write_text(replace(found, health=health, comparisons=()).to_json())
            (report / "report.html").write_text(f"<style>p {{}}</style><p>report of {key}</p>")
        shop.serve(experiments=str(folder))
        wait_until(lambda: (shop.folder / "experiments" / "in_force" / "home.yaml").exists())
        yield shop


def file_of(shop: ConsoleShop) -> Path:
    return shop.folder / "written" / "home.yaml"


def version(console: Any) -> str:
    return re.findall(r'name="version" value="([0-9a-f]+)"', console.get("/experiments").text)[0]


def test_experiment_with_a_sample_ratio_mismatch_comes_first(tested):
    html = tested.console(tested.server).get("/experiments").text
    rows = html.split("<tbody>")[1].split("</tbody>")[0].split("</tr>")
    assert "split" in rows[0]
    assert "Sample ratio mismatch (SRM)" in rows[0]
    assert "p = 0.00012" in rows[0]
    assert "ended" in rows[0]
    assert "SRM" not in rows[1]
    assert "running" in rows[1]
    assert "20%" in rows[1]  # half of the layer, 0.4 of that
    assert "not in force" not in html


def test_report_may_run_nothing_and_load_nothing(tested):
    console = tested.console(tested.server)
    answer = console.get("/experiments/report/calm/1")
    assert "report of calm" in answer.text
    policy = answer.headers["content-security-policy"]
    assert "sandbox" in policy
    assert "script" not in policy
    assert console.get("/experiments/report/calm/2").status_code == 404
    assert console.get("/experiments/report/..%2Fin_force/1").status_code == 404


def test_file_is_checked_as_the_service_would(tested):
    console = tested.console(tested.server)

    def said(text: str) -> str:
        return str(console.post("/experiments/check", data={"text": text, "surface": "home"}).text)

    assert "2 experiments, nothing wrong" in said(FILE)
    assert "coverage" in said(FILE.replace("coverage: 0.4", "coverage: 4"))
    assert "coverage" in said(FILE.replace("coverage: 0.4", "coverage: 0.1"))  # a running one only grows
    assert "unknown policies" in said(FILE.replace("{policy: meta}", "{policy: mta}"))
    assert file_of(tested).read_text() == FILE


def test_comparison_counts_the_users_of_the_snapshot(tested):
    console, new = tested.console(tested.server), FILE.replace("coverage: 0.4", "coverage: 1.0")
    html = console.post("/experiments/compare", data={"text": new, "surface": "home"}).text
    draft = tested.folder / "draft.yaml"
    draft.write_text(new)
    users = tested.server.watcher.served().snapshot.users.sample(10_000)
    expected = changes(
        load_experiments(file_of(tested)), load_experiments(draft), {user: {} for user in users}, to_micros(NOW)
    )
    calm = expected.experiments[0]
    assert calm.entered > 0
    row = html.split('<th scope="row">calm</th>')[1].split("</tr>")[0]
    assert [int(n) for n in re.findall(r">(\d+)<", row)] == list(calm[1:])
    assert f"<b>{expected.served_otherwise} of {len(users)} sampled users</b>" in html


def test_kill_switch_ends_all_experiments_and_keeps_the_file_as_it_is_written(tested):
    console = tested.console(tested.server)
    with Client(tested.server.target) as client:
        user = next(each for each in tested.night.users if client.top_sales(each, preview=True).assignment.experiment)
        data = {"surface": "home", "on": "true", "reason": "Pages look odd"}
        assert console.post("/experiments/kill", data=data).status_code == 200
        assert file_of(tested).read_text() == FILE.replace(
            "schema_version: 1\n", "schema_version: 1\nkill_switch: true\n"
        )
        wait_until(lambda: not client.top_sales(user, preview=True).assignment.experiment)
        assert "The kill switch is on" in console.get("/experiments").text
        console.post("/experiments/kill", data={**data, "on": "false", "reason": "Mended"})
        wait_until(lambda: client.top_sales(user, preview=True).assignment.experiment)
    log = console.get("/changes").text
    assert "stop all experiments" in log
    assert "all stopped by the kill switch" in log
    console.post(
        "/experiments/save", data={"surface": "home", "text": FILE, "version": version(console), "reason": "x"}
    )
    assert file_of(tested).read_text() == FILE


def test_staff_may_look_but_not_change(tested):
    console = tested.console(tested.server, people=[{"name": "sam", "role": "staff", "token_sha256": digest("t")}])
    console.get("/?token=t")
    assert "Put in force" not in console.get("/experiments").text
    for path, data in (("kill", {"on": "true"}), ("save", {"text": FILE, "version": version(console)})):
        answer = console.post(f"/experiments/{path}", data={"surface": "home", "reason": "x", **data})
        assert answer.status_code == 403, path


def test_kill_switch_of_a_file_without_lines_is_left_to_people():
    assert (
        with_kill_switch("schema_version: 1\nkill_switch: false # no\n", True)
        == "schema_version: 1\nkill_switch: true\n"
    )
    with pytest.raises(ConfigurationError, match="by hand"):
        with_kill_switch('{"schema_version": 1}', True)
