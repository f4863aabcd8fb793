import json
import logging
import os
import threading

import pytest

from recsys.errors import BusyError, LeaseLostError
from recsys.storage import journal
from recsys.storage.journal import discard, holder, leased, steps_of
from recsys.storage.places import modified, put, sizes_below
from tests.helpers.object_store import LOST, REFUSED

ELSEWHERE = {"host": "other", "boot": "b", "container": "c", "pid": 7, "started": "9"}


def step(name: str, number: int) -> dict:
    return {"step": name, "data": f"data/{name}-{number}"}


def entry_of(folder, number: int) -> dict:
    return json.loads((folder / "journal" / f"{number:08}.json").read_bytes())


def lease_of_other_machine(folder) -> None:
    put(folder / "journal" / "00000001.json", json.dumps({"lease": ELSEWHERE, "steps": {}}))


def test_newest_entry_of_each_step_is_what_is_true(folder):
    assert steps_of(folder) == {}
    with leased(folder) as lease:
        lease.add(step("a", 1))
        lease.add(step("b", 1))
        lease.add(step("a", 2))
        assert {name: entry["data"] for name, entry in lease.steps.items()} == {"a": "data/a-2", "b": "data/b-1"}
    found = {name: entry["data"] for name, entry in steps_of(folder).items()}
    assert found == {"a": "data/a-2", "b": "data/b-1"}
    assert "released" in entry_of(folder, 5)


def test_journal_is_read_from_its_newest_lease_on(folder, monkeypatch):
    with leased(folder) as lease:
        lease.add(step("a", 1))
    for number in range(11):
        with leased(folder) as lease:
            lease.add(step("b", number))
    read = []
    whole = journal.contents

    def counted(files):
        read.append(len(files))
        return whole(files)

    monkeypatch.setattr(journal, "contents", counted)
    assert {name: entry["data"] for name, entry in steps_of(folder).items()} == {"a": "data/a-1", "b": "data/b-10"}
    assert read == [32]
    assert entry_of(folder, 36)["released"] == 34


def test_one_has_the_lease_and_the_others_are_told_who(folder):
    with leased(folder):
        with (
            pytest.raises(BusyError, match=rf"another run works in {folder} \(process {os.getpid()} of"),
            leased(folder),
        ):
            pass
        assert f"process {os.getpid()} of" in holder(folder)
    assert holder(folder) is None
    with leased(folder):
        pass


def test_of_many_who_want_it_one_gets_the_lease(folder):
    got, ready, done = [], threading.Barrier(6), threading.Event()

    def work(number: int) -> None:
        ready.wait()
        try:
            with leased(folder):
                got.append(number)
                while len(got) < 6:
                    done.wait(0.01)
        except BusyError:
            got.append(None)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([number for number in got if number is not None]) == 1


def test_lease_of_another_machine_lasts_while_it_gives_signs_of_life(folder, monkeypatch):
    lease_of_other_machine(folder)
    now = modified(folder / "journal" / "00000001.json")
    monkeypatch.setattr(journal, "_now", lambda _: now + 59)
    with pytest.raises(BusyError, match="process 7 of other"), leased(folder):
        pass
    monkeypatch.setattr(journal, "_now", lambda _: now + 61)
    assert holder(folder) is None
    put(folder / "journal" / "beat-00000001", b"")
    monkeypatch.setattr(journal, "modified", lambda file: now + 100 if file.name == "beat-00000001" else now)
    for later, holds in ((159, "process 7 of other"), (161, None)):
        monkeypatch.setattr(journal, "_now", lambda _, later=later: now + later)
        assert holder(folder) == holds


def test_lease_without_signs_of_life_is_taken_over_and_the_log_says_so(folder, monkeypatch, caplog):
    lease_of_other_machine(folder)
    now = modified(folder / "journal" / "00000001.json")
    monkeypatch.setattr(journal, "_now", lambda _: now + 75)
    with caplog.at_level(logging.WARNING), leased(folder) as lease:
        lease.add(step("a", 1))
    assert (
        f"process 7 of other left {folder} unfinished (no sign of life for 75 s): its work goes on here" in caplog.text
    )
    assert [*steps_of(folder)] == ["a"]


def test_who_was_taken_over_adds_nothing(folder, monkeypatch):
    with leased(folder) as slow:
        slow.add(step("a", 1))
        with monkeypatch.context() as patch:
            patch.setattr(journal, "_why_expired", lambda *_: "silent")
            with leased(folder) as other:
                other.add(step("a", 2))
        with pytest.raises(LeaseLostError, match=r"took over in .*: what it was making is left out"):
            slow.add(step("a", 3))
    assert steps_of(folder)["a"]["data"] == "data/a-2"
    assert holder(folder) is None


def test_holder_gives_signs_of_life(folder, monkeypatch):
    monkeypatch.setattr(journal, "BEAT_S", 0.01)
    with leased(folder) as lease:
        beat = folder / "journal" / f"beat-{lease.number:08}"
        for _ in range(500):
            if beat.exists():
                break
            threading.Event().wait(0.02)
        assert beat.exists()
    assert not beat.exists()


@pytest.mark.parametrize("kind", [REFUSED, LOST])
def test_entry_is_true_once_whatever_happens_to_its_request(object_store, tmp_path, kind):
    folder = object_store(tmp_path.name)
    with leased(folder) as lease:
        object_store.fail_once(kind, "PUT", "00000002.json")
        lease.add(step("a", 1))
        lease.add(step("b", 1))
    assert [*steps_of(folder)] == ["a", "b"]
    assert "released" in entry_of(folder, 4)


def test_discarded_folder_is_gone_and_one_in_use_stays(folder):
    put(folder / "data" / "x", b"1")
    with leased(folder), pytest.raises(BusyError):
        discard(folder)
    assert sizes_below(folder)["data/x"] == 1
    discard(folder)
    assert sizes_below(folder) == {}


def test_folder_whose_removal_is_interrupted_has_no_step_that_is_done(folder, monkeypatch):
    put(folder / "data" / "x", b"1")
    with leased(folder) as lease:
        lease.add(step("a", 1))

    def killed(_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(journal, "remove", killed)
        with pytest.raises(KeyboardInterrupt):
            discard(folder)
    assert steps_of(folder) == {}
    discard(folder)
    assert sizes_below(folder) == {}
