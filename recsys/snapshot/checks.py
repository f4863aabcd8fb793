"""Checks of what is written into a snapshot; each check lists all problems."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain

import numpy as np
import pyarrow as pa

from recsys.errors import InputError, SchemaError
from recsys.instants import to_micros
from recsys.snapshot.format import MAX_IMAGES, POPULARITY, SharedRanking, SnapshotContents
from recsys.snapshot.users import Ranking

_IsType = Callable[[pa.DataType], bool]
_POLICY = re.compile(r"[a-z][a-z0-9_]*(@[0-9]+)?")
_FILE = re.compile(r"[0-9A-Za-z_][0-9A-Za-z._-]*")
_FINGERPRINT = re.compile(r"[0-9A-Za-z]{8,}")


def check_schema(schema: pa.Schema, policies: Sequence[str]) -> None:
    """Check the columns of a batch of rankings.

    Raises:
        SchemaError: If a column is missing or of another type.
    """
    problems = [*_column_problems(schema, "user_id", "string", _is_text)]
    for policy in policies:
        problems += _column_problems(schema, f"{policy}_sales", "list<int32>", _is_list_of(pa.types.is_integer))
        problems += _column_problems(schema, f"{policy}_scores", "list<float32>", _is_list_of(pa.types.is_floating))
        problems += _column_problems(schema, f"{policy}_reasons", "list<uint8>", _is_list_of(pa.types.is_integer))
        if f"{policy}_covers" in schema.names:
            problems += _column_problems(schema, f"{policy}_covers", "list<uint8>", _is_list_of(pa.types.is_integer))
    problems += _history_problems(schema)
    if problems:
        raise SchemaError(f"rankings: {'; '.join(problems)}: check what ranks the users")


def _history_problems(schema: pa.Schema) -> Iterator[str]:
    kinds = {"sales": pa.types.is_integer, "ages": pa.types.is_integer, "purchases": pa.types.is_boolean}
    if any(f"history_{name}" in schema.names for name in kinds):
        for name, is_value in kinds.items():
            wanted = "list<bool>" if name == "purchases" else "list<int32>"
            yield from _column_problems(schema, f"history_{name}", wanted, _is_list_of(is_value))


def _column_problems(schema: pa.Schema, name: str, wanted: str, is_good: _IsType) -> Iterator[str]:
    if name not in schema.names:
        yield f"column {name} is missing, must be {wanted}"
    elif not is_good(schema.field(name).type):
        yield f"column {name} is {schema.field(name).type}, must be {wanted}"


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _is_list_of(is_value: _IsType) -> _IsType:
    def is_good(kind: pa.DataType) -> bool:
        return (pa.types.is_list(kind) or pa.types.is_large_list(kind)) and is_value(kind.value_type)

    return is_good


def check_contents(contents: SnapshotContents) -> None:
    """Check everything of a snapshot except the users' own rankings.

    Raises:
        InputError: If a value breaks a rule.
    """
    if problems := list(_content_problems(contents)):
        raise InputError(f"the snapshot cannot be written: {'; '.join(problems)}: correct all of these")


def _content_problems(contents: SnapshotContents) -> Iterator[str]:
    if to_micros(contents.as_of) >= to_micros(contents.horizon_end):
        yield f"as_of == {contents.as_of}, must be before horizon_end == {contents.horizon_end}"
    if not _FINGERPRINT.fullmatch(contents.fingerprint):
        yield f"fingerprint == {contents.fingerprint!r}, must be at least 8 letters and digits"
    if len(contents.reasons) > 256:
        yield f"reasons has {len(contents.reasons)} names, must have at most 256"
    for reason in contents.reasons:
        if not reason.partition("/")[0]:
            yield f"reason == {reason!r}, must start with a kind of evidence"
    if POPULARITY not in contents.shared_rankings:
        yield f"shared_rankings has no {POPULARITY!r}, which answers users without a ranking"
    for policy, times in Counter([*contents.policies, *contents.shared_rankings]).items():
        if times > 1 or not _POLICY.fullmatch(policy):
            rule = "must be lower case letters, digits and _, perhaps with a version such as @7, and named once"
            yield f"policy == {policy!r}, {rule}"
    for name in contents.files:
        if not _FILE.fullmatch(name):
            yield f"file == {name!r}, must be letters, digits, '.', '_' and '-'"
    yield from _sale_problems(contents)
    yield from _shared_problems(contents)


def _sale_problems(contents: SnapshotContents) -> Iterator[str]:
    for sale_id, times in Counter(sale.sale_id for sale in contents.sales).items():
        if times > 1:
            yield f"sale_id == {sale_id!r} is there {times} times, must be once"
    for sale in contents.sales:
        if to_micros(sale.opens_at) >= to_micros(sale.closes_at):
            window = f"opens_at == {sale.opens_at}, must be before closes_at == {sale.closes_at}"
            yield f"{sale.sale_id!r} {window}"
        if sale.price is not None and not np.isfinite(sale.price):
            yield f"{sale.sale_id!r} price == {sale.price}, must be a number or None"
        if len(sale.images) > MAX_IMAGES:
            yield f"{sale.sale_id!r} has {len(sale.images)} images, must have at most {MAX_IMAGES}"


def _shared_problems(contents: SnapshotContents) -> Iterator[str]:
    segments = (
        (f"segment {attribute}={value}", ranking)
        for attribute, rankings in contents.segments.items()
        for value, ranking in rankings.items()
    )
    for policy, ranking in chain(contents.shared_rankings.items(), segments):
        row = as_row(ranking)
        lengths = {name: values.shape[1] for name, values in row._asdict().items()}
        if len(set(lengths.values())) > 1:
            listed = ", ".join(f"{length} {name}" for name, length in lengths.items())
            yield f"{policy} has {listed}, must have the same number of each"
        else:
            yield from ranking_problems(policy, row, contents)


def as_row(ranking: SharedRanking) -> Ranking:
    """Return a shared ranking as that of a single user, shape (1, k)."""
    return Ranking(*(np.asarray(values)[np.newaxis] for values in Ranking(*ranking)))


def ranking_problems(policy: str, rankings: Ranking, contents: SnapshotContents) -> Iterator[str]:
    """Return the problems of the users' rankings by a policy, shape (n_users, k)."""
    sales, scores, reasons, _ = rankings
    limits: Mapping[str, tuple[np.ndarray, int]] = {
        "sales": (sales, len(contents.sales)),
        "reasons": (reasons, len(contents.reasons)),
    }
    for name, (values, limit) in limits.items():
        outside = values[(values < 0) | (values >= limit)]
        if outside.size:
            yield f"{policy}_{name} holds {outside[0]}, must be in 0..{limit - 1}, a position in the {name}"
    if not np.isfinite(scores).all():
        yield f"{policy}_scores holds {scores[~np.isfinite(scores)][0]}, must be a finite number"
    ordered = np.sort(sales, axis=1)
    repeated = ordered[:, 1:][ordered[:, 1:] == ordered[:, :-1]]
    if repeated.size:
        yield f"{policy}_sales holds {repeated[0]} twice in a row, each sale must be ranked once"
    yield from _cover_problems(policy, rankings, contents)


def _cover_problems(policy: str, rankings: Ranking, contents: SnapshotContents) -> Iterator[str]:
    n_images = np.array([len(sale.images) for sale in contents.sales])
    known = (rankings.covers != 0) & (rankings.sales >= 0) & (rankings.sales < len(n_images))
    sales, covers = rankings.sales[known].astype(np.intp), rankings.covers[known]
    outside = np.flatnonzero((covers < 0) | (covers >= n_images[sales]))
    if outside.size:
        sale = contents.sales[sales[outside[0]]]
        rule = f"must be 0 or a position in its {len(sale.images)} images"
        yield f"{policy}_covers holds {covers[outside[0]]} for {sale.sale_id!r}, {rule}"
