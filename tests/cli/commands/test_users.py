"""`recsys users erase`, on a shop's folder with a snapshot, sessions and logs."""

from recsys.logs.log_files import LogFile
from recsys.snapshot import store
from recsys.snapshot.format import Snapshot
from serving.clocks import system_clock
from serving.stores.base import SessionEvent
from serving.stores.sessions import SessionFiles
from tests.helpers.small_shop import SmallShop
from tests.helpers.snapshots import ANN, AS_OF, BOB, batch, with_histories, write


def test_blanks_around_an_id_are_no_part_of_it_and_an_unknown_id_is_noted(run, tmp_path):
    shop = SmallShop(tmp_path)
    conf, log = ("--conf", str(shop.configuration())), shop.folder / "var/exposures/exposures-1.jsonl"
    log.parent.mkdir(parents=True)
    log.write_text('{"user_id":"ann"}\n{"user_id":"bob"}\n')
    status, out, _ = run("users", "erase", " ann\u200b", *conf)
    assert (status, "Note" in out, log.read_text()) == (0, False, '{"user_id":"bob"}\n')
    assert "Note: nothing here held user 'bbo': check the id." in run("users", "erase", "bbo", *conf)[1]
    assert "Note" not in run("users", "erase", "ann", *conf)[1]  # erased before
    status, _, err = run("users", "erase", " ", *conf)
    assert (status, err.startswith("error: user == '', must be the id of a user")) == (1, True)


def test_user_is_erased_everywhere_with_a_report_and_once_only(run, tmp_path):
    shop = SmallShop(tmp_path)
    folder = shop.folder / "var"
    store.publish(folder / "snapshots", write(folder / "snapshots", with_histories(batch(ANN, BOB))).name, AS_OF)
    sessions = SessionFiles(folder / "serving" / "sessions", system_clock)
    sessions.add({name: [SessionEvent("a", False, system_clock())] for name in ("ann", "bob")})
    sessions.close()
    log_folder = folder / "exposures"
    log_folder.mkdir()
    (log_folder / "exposures-1.jsonl").write_text('{"user_id":"ann"}\n{"user_id":"bob"}\n')
    writing = LogFile(log_folder, "exposures-2")
    status, out, err = run("users", "erase", "ann", "--conf", str(shop.configuration()))
    assert (status, err) == (0, "")
    name = store.current(folder / "snapshots")
    assert Snapshot.open(folder / "snapshots" / name).users.find("ann") is None
    for line in (
        "running sessions: 1 event",
        "log files of exposures: 1 line",
        f"snapshot {name}, written without the user",
        "exposures-2.jsonl.open: a service is writing it; erase again when it is finished",
        "the shop's raw tables: they are the shop's own, erase the user there too",
    ):
        assert line in " ".join(out.split())
    writing.finish()
    status, out, _ = run("users", "erase", "ann", "--conf", str(shop.configuration()))
    assert (status, "written without the user" in out, "running sessions: 0 events" in out) == (0, False, True)
    sessions = SessionFiles(folder / "serving" / "sessions", system_clock)
    assert [len(sessions.get(user, 0)) for user in ("ann", "bob")] == [0, 1]
    sessions.close()
