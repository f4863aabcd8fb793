"""Which column of a shop's files is what: proposals by names in six languages and by values, each with its reason."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from recsys.config.pipeline import RawTable
from recsys.errors import ConfigurationError, InputError
from recsys.onboarding import words
from recsys.onboarding.columns import Column, Kind, kind_of, words_of
from recsys.onboarding.roles import (
    EVENTS,
    IMAGES,
    ROLES,
    SALES,
    WHOLE_NAME,
    Role,
    is_events,
    name_score,
    roles_of,
)
from recsys.wording import did_you_mean, listed

_MOST_ATTRIBUTE_VALUES = 1000
_LONGEST_ATTRIBUTE = 60
_LONGEST_LABEL = 200
"""Mean number of characters above which a text is a description, no title."""
_FEWEST_LABELS = 50
_CODES_PER_NAME = 1.1
"""Pairs per value up to which numbers are codes of names: a few names have two codes, a few codes two names."""
_FEW_IDS = 0.002
"""Number of different values, per row, up to which a column without a name holds groups rather than ids."""
_ONE_VALUE = 0.9
"""Share of the ids in several rows that must have one value of a column for it to describe what has the id."""


@dataclass(frozen=True)
class Guess:
    """A proposal for a role."""

    role: Role
    column: Column | None
    reason: str
    is_sure: bool
    candidates: tuple[str, ...] = ()
    """Names of the columns whose values allow the role."""


def guess_columns(samples: Mapping[str, Sequence[Column]], given: Mapping[str, str]) -> dict[str, Guess]:
    """Return the proposal for each role of the tables that are there, by its key such as 'sales.title'.

    Args:
        samples: The columns of each table's file.
        given: Name of the column of some roles, by their key; '' for none. They are not guessed.

    Raises:
        ConfigurationError: If a given role or column does not exist, or does not hold what the role needs.
    """
    roles = roles_of(samples)
    guesses: dict[str, Guess] = {}
    for key, name in given.items():
        if key not in roles:
            raise ConfigurationError(
                f"--column {key}={name}: {key} must be one of {', '.join(roles)}{did_you_mean(key, roles)}"
            )
        guesses[key] = with_column(Guess(roles[key], None, "", True), samples[roles[key].table], name)
    for guess in _sale_ids(samples, {key: guess.column for key, guess in guesses.items()}):
        guesses.setdefault(guess.role.key, guess)
    for key, role in roles.items():
        if key not in guesses:
            used = {guess.column.name for guess in guesses.values() if guess.column and guess.role.table == role.table}
            free = [column for column in samples[role.table] if column.name not in used and role.fits(column)]
            sale = guesses[f"{SALES}.sale_id"].column if role.table == SALES and f"{SALES}.sale_id" in guesses else None
            guesses[key] = _guess(role, free, sale)
    return {key: guesses[key] for key in roles}


def with_column(guess: Guess, columns: Sequence[Column], name: str) -> Guess:
    """Return a guess with the column that the user names, '' for none.

    Raises:
        ConfigurationError: If it does not exist, does not hold what the role needs, or is required and none.
    """
    role = guess.role
    names = [column.name for column in columns]
    column = next((column for column in columns if column.name == name), None)
    what = f"{role.key} ({role.meaning}) == {name!r}"
    if column is None and (name or role.is_required):
        raise ConfigurationError(f"{what}, must be one of the columns {', '.join(names)}{did_you_mean(name, names)}")
    if column and not role.fits(column):
        raise ConfigurationError(
            f"{what}: its values, such as {_examples(column)}, are of another kind: "
            "choose another column, or write the SQL by hand, see docs/raw_tables.md"
        )
    return replace(guess, column=column, reason="your choice" if column else "none, by your choice", is_sure=True)


def attribute_columns(columns: Sequence[Column], key: Column, used: Iterable[str]) -> dict[str, Column]:
    """Return the columns that describe a sale or a user, by the name of the attribute.

    They have few values for many ids, and one value per id.

    Args:
        columns: Of the table's file.
        key: The column of ids.
        used: Names of columns that are something else.
    """
    found: dict[str, Column] = {}
    ids = len(key.distinct)
    for column in columns:
        is_label = bool(column.values) and not any(isinstance(each, list | float) for each in column.values)
        if column.name in {*used, key.name} or not is_label or column.instants:
            continue
        if column.numbers and column.numbers.form != "numbers":
            continue
        if column.numbers and any(number != int(number) for number in column.numbers.values):
            continue
        n = len(column.distinct)
        is_short = sum(map(len, column.texts)) <= _LONGEST_ATTRIBUTE * len(column.texts)
        is_measure = column.numbers and not set(words_of(column.name)) & (words.GROUP | words.CODE)
        most = 100 if is_measure else _MOST_ATTRIBUTE_VALUES
        if (
            2 <= n <= min(most, max(ids / 2, 5))
            and is_short
            and _share_of_ids_with_one_value(key, column) >= _ONE_VALUE
        ):
            name = _attribute_name(column.name)
            found["_".join(words_of(column.name)) if name in found else name] = column
    return _without_codes(found)


def _without_codes(attributes: Mapping[str, Column]) -> dict[str, Column]:
    """Return attributes without numbers that stand for the values of another one, as a colour's code for its name."""
    texts = [column for column in attributes.values() if not column.numbers]
    return {
        name: column
        for name, column in attributes.items()
        if not (column.numbers and any(_is_code_of(column, text) for text in texts))
    }


def _is_code_of(column: Column, text: Column) -> bool:
    pairs = zip(column.rows, text.rows, strict=True)
    different = {(code, value) for code, value in pairs if code is not None and value is not None}
    return len(different) <= _CODES_PER_NAME * min(len(column.distinct), len(text.distinct))


def kind_of_rows(columns: Sequence[Column], quantity: Column | None, file: str) -> tuple[Kind, str] | None:
    """Return of which kind each row of a file without kinds is, and why; None if nothing says so.

    Args:
        columns: Of the file.
        quantity: The column of pieces, if there is one.
        file: The file's name.
    """
    if quantity:
        return "purchase", f"there is a quantity, {quantity.name}"
    if named := [column.name for column in columns if set(words_of(column.name)) & words.ORDER]:
        return "purchase", f"there is {listed(named[:2], 'and')}"
    stem = file.partition(".")[0]
    kind = kind_of(" ".join([*words_of(stem), *(word.removesuffix("s") for word in words_of(stem))]))
    return (kind, f"the file is called {file}") if kind in ("visit", "purchase") else None


def photo_columns(columns: Sequence[Column]) -> list[Column]:
    """Return the columns that hold addresses or paths of photos."""
    role = next(role for role in ROLES if role.name == "image_uri")
    return [column for column in columns if role.fits(column)]


def photo_root(uris: Sequence[str], raw: RawTable) -> str:
    """Return the folder or host below which photos are, for `images.root`.

    Args:
        uris: Addresses, or paths relative to the file that lists them or to the working directory.
        raw: Where that file is.

    Raises:
        InputError: If they are on several hosts.
    """
    hosts = {"/".join(uri.split("/")[:3]) for uri in uris if "://" in uri}
    if len(hosts) > 1:
        raise InputError(
            f"photos are on {len(hosts)} hosts, {listed(sorted(hosts)[:3], 'and')}, must be on one: copy them"
        )
    if hosts:
        return hosts.pop()
    beside = Path(raw.path or ".").absolute()
    beside = beside if beside.is_dir() else beside.parent
    return next(
        (str(each) for each in (beside, Path()) if any((each / uri).is_file() for uri in uris[:100])), str(beside)
    )


def _guess(role: Role, free: Sequence[Column], sale: Column | None) -> Guess:
    """Return the proposal for a role.

    Args:
        role: It is none of the ids of sales.
        free: The columns whose values allow it and that are nothing else.
        sale: The ids of sales, if the role is one of table sales.
    """
    candidates = tuple(each.name for each in free)
    free = [column for column in free if role.may_propose(column)]
    scored = sorted(
        ((name_score(column.name, role), -order, column) for order, column in enumerate(free)),
        key=lambda each: each[:2],
    )
    score, _, column = scored[-1] if scored else (0.0, 0, None)
    if role.name == "kind":
        return _guess_kind(role, free, column if score >= WHOLE_NAME else None)
    if column and score > (WHOLE_NAME if role.name == "revenue" else 0):  # the value of something else is no revenue
        is_only = role.is_required and len(free) == 1
        is_sure = (score >= WHOLE_NAME or is_only) and (not column.instants or column.instants.is_sure)
        reason = "by its name" if score >= WHOLE_NAME else "by a word of its name"
        return Guess(role, column, reason + _form([column]), is_sure, candidates)
    if role.name == "title" and sale:
        labels = [each for each in free if _is_label(each, sale)]
        column = max(labels, key=lambda each: len(each.distinct), default=None)
        reason = "the text with the most values" if column else "no text of its own: made of attributes and id"
        return Guess(role, column, reason, column is None, candidates)
    if not role.is_required:
        return Guess(role, None, "no such column", True, candidates)
    if role.name == "user_id":
        if by_place := _ids_by_place(free):
            return Guess(role, by_place[0], "the first column of ids, as there is no header", False, candidates)
        return Guess(role, max(free, key=_returns, default=None), "an id that returns", False, candidates)
    reason = "the only column that fits" if len(free) == 1 else "the first that fits"
    is_sure = len(free) == 1 and (not free[0].instants or free[0].instants.is_sure)
    return Guess(role, free[0] if free else None, reason + _form(free[:1]), is_sure, candidates)


def _form(columns: Sequence[Column]) -> str:
    """Return the form of a column's instants, to go on in a sentence."""
    for instants in (column.instants for column in columns if column.instants):
        return f": {instants.form}" + ("" if instants.is_sure else ", though day and month may be exchanged")
    return ""


def _guess_kind(role: Role, free: Sequence[Column], named: Column | None) -> Guess:
    candidates = tuple(each.name for each in free)
    if known := [column for column in free if _known_kinds(column) > 0.5]:
        column = max(known, key=lambda each: (_known_kinds(each), name_score(each.name, role)))
        return Guess(role, column, f"its values are {_examples(column)}", True, candidates)
    if named:
        return Guess(role, named, "by its name, of values that no word explains", False, candidates)
    return Guess(role, None, "no column of kinds", True, candidates)


def _is_label(column: Column, sale: Column) -> bool:
    """Return whether a text may be the title of sales: short, of many values, one per sale."""
    is_short = sum(map(len, column.texts)) <= _LONGEST_LABEL * len(column.texts)
    is_various = len(column.distinct) >= min(_FEWEST_LABELS, len(sale.distinct) / 3)
    return is_short and is_various and _share_of_ids_with_one_value(sale, column) >= _ONE_VALUE


def _sale_ids(samples: Mapping[str, Sequence[Column]], given: Mapping[str, Column | None]) -> list[Guess]:
    """Propose the ids of sales in all tables at once: values of events that occur in the sales say more than names."""
    by_key = roles_of([SALES, EVENTS])
    role, of_events = by_key[f"{SALES}.sale_id"], by_key[f"{EVENTS}.sale_id"]
    same_file = samples[SALES] is samples[EVENTS]
    of_sales, of_log = _possible(samples[SALES], role, given), _possible(samples[EVENTS], of_events, given)
    by_place = _ids_by_place(samples[EVENTS])[1:2]
    chosen = given.get(of_events.key) or given.get(role.key)
    if same_file and (chosen or by_place):
        of_sales = of_log = [chosen] if chosen else by_place
    pairs = []
    for sale in of_sales:
        for event in of_log:
            if same_file and sale is not event:
                continue
            shared = len(sale.distinct & event.distinct) / len(event.distinct)
            names = name_score(sale.name, role) + name_score(event.name, of_events)
            same_name = sale.name.lower() == event.name.lower()
            unique = len(sale.distinct) / max(len(sale.values), 1)
            score = shared * (not same_file) + names + 0.2 * same_name + 0.2 * unique
            pairs.append((score + 0.1 * (event in by_place), shared, names, sale, event))
    pairs = [each for each in pairs if (each[1] and not same_file) or _may_name_sales(each[4], of_events, given)]
    if not pairs:
        return []
    pairs.sort(key=lambda each: each[0], reverse=True)
    best, shared, names, sale, event = pairs[0]
    is_clear = len(pairs) == 1 or best - pairs[1][0] > 0.3
    is_sure = names >= 2 * WHOLE_NAME or (is_clear and shared > 0.5 and names > 0) or (same_file and chosen is not None)
    by_name = same_file or names >= 2 * WHOLE_NAME or not shared
    reason = "by its name" if by_name else f"{shared:.0%} of the events' values are sales, in the samples"
    if same_file and not sale.has_name:
        reason = "the second column of ids, as there is no header"
    found = [
        Guess(role, sale, reason, is_sure, tuple(each.name for each in samples[SALES] if role.fits(each))),
        Guess(of_events, event, reason, is_sure, tuple(each.name for each in samples[EVENTS] if role.fits(each))),
    ]
    others = [table for table in samples if table == IMAGES or (is_events(table) and table != EVENTS)]
    return [*found, *(_sale_id_of(table, samples[table], sale, event) for table in others)]


def _may_name_sales(event: Column, role: Role, given: Mapping[str, Column | None]) -> bool:
    """Return whether a column of events may hold ids of sales, even if none of them is in the sample of sales."""
    return name_score(event.name, role) > 0 or not event.has_name or event in given.values()


def _sale_id_of(table: str, columns: Sequence[Column], sale: Column, event: Column) -> Guess:
    """Propose the ids of sales of photos, or of a further file of events, by their names and those that are known."""
    role = roles_of([table])[f"{table}.sale_id"]
    known = sale.distinct | event.distinct
    candidates = [column for column in columns if role.fits(column) and role.may_propose(column)]
    by_place = _ids_by_place(columns)[1:2]
    scores = [
        (
            len(known & each.distinct) / len(each.distinct)
            + name_score(each.name, role)
            + 0.2 * (each.name == event.name and each.has_name)
            + 0.1 * (each in by_place),
            -order,
            each,
        )
        for order, each in enumerate(candidates)
    ]
    score, _, column = max(scores, key=lambda each: each[:2], default=(0.0, 0, None))
    return Guess(role, column, "by name and values", score > 0.9, tuple(each.name for each in candidates))


def _possible(columns: Sequence[Column], role: Role, given: Mapping[str, Column | None]) -> list[Column]:
    if chosen := given.get(role.key):
        return [chosen]
    ids = [column for column in columns if role.fits(column) and role.may_propose(column)]
    return [column for column in ids if len(column.distinct) > 1]


def _ids_by_place(columns: Sequence[Column]) -> list[Column]:
    """Return the columns of many ids of a file without a header: the first is one of users, the second one of sales."""
    if any(column.has_name for column in columns):
        return []
    fewest = {column.name: max(1, _FEW_IDS * len(column.values)) for column in columns}
    return [column for column in columns if column.is_id and len(column.distinct) > fewest[column.name]]


def _known_kinds(column: Column) -> float:
    """Return the share of the different values whose words are known as kinds, numbers apart."""
    return sum(kind_of(value) is not None for value in column.distinct) / max(len(column.distinct), 1)


def _returns(column: Column) -> float:
    """Return how far a column looks like ids of users: many different values, each more than once."""
    share = len(column.distinct) / len(column.values)
    return share * (1 - share)


def _share_of_ids_with_one_value(key: Column, column: Column) -> float:
    values: dict[object, list[object]] = defaultdict(list)
    for each, value in zip(key.rows, column.rows, strict=True):
        if value is not None:
            values[each].append(value)
    several = [set(each) for each in values.values() if len(each) > 1]
    return sum(len(each) == 1 for each in several) / len(several) if several else 1.0


def _attribute_name(name: str) -> str:
    whole = "_".join(words_of(name))
    return "category" if whole in words.CATEGORY else "country" if whole in words.COUNTRY else whole


def _examples(column: Column) -> str:
    values = list(dict.fromkeys(column.texts))
    return ", ".join(repr(value[:40]) for value in values[:3]) + (", …" if len(values) > 3 else "")
