"""The service on a disk that is full, on a small file system of its own."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from recsys.errors import RecsysError
from serving.client import Client, visit
from tests.helpers.real_service import RealService, shown
from tests.helpers.waiting import wait_until

EXPECTED = ("s00", "s02", "s04")


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A file system of 32 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(disk)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"file systems cannot be mounted here: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def fill(disk: Path) -> Path:
    """Write a file until nothing more fits, and return it."""
    file = disk / "filler"
    for size in (1 << 20, 1 << 12, 1):
        with file.open("ab", buffering=0) as out:
            try:
                while out.write(bytes(size)) == size:
                    pass
            except OSError:
                pass
    assert shutil.disk_usage(disk).free == 0
    return file


def pages_are_answered(service: RealService) -> bool:
    with service.client() as client:
        return all(shown(client.top_sales("ann", 3)) == EXPECTED for _ in range(20))


def test_full_disk_ends_no_process_and_pages_go_on_also_after_a_restart(published, small_disk, tmp_path):
    shutil.copytree(tmp_path / "snapshots", small_disk / "snapshots")
    with RealService(small_disk) as service:
        service.log_file = tmp_path / "service.log"
        service.start().ready()
        workers = service.workers()
        filler = fill(small_disk)
        assert pages_are_answered(service)
        with Client(service.target, deadline=0.2) as client:
            for number in range(3):
                assert not records(client, f"user {number}", "s00")
        assert pages_are_answered(service)
        assert sorted(service.workers()) == sorted(workers)

        assert service.stop() == 0
        service.start().ready()
        assert pages_are_answered(service)
        os.kill(service.workers()[0], 9)
        wait_until(lambda: len(service.listening()) == 2)
        assert pages_are_answered(service)

        filler.unlink()
        with service.client() as client:
            wait_until(lambda: records(client, "ann", "s05"))
            wait_until(lambda: records(client, "bob", "s05"))
        assert pages_are_answered(service)
        assert "ended with exit code -7" not in service.log()  # SIGBUS
        assert "Traceback" not in service.log()


def records(client, user_id: str, sale_id: str) -> bool:
    try:
        return client.record([visit(user_id, sale_id)]) == 1
    except RecsysError:
        return False


def test_first_start_on_a_full_disk_is_refused_in_one_line_or_answers(published, small_disk, tmp_path):
    shutil.copytree(tmp_path / "snapshots", small_disk / "snapshots")
    fill(small_disk)
    with RealService(small_disk) as service:
        service.log_file = tmp_path / "service.log"
        service.start()
        wait_until(lambda: service.process.poll() is not None or len(service.listening()) == 2)
        assert "Traceback" not in service.log()
        if service.process.poll() is None:
            assert pages_are_answered(service)
        else:
            assert "make room" in service.log()
