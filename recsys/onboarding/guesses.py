"""Which column of a shop's files is what: proposals by names in six languages and by values, each with its reason."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from recsys.config.pipeline import RawTable
from recsys.errors import ConfigurationError, InputError
from recsys.onboarding import words
from recsys.onboarding.columns import Column, kind_of, words_of
from recsys.wording import did_you_mean, listed

SALES, EVENTS, USERS, IMAGES = "sales", "events", "users", "sale_images"
_MOST_KINDS = 50
_LONGEST_KIND = 40
_MOST_ATTRIBUTE_VALUES = 1000
_LONGEST_ATTRIBUTE = 60
_LONGEST_LABEL = 200
"""Mean number of characters above which a text is a description, no title."""
_FEWEST_LABELS = 50
_ONE_VALUE = 0.9
"""Share of the ids in several rows that must have one value of a column for it to describe what has the id."""
_WHOLE_NAME = 0.9
"""Least score of a name that says a role as a whole, see `name_score`."""
_ID_PARTS = re.compile(
    r"^(?:id|num|no|code|cod|codigo|codice|pk)_|_(?:id|ids|nr|no|num|number|nummer|code|key|uuid|hash|pk)$"
)
_GLUED_ID = re.compile(r"(?<=[a-z]{3})(?:id|nr|nummer|number|code)$")


@dataclass(frozen=True)
class Role:
    """Something that a table of the product needs from a column."""

    table: str
    name: str
    meaning: str
    """In words, for a question."""
    nouns: Sequence[str]
    """Names of columns that say it, most specific first; words are joined by `_`."""
    is_required: bool = False

    @property
    def key(self) -> str:
        """Its name in options and messages."""
        return f"{self.table}.{self.name}"

    def fits(self, column: Column) -> bool:
        """Return whether the values of a column allow the role."""
        if self.name in ("sale_id", "user_id"):
            return column.is_id
        if self.name in ("opens_at", "closes_at", "occurred_at", "recorded_at"):
            return column.instants is not None
        if self.name in ("price", "revenue", "quantity", "position"):
            return column.numbers is not None
        if self.name == "image_uri":
            return column.is_text and sum(map(_is_photo, column.texts)) > len(column.texts) / 2
        if self.name == "kind":
            is_short = all(len(value) <= _LONGEST_KIND and value.count(" ") < 4 for value in column.distinct)
            return column.is_id and is_short and len(column.distinct) <= _MOST_KINDS
        return column.is_text


ROLES = (
    Role(SALES, "sale_id", "the id of the sale", words.SALE, is_required=True),
    Role(
        SALES,
        "opens_at",
        "when the sale opens",
        words.OPENS_AT,
    ),
    Role(
        SALES,
        "closes_at",
        "when the sale closes",
        words.CLOSES_AT,
    ),
    Role(
        SALES,
        "title",
        "the title that a user reads",
        words.TITLE,
    ),
    Role(
        SALES,
        "description",
        "a longer text about the sale",
        words.DESCRIPTION,
    ),
    Role(
        SALES,
        "price",
        "its price",
        words.PRICE,
    ),
    Role(EVENTS, "user_id", "the id of the user", words.USER, is_required=True),
    Role(EVENTS, "sale_id", "the id of the sale", words.SALE, is_required=True),
    Role(
        EVENTS,
        "kind",
        "what the user did",
        words.KIND,
    ),
    Role(
        EVENTS,
        "occurred_at",
        "when it was",
        words.OCCURRED_AT,
        is_required=True,
    ),
    Role(EVENTS, "recorded_at", "when it was recorded", words.RECORDED_AT),
    Role(
        EVENTS,
        "revenue",
        "its revenue",
        words.REVENUE,
    ),
    Role(
        EVENTS,
        "quantity",
        "the number of pieces",
        words.QUANTITY,
    ),
    Role(
        EVENTS,
        "price",
        "the price of a piece",
        words.PRICE_OF_A_PIECE,
    ),
    Role(USERS, "user_id", "the id of the user", [*words.USER, "id"], is_required=True),
    Role(IMAGES, "sale_id", "the id of the sale", words.SALE, is_required=True),
    Role(
        IMAGES,
        "image_uri",
        "the address of a photo",
        words.IMAGE_URI,
        is_required=True,
    ),
    Role(
        IMAGES,
        "position",
        "its place, the cover first",
        words.POSITION,
    ),
)


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
    roles = {role.key: role for role in ROLES if role.table in samples}
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
        most = 100 if column.numbers else _MOST_ATTRIBUTE_VALUES
        if (
            2 <= n <= min(most, max(ids / 2, 5))
            and is_short
            and _share_of_ids_with_one_value(key, column) >= _ONE_VALUE
        ):
            name = _attribute_name(column.name)
            found["_".join(words_of(column.name)) if name in found else name] = column
    return found


def says_purchase(columns: Sequence[Column], guesses: Mapping[str, Guess]) -> str | None:
    """Return why each row of a file without kinds is a purchase; None if nothing says so."""
    if quantity := guesses[f"{EVENTS}.quantity"].column:
        return f"there is a quantity, {quantity.name}"
    named = [column.name for column in columns if set(words_of(column.name)) & words.ORDER]
    return f"there is {listed(named[:2], 'and')}" if named else None


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
    scored = sorted(
        ((name_score(column.name, role), -order, column) for order, column in enumerate(free)),
        key=lambda each: each[:2],
    )
    score, _, column = scored[-1] if scored else (0.0, 0, None)
    candidates = tuple(each.name for each in free)
    if role.name == "kind":
        return _guess_kind(role, free, column if score >= _WHOLE_NAME else None)
    if column and score > (_WHOLE_NAME if role.name == "revenue" else 0):  # the value of something else is no revenue
        is_only = role.is_required and len(free) == 1
        is_sure = (score >= _WHOLE_NAME or is_only) and (not column.instants or column.instants.is_sure)
        reason = "by its name" if score >= _WHOLE_NAME else "by a word of its name"
        if column.instants:
            reason += f": {column.instants.form}"
            reason += "" if column.instants.is_sure else ", though day and month may be exchanged"
        return Guess(role, column, reason, is_sure, candidates)
    if role.name == "title" and sale:
        labels = [each for each in free if _is_label(each, sale)]
        column = max(labels, key=lambda each: len(each.distinct), default=None)
        reason = "the text with the most values" if column else "no text of its own: made of attributes and id"
        return Guess(role, column, reason, column is None, candidates)
    if not role.is_required:
        return Guess(role, None, "no such column", True, candidates)
    if role.name == "user_id":
        return Guess(role, max(free, key=_returns, default=None), "an id that returns", False, candidates)
    reason = "the only column that fits" if len(free) == 1 else "the first that fits"
    return Guess(role, free[0] if free else None, reason, len(free) == 1, candidates)


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


def name_score(name: str, role: Role) -> float:
    """Return how well a column's name says a role, in [0, 1]: 0.9 or more if the whole name does, 0 if nothing."""
    parts = words_of(name)
    whole = "_".join(parts)
    if role.name.endswith("_id"):
        stems = [_ID_PARTS.sub("", whole), _GLUED_ID.sub("", whole)]
        if found := [role.nouns.index(stem) for stem in stems if stem in role.nouns]:
            return 1 - 0.001 * found[0]
        if whole == "id" and role.table == SALES:
            return 0.95
        return 0.5 if stems != [whole, whole] and set(parts) & set(role.nouns) else 0.0
    glued = [noun.replace("_", "") for noun in role.nouns]
    if whole.replace("_", "") in glued:
        return 1 - 0.001 * glued.index(whole.replace("_", ""))
    ends = [position for position, noun in enumerate(role.nouns) if parts[-1:] == [noun]]
    return 0.5 - 0.001 * ends[0] if ends else 0.0


def _sale_ids(samples: Mapping[str, Sequence[Column]], given: Mapping[str, Column | None]) -> list[Guess]:
    """Propose the ids of sales in all tables at once: values of events that occur in the sales say more than names."""
    by_key = {role.key: role for role in ROLES}
    role, of_events = by_key[f"{SALES}.sale_id"], by_key[f"{EVENTS}.sale_id"]
    same_file = samples[SALES] is samples[EVENTS]
    pairs = []
    for sale in _possible(samples[SALES], role, given):
        for event in _possible(samples[EVENTS], of_events, given):
            if same_file and sale is not event:
                continue
            shared = len(sale.distinct & event.distinct) / len(event.distinct)
            names = name_score(sale.name, role) + name_score(event.name, of_events)
            same_name = sale.name.lower() == event.name.lower()
            unique = len(sale.distinct) / max(len(sale.values), 1)
            pairs.append(
                (shared * (not same_file) + names + 0.2 * same_name + 0.2 * unique, shared, names, sale, event)
            )
    if not pairs:
        return []
    pairs.sort(key=lambda each: each[0], reverse=True)
    best, shared, names, sale, event = pairs[0]
    is_clear = len(pairs) == 1 or best - pairs[1][0] > 0.3
    is_sure = names >= 2 * _WHOLE_NAME or (is_clear and shared > 0.5 and names > 0)
    by_name = same_file or names >= 2 * _WHOLE_NAME or not shared
    reason = "by its name" if by_name else f"{shared:.0%} of the events' values are sales, in the samples"
    found = [
        Guess(role, sale, reason, is_sure, tuple(each.name for each in samples[SALES] if role.fits(each))),
        Guess(of_events, event, reason, is_sure, tuple(each.name for each in samples[EVENTS] if role.fits(each))),
    ]
    if IMAGES in samples:
        of_images = by_key[f"{IMAGES}.sale_id"]
        candidates = [column for column in samples[IMAGES] if of_images.fits(column)]
        scores = [
            (len(sale.distinct & each.distinct) / len(each.distinct) + name_score(each.name, of_images), -order, each)
            for order, each in enumerate(candidates)
        ]
        score, _, column = max(scores, key=lambda each: each[:2], default=(0.0, 0, None))
        names_of = tuple(each.name for each in candidates)
        found.append(Guess(of_images, column, "by name and values", score > 0.9, names_of))
    return found


def _possible(columns: Sequence[Column], role: Role, given: Mapping[str, Column | None]) -> list[Column]:
    chosen = given.get(role.key)
    return [chosen] if chosen else [column for column in columns if role.fits(column) and len(column.distinct) > 1]


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


def _is_photo(text: str) -> bool:
    return text.lower().split("?")[0].endswith((".jpg", ".jpeg", ".png", ".webp", ".gif")) or (
        text.startswith(("http://", "https://")) and bool(re.search(r"im(?:g|age)|photo|pic", text, re.IGNORECASE))
    )


def _examples(column: Column) -> str:
    values = list(dict.fromkeys(column.texts))
    return ", ".join(repr(value[:40]) for value in values[:3]) + (", …" if len(values) > 3 else "")
