import logging
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from recsys.errors import SnapshotError, StoreError
from recsys.rules import PageRules, RuleSet, load_rules
from recsys.snapshot import store as snapshot_store
from recsys.snapshot.format import FORMAT, read_manifest
from serving.answers.top_sales import TopSales
from serving.process.server import FRESH, SERVICE
from serving.process.watcher import RulesWatcher, SnapshotWatcher
from serving.stores.folder import FolderStore
from serving.telemetry.troubles import Troubles
from tests.helpers.asking import NOT_SERVING, SERVING, check_health
from tests.helpers.waiting import PATIENCE, wait_until


class Followed:
    """A watcher, and a record of what it did."""

    def __init__(self, folder: Path):
        self.loads: list[str] = []
        self.swaps = self.refusals = 0
        self.troubles = Troubles()
        self.store = FolderStore(folder / "snapshots", folder / "serving", clock=lambda: 0)
        self.watcher = SnapshotWatcher(
            self.store, self._prepare, self._put_in_force, self.troubles, self._swapped, self._refused
        )
        self.poll, self.served = self.watcher.poll, self.watcher.served
        self.put_in_force: Callable[[TopSales], TopSales] = lambda top_sales: top_sales

    def name(self) -> str:
        return self.served().snapshot.name

    def _prepare(self, snapshot) -> TopSales:
        self.loads.append(snapshot.name)
        return self.put_in_force(TopSales.of(snapshot))

    def _put_in_force(self, top_sales: TopSales) -> TopSales:
        return self.put_in_force(top_sales)

    def _swapped(self) -> None:
        self.swaps += 1

    def _refused(self) -> None:
        self.refusals += 1


@pytest.fixture
def followed(shop):
    followed = Followed(shop.root.parent)
    yield followed
    followed.store.close()


def warnings(caplog) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_current_snapshot_is_loaded_once(shop, make_sale, followed):
    name = shop.publish([make_sale("a")], {})
    for _ in range(3):
        followed.poll()
    assert (followed.loads, followed.swaps, followed.name()) == ([name], 1, name)


def test_nothing_is_served_before_the_first_snapshot(followed):
    followed.poll()
    assert followed.watcher.serving() is None
    with pytest.raises(SnapshotError, match="no snapshot is loaded"):
        followed.served()
    assert followed.troubles.listed() == []


def test_rollback_serves_the_snapshot_that_is_still_open(shop, make_sale, followed):
    names = [shop.publish([make_sale("a")], {}, fingerprint=8 * letter) for letter in "ab"]
    for name in (names[0], names[1]):
        shop.point_at(name)
        followed.poll()
    before = followed.served()
    shop.point_at(names[0])
    shutil.rmtree(shop.root / names[0] / "files", ignore_errors=True)
    (shop.root / names[0] / "sales.json").write_bytes(b"")  # it is not read again
    followed.poll()
    assert followed.name() == names[0]
    shop.root.joinpath("current").write_text(names[1])
    followed.poll()
    assert followed.served() is before
    assert followed.loads == names


def test_rollback_takes_no_time_however_long_a_snapshot_takes_to_load(shop, make_sale, followed, monkeypatch):
    names = [shop.publish([make_sale("a")], {}, fingerprint=8 * letter) for letter in "ab"]
    for name in names:
        shop.point_at(name)
        followed.poll()
    monkeypatch.setattr(followed.store, "open", lambda _: time.sleep(PATIENCE))
    started = time.monotonic()
    shop.point_at(names[0])
    followed.poll()
    assert followed.name() == names[0]
    assert time.monotonic() - started < PATIENCE / 2


def test_third_snapshot_replaces_the_first_one(shop, make_sale, followed):
    names = [shop.write([make_sale("a")], {}, fingerprint=8 * letter) for letter in "abc"]
    for row in (0, 1, 2, 0, 1):
        shop.point_at(names[row])
        followed.poll()
        assert followed.name() == names[row]
    assert followed.loads == [names[row] for row in (0, 1, 2, 0, 1)]


# Snapshots that cannot be served.


def truncated(snapshot: Path) -> None:
    file = snapshot / "ranking_meta.bin"
    file.write_bytes(file.read_bytes()[:-1])


def bit_flipped(snapshot: Path) -> None:
    content = bytearray((snapshot / "ranking_meta.bin").read_bytes())
    content[len(content) // 2] ^= 4
    (snapshot / "ranking_meta.bin").write_bytes(content)


def half_copied(snapshot: Path) -> None:
    (snapshot / "shared_rankings.json").unlink()


def without_manifest(snapshot: Path) -> None:
    (snapshot / "manifest.json").unlink()


def of_another_format(snapshot: Path) -> None:
    text = (snapshot / "manifest.json").read_text()
    (snapshot / "manifest.json").write_text(text.replace(f'"format": {FORMAT}', f'"format": {FORMAT + 1}'))


def of_an_altered_manifest(snapshot: Path) -> None:
    text = (snapshot / "manifest.json").read_text()
    (snapshot / "manifest.json").write_text(text.replace('"n_users": 1', '"n_users": 2'))


def gone(snapshot: Path) -> None:
    shutil.rmtree(snapshot)


DAMAGES = [truncated, bit_flipped, half_copied, without_manifest, of_another_format, of_an_altered_manifest, gone]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_damaged_snapshot_is_refused_once_and_the_previous_one_is_served(shop, make_sale, followed, caplog, damage):
    sales = [make_sale("a"), make_sale("b")]
    good = shop.publish(sales, {"ann": [(0, 0.5, 0)]})
    followed.poll()
    bad = shop.publish(sales, {"ann": [(1, 0.5, 0)]}, fingerprint="bbbbbbbb")
    aside = shop.root.parent / "aside"
    shutil.copytree(shop.root / bad, aside)
    damage(shop.root / bad)
    for _ in range(4):
        followed.poll()
    assert (followed.name(), followed.refusals, followed.loads) == (good, 1, [good])
    (record,) = warnings(caplog)
    assert record.getMessage().startswith("snapshot: refused: ")
    assert bad in record.getMessage()
    assert record.getMessage().endswith(f"; still serving {good}")
    assert followed.troubles.listed() == [record.getMessage()]

    shutil.rmtree(shop.root / bad, ignore_errors=True)
    aside.rename(shop.root / bad)  # repaired
    followed.poll()
    assert followed.name() == bad
    assert followed.troubles.listed() == []


def test_snapshot_that_is_replaced_while_it_is_read_is_refused(shop, make_sale, followed, monkeypatch):
    good = shop.publish([make_sale("a"), make_sale("b")], {"ann": [(0, 0.5, 0)]})
    followed.poll()
    name = shop.publish([make_sale("a"), make_sale("b")], {"ann": [(1, 0.5, 0)]}, fingerprint="bbbbbbbb")
    other = shop.write([make_sale("a"), make_sale("c")], {"ann": [(0, 0.5, 1)]}, fingerprint="cccccccc")

    def replaced_after_the_manifest(path: Path, with_users: bool = True):
        manifest = read_manifest(path, with_users)
        shutil.rmtree(path)
        shutil.copytree(shop.root / other, path)
        return manifest

    with monkeypatch.context() as patch:
        patch.setattr("recsys.snapshot.format.read_manifest", replaced_after_the_manifest)
        followed.poll()
    assert followed.name() == good
    followed.poll()
    assert followed.name() == name  # complete again, though with other content


def test_snapshot_that_arrives_after_its_pointer_is_loaded_once_it_is_complete(shop, make_sale, followed, tmp_path):
    name = shop.publish([make_sale("a")], {})
    shutil.move(shop.root / name, tmp_path / name)
    followed.poll()
    (shop.root / name).mkdir()
    shutil.copy(tmp_path / name / "manifest.json", shop.root / name)
    followed.poll()
    shutil.copytree(tmp_path / name, shop.root / name, dirs_exist_ok=True)
    followed.poll()
    assert followed.name() == name
    assert followed.refusals == 2


def test_unexpected_error_is_logged_with_its_trace_and_polling_continues(
    shop, make_sale, followed, monkeypatch, caplog
):
    first = shop.publish([make_sale("a")], {})
    followed.poll()
    shop.publish([make_sale("b")], {}, fingerprint="bbbbbbbb")
    with monkeypatch.context() as patch:
        patch.setattr(followed.store, "open", lambda _: 1 / 0)
        followed.poll()
    assert followed.name() == first
    traced, brief = warnings(caplog)
    assert traced.exc_info[0] is ZeroDivisionError
    assert brief.getMessage().endswith(f"unexpected ZeroDivisionError; still serving {first}")
    third = shop.publish([make_sale("c")], {}, fingerprint="cccccccc")
    followed.poll()
    assert followed.name() == third


def test_damaged_pointer_leaves_the_old_snapshot_and_is_logged_once(shop, make_sale, followed, caplog):
    name = shop.publish([make_sale("a")], {})
    followed.poll()
    (shop.root / "current").write_text("")
    followed.poll()
    followed.poll()
    assert followed.name() == name
    (record,) = warnings(caplog)
    assert "must be a snapshot's name" in record.getMessage()


def test_unreachable_store_refuses_no_snapshot(shop, make_sale, followed, monkeypatch):
    def fail(_: str) -> None:
        raise StoreError("out of reach")

    name = shop.publish([make_sale("a")], {})
    with monkeypatch.context() as patch:
        patch.setattr(followed.store, "open", fail)
        followed.poll()
    assert followed.refusals == 0
    followed.poll()
    assert followed.name() == name  # tried again although its files have not changed


def test_damaged_snapshot_makes_the_service_not_fresh_but_leaves_it_ready(shop, night):
    server = shop.serve()
    wait_until(lambda: check_health(server.target, FRESH) == SERVING)
    bad = night.write(shop.root, fingerprint="bbbbbbbb")
    bit_flipped(shop.root / bad)
    shop.point_at(bad)
    wait_until(lambda: check_health(server.target, FRESH) == NOT_SERVING)
    assert [check_health(server.target, service) for service in ("", SERVICE)] == [SERVING] * 2
    shop.point_at(night.write(shop.root))
    wait_until(lambda: check_health(server.target, FRESH) == SERVING)


# The snapshots published before, and problems that have ended.


def test_restart_on_a_damaged_snapshot_serves_the_latest_one_before_it_that_is_whole(shop, make_sale, followed):
    a, b, c = (shop.publish([make_sale("a")], {"ann": [(0, 0.5, 0)]}, fingerprint=8 * letter) for letter in "abc")
    whole = (shop.root / c / "ranking_meta.bin").read_bytes()
    for name in (b, c):
        truncated(shop.root / name)
    for _ in range(3):
        followed.poll()
    assert (followed.name(), followed.loads, followed.refusals) == (a, [a], 2)
    (problem,) = followed.troubles.listed()
    assert c in problem
    assert problem.endswith(f"; still serving {a}")
    (shop.root / c / "ranking_meta.bin").write_bytes(whole)
    followed.poll()
    assert (followed.name(), followed.troubles.listed()) == (c, [])


@pytest.mark.parametrize("content", [None, "", "../x", "20260301T000000Z-gone"])
def test_restart_without_a_readable_pointer_serves_the_latest_publication(shop, make_sale, followed, content):
    names = [shop.publish([make_sale("a")], {}, fingerprint=8 * letter) for letter in "ab"]
    (shop.root / "current").unlink() if content is None else (shop.root / "current").write_text(content)
    followed.poll()
    if content is None:  # nothing is published
        assert followed.watcher.serving() is None
    else:
        assert followed.name() == names[1]
        assert followed.troubles.listed()[0].endswith(f"still serving {names[1]}")


def test_snapshot_that_was_rolled_back_is_not_gone_back_to(shop, make_sale, followed):
    for letter in "ab":
        shop.publish([make_sale("a")], {"ann": [(0, 0.5, 0)]}, fingerprint=8 * letter)
    truncated(shop.root / snapshot_store.rollback(shop.root, shop.as_of))
    followed.poll()
    assert followed.watcher.serving() is None
    assert followed.troubles.listed()[0].endswith("no snapshot is served")


def test_store_that_was_out_of_reach_for_one_poll_leaves_the_problem_that_was_there(
    shop, make_sale, followed, monkeypatch
):
    name = shop.publish([make_sale("a")], {"ann": [(0, 0.5, 0)]})
    followed.poll()
    truncated(shop.root / shop.publish([make_sale("a")], {"ann": [(0, 0.5, 0)]}, fingerprint="bbbbbbbb"))
    followed.poll()
    before = followed.troubles.listed()
    with monkeypatch.context() as patch:
        patch.setattr(followed.store, "current", lambda: (_ for _ in ()).throw(StoreError("no answer")))
        followed.poll()
        assert followed.troubles.listed() == [f"snapshot: cannot be looked up: no answer; still serving {name}"]
    followed.poll()
    assert followed.troubles.listed() == before
    (shop.root / "current").unlink()
    followed.poll()
    assert followed.troubles.listed() == [f"snapshot: none is published any more; still serving {name}"]
    shop.point_at(name)
    followed.poll()
    assert followed.troubles.listed() == []


def test_no_snapshot_is_served_before_the_withdrawn_sales_were_read(shop, make_sale, followed, monkeypatch):
    shop.publish([make_sale("a")], {})
    with monkeypatch.context() as patch:
        patch.setattr(followed.store, "withdrawn", lambda: (_ for _ in ()).throw(StoreError("not read yet")))
        followed.poll()
    assert (followed.watcher.serving(), followed.loads) == (None, [])
    assert followed.troubles.listed() == ["snapshot: cannot be looked up: not read yet; no snapshot is served"]
    followed.poll()
    assert followed.troubles.listed() == []


# Rules.


@pytest.mark.parametrize("how", ["gone", "not readable"])
def test_rules_file_that_cannot_be_read_for_one_poll_is_in_force_again(tmp_path, monkeypatch, how):
    file, troubles = tmp_path / "rules.yaml", Troubles()
    file.write_text("schema_version: 1\nrules: []\n")
    watcher = RulesWatcher(file, troubles)
    watcher.poll()
    with monkeypatch.context() as patch:
        if how == "gone":
            file.rename(tmp_path / "aside")
        else:
            os.utime(file, (1, 1))
            patch.setattr(Path, "open", lambda *_: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
        watcher.poll()
        watcher.poll()
        assert troubles.listed()[0].endswith(f"rules {watcher.fingerprint} stay in force")
    if how == "gone":
        (tmp_path / "aside").rename(file)
    watcher.poll()
    assert troubles.listed() == []


def test_rules_are_compiled_once_for_a_snapshot(shop, make_sale, tmp_path):
    file = tmp_path / "rules.yaml"
    file.write_text("schema_version: 1\nrules: []\n")
    plain = shop.load([make_sale("a")], {})
    watcher = RulesWatcher(file, Troubles())
    assert watcher.put_in_force(plain) is plain
    watcher.poll()
    ruled = watcher.put_in_force(plain)
    assert ruled.rules is not None
    watcher.poll()
    assert watcher.put_in_force(ruled) is ruled
    assert (plain.rules, ruled.snapshot) == (None, plain.snapshot)  # requests that began earlier see no change
    assert watcher.fingerprint == load_rules(file).fingerprint


def test_shop_without_rules_has_none(shop, make_sale):
    top_sales = shop.load([make_sale("a")], {})
    watcher = RulesWatcher(None, Troubles())
    watcher.poll()
    assert watcher.put_in_force(top_sales) is top_sales
    assert (top_sales.rules, watcher.fingerprint) == (None, "")


def test_rules_that_are_invalid_from_the_start_leave_none_in_force(shop, make_sale, tmp_path):
    file, troubles = tmp_path / "rules.yaml", Troubles()
    top_sales = shop.load([make_sale("a")], {})
    watcher = RulesWatcher(file, troubles)
    watcher.poll()
    assert troubles.listed()[0].endswith("no rules are in force")
    file.write_text("rules: ]")
    watcher.poll()
    assert watcher.put_in_force(top_sales).rules is None
    assert "is not readable as YAML" in troubles.listed()[0]
    file.write_text("schema_version: 1\nrules: []\n")
    watcher.poll()
    assert watcher.put_in_force(top_sales).rules is not None
    assert troubles.listed() == []


def test_snapshot_is_never_served_without_the_present_rules(shop, make_sale, followed):
    names = [shop.publish([make_sale("a")], {}, fingerprint=8 * letter) for letter in "ab"]
    for name in (*names, names[0]):  # new, new, and back again
        rules = PageRules(RuleSet(schema_version=1, rules=()), ())
        followed.put_in_force = lambda top_sales, rules=rules: replace(top_sales, rules=rules)
        shop.point_at(name)
        followed.poll()
        assert followed.name() == name
        assert followed.served().rules is rules
