"""Writes snapshots batch by batch, in constant memory except for an index of about 30 bytes per user."""

import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recsys.errors import InputError, SnapshotError
from recsys.instants import compact, to_micros
from recsys.snapshot.checks import check_contents, check_schema, ranking_problems
from recsys.snapshot.format import (
    FORMAT,
    MANIFEST,
    SALES,
    SHARED,
    FileEntry,
    Manifest,
    Snapshot,
    SnapshotContents,
    describe,
    sales_to_json,
    shared_to_json,
)
from recsys.snapshot.users import (
    EVENTS,
    HASHES,
    OFFSETS,
    ROWS,
    Ranking,
    UserIndex,
    pack_history,
    pack_rankings,
    unpack_history,
    user_hash,
)
from recsys.storage.local import held, put_in_place, scratch_folder, tree_to_disk


def write_snapshot(root: Path, contents: SnapshotContents, rankings: Iterable[pa.RecordBatch]) -> str:
    """Write a snapshot into a folder of snapshots, and return its name.

    The name is `as_of` and the start of the fingerprint. Writing is idempotent: the same snapshot is not written twice.
    If another or a damaged snapshot has the name, the new one's name ends in -2, -3, and so on.

    Args:
        root: The folder of snapshots; made if absent.
        contents: Everything except the users' own rankings.
        rankings: One row per user: `user_id`, and for each personal policy p lists, best first, of the same length in
            all rows: `<p>_sales` and `<p>_reasons` (positions in the sales and in the reasons), `<p>_scores` and
            `<p>_covers` (positions in each sale's images; all 0 where the column is absent); and lists `history_sales`,
            `history_ages` (seconds) and `history_purchases` of each user's events (none where the columns are absent).

    Raises:
        SchemaError: If a column is missing or of another type.
        InputError: If a value breaks a rule or a user has two rows.
    """
    check_contents(contents)
    with scratch_folder(root) as folder:
        manifest = _write_files(folder, contents, rankings)
        (folder / MANIFEST).write_text(manifest.to_json(), "utf-8")
        tree_to_disk(folder)  # before the folder is held: nobody waits for the disk
        with held(root):
            name = f"{compact(to_micros(contents.as_of))}-{contents.fingerprint[:8]}"
            return put_under_free_name(folder, root, name)


def put_under_free_name(folder: Path, root: Path, name: str) -> str:
    """Give a written snapshot the first free name, or return that of an existing snapshot with the same content."""
    for candidate in _candidate_names(name):
        target = root / candidate
        if not target.exists():
            put_in_place(folder, target)
            return candidate
        if is_same(target, folder):
            return candidate
    raise AssertionError("there is always another name")


def _candidate_names(name: str) -> Iterator[str]:
    yield name
    number = 2
    while True:
        yield f"{name}-{number}"
        number += 1


def is_same(target: Path, folder: Path) -> bool:
    """Return whether an existing snapshot is undamaged and has the content of a written one."""
    try:
        if (target / MANIFEST).read_bytes() != (folder / MANIFEST).read_bytes():
            return False
        Snapshot.open(target)
    except (OSError, SnapshotError):
        return False
    return True


def _write_files(folder: Path, contents: SnapshotContents, rankings: Iterable[pa.RecordBatch]) -> Manifest:
    write_what_all_share(folder, contents)
    n_users, k, n_visits = _write_users(folder, contents, rankings)
    return Manifest(
        format=FORMAT,
        as_of=contents.as_of,
        horizon_end=contents.horizon_end,
        policies=tuple(contents.policies),
        shared_policies=tuple(contents.shared_rankings),
        reasons=tuple(contents.reasons),
        versions=dict(contents.versions),
        fingerprint=contents.fingerprint,
        k=k,
        n_users=n_users,
        n_sales=len(contents.sales),
        missing_policies=tuple(contents.missing_policies),
        left_out=tuple(contents.left_out),
        n_visits=n_visits,
        files=described_files(folder),
    )


def write_what_all_share(folder: Path, contents: SnapshotContents) -> None:
    """Write all files of a snapshot except the manifest and those of users."""
    (folder / SALES).write_text(sales_to_json(contents.sales), "utf-8")
    (folder / SHARED).write_text(shared_to_json(contents), "utf-8")
    for name, source in contents.files.items():
        _copy_file_or_folder(source, folder / "files" / name)


def described_files(folder: Path) -> dict[str, FileEntry]:
    """Return the manifest's entries of all files of a folder that a snapshot is written in."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(file.relative_to(folder)): describe(file) for file in files}


def _write_users(
    folder: Path, contents: SnapshotContents, batches: Iterable[pa.RecordBatch]
) -> tuple[int, int, int | None]:
    """Write all users' rankings, histories and index; return the number of users, of sales per ranking and of visits.

    The number of visits is None where there are no histories.
    """
    n_visits: int | None = None
    hashes: list[NDArray[np.uint64]] = []
    k: int | None = None
    with ExitStack() as stack:

        def create(name: str) -> BinaryIO:
            return stack.enter_context((folder / name).open("wb"))

        rankings = {policy: create(f"ranking_{policy}.bin") for policy in contents.policies}
        ids, offsets = create("user_ids.bin"), create("user_id_offsets.bin")
        events, event_offsets = create("history_events.bin"), create("history_offsets.bin")
        for file in (offsets, event_offsets):
            file.write(np.zeros(1, OFFSETS).tobytes())
        for batch in batches:
            check_schema(batch.schema, contents.policies)
            users = _user_ids(batch)
            for policy, file in rankings.items():
                records = _policy_records(batch, policy, contents, k)
                if len(records):
                    k = records["sales"].shape[1]
                file.write(records.tobytes())
            offsets.write(_end_offsets(ids.tell(), [len(user) for user in users]))
            ids.write(b"".join(users))
            lengths, records = _history_records(batch)
            event_offsets.write(_end_offsets(events.tell() // EVENTS.itemsize, lengths))
            events.write(records.tobytes())
            if len(records):
                n_visits = (n_visits or 0) + int(np.count_nonzero(~unpack_history(records).purchases))
            hashes.append(np.fromiter((user_hash(user) for user in users), HASHES, len(users)))
    n_users = _write_index(folder, hashes)
    return n_users, k or 0, n_visits


def _end_offsets(start: int, lengths: Sequence[int]) -> bytes:
    return (start + np.cumsum(lengths, dtype=OFFSETS)).astype(OFFSETS).tobytes()


def _history_records(batch: pa.RecordBatch) -> tuple[Sequence[int], NDArray[np.void]]:
    """Return the number of events of each user, and one record per event."""
    if "history_sales" not in batch.schema.names:
        return [0] * len(batch), np.empty(0, EVENTS)
    columns = [batch.column(f"history_{name}") for name in ("sales", "ages", "purchases")]
    if nulls := sum(column.null_count + column.flatten().null_count for column in columns):
        raise InputError(f"the lists of histories have {nulls} nulls, must have none: drop them before ranking")
    lengths = [column.value_lengths().to_pylist() for column in columns]
    if not lengths[0] == lengths[1] == lengths[2]:
        rule = "must have the same in each row: write them together"
        raise InputError(f"history_sales, history_ages and history_purchases differ in length, {rule}")
    sales, ages, purchases = (column.flatten().to_numpy(zero_copy_only=False) for column in columns)
    return lengths[0], pack_history(sales, ages, purchases)


def _write_index(folder: Path, batches: list[NDArray[np.uint64]]) -> int:
    """Write the index of users, sorted by hash, and return the number of users; `batches` is emptied."""
    hashes = np.concatenate([np.empty(0, HASHES), *batches])
    batches.clear()
    order = np.argsort(hashes, kind="stable")
    hashes = hashes[order]
    hashes.tofile(folder / "user_hashes.bin")
    order.astype(ROWS).tofile(folder / "user_rows.bin")
    same = np.flatnonzero(hashes[1:] == hashes[:-1])
    _refuse_repeated_users(UserIndex(folder), order[np.union1d(same, same + 1)])
    return len(hashes)


def _refuse_repeated_users(users: UserIndex, suspects: NDArray[np.intp]) -> None:
    seen: dict[bytes, int] = {}
    for row in suspects.tolist():
        first = seen.setdefault(users.user_id(row), row)
        if first != row:
            raise InputError(
                f"user_id of row {row} == that of row {first}, each user must have one row: "
                "aggregate the rankings by user_id"
            )


def _user_ids(batch: pa.RecordBatch) -> list[bytes]:
    users = batch.column("user_id").cast(pa.binary()).to_pylist()
    if not all(users):
        row = next(row for row, user in enumerate(users) if not user)
        raise InputError(f"user_id == {users[row]!r} in row {row} of a batch, must be a text of at least 1 character")
    return users


def _policy_records(batch: pa.RecordBatch, policy: str, contents: SnapshotContents, k: int | None) -> np.ndarray:
    sales = _lists_as_matrix(batch, f"{policy}_sales", k)
    k = sales.shape[1]
    scores, reasons = (_lists_as_matrix(batch, f"{policy}_{name}", k) for name in ("scores", "reasons"))
    covers = _lists_as_matrix(batch, f"{policy}_covers", k) if f"{policy}_covers" in batch.schema.names else None
    rankings = Ranking(sales, scores, reasons, covers)
    if problems := list(ranking_problems(policy, rankings, contents)):
        raise InputError(f"{'; '.join(problems)}: check what ranks the users")
    return pack_rankings(rankings, len(contents.sales))


def _lists_as_matrix(batch: pa.RecordBatch, name: str, k: int | None) -> np.ndarray:
    """Return a column of lists of k values, shape (n_users, k); if k is None, it is the first list's length."""
    column = batch.column(name)
    values = column.flatten()
    if nulls := column.null_count + values.null_count:
        raise InputError(f"{name} has {nulls} nulls, must have none: drop them before ranking")
    lengths = column.value_lengths().to_numpy()
    if k is None:
        k = int(lengths[0]) if len(lengths) else 0
    if wrong := lengths[lengths != k].tolist():
        rule = f"must have {k} as the first row: rank the same number of sales for each user"
        raise InputError(f"{name} has {wrong[0]} values in a row, {rule}")
    return values.to_numpy(zero_copy_only=False).reshape(len(batch), k)


def _copy_file_or_folder(source: Path, target: Path) -> None:
    if not source.exists():
        raise InputError(f"file {source} is missing, the snapshot must carry it as {target.name!r}: write it first")
    target.parent.mkdir(exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copyfile(source, target)
