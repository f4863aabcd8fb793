"""What a column of a file holds, by its values: instants in which form, numbers in which notation, text."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import cached_property
from statistics import median
from typing import Any, Literal, NamedTuple
from unicodedata import combining, normalize

from recsys.onboarding import words

_FITS = 0.95
"""Share of the values that must have a form for the column to be in it; the others become null."""
_PLAIN_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_CLOCK = r"(?:[T ]\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?)?"
_ISO = re.compile(rf"\d{{4}}-\d{{1,2}}-\d{{1,2}}{_CLOCK} ?(?P<zone>Z|UTC|GMT|[+-]\d{{1,2}}(?::?\d{{2}})?)?")
_BY_DAY = re.compile(r"(\d{1,4})([/.-])(\d{1,2})\2(\d{4}|\d{2})(?: (\d{1,2}:\d{2})(:\d{2})?( ?[AaPp][Mm])?)?")
_EPOCHS = (("seconds", 1), ("milliseconds", 10**3), ("microseconds", 10**6), ("nanoseconds", 10**9))
_EPOCH_RANGE = (631_152_000, 4_102_444_800)
"""Seconds of 1990 and of 2100."""
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_WITH_COMMA = re.compile(r"[+-]?\d{1,3}(?:[. ]\d{3})+,\d+|[+-]?\d+,\d+|[+-]?\d+")
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(?:,\d{3})+(?:\.\d+)?|[+-]?\d+(?:\.\d+)?")
_CURRENCY = re.compile(r"^\s*[$€£¥₹]\s*|\s*(?:[$€£¥₹]|[A-Z]{3})\s*$")


class Instants(NamedTuple):
    """How the instants of a column are written."""

    sql: str
    """SQL that returns a timestamp, with {} for the column."""
    has_zone: bool
    """Whether a value says the zone itself; otherwise the timestamp is the clock's time in an unknown zone."""
    form: str
    """The form in words."""
    is_sure: bool = True


class Numbers(NamedTuple):
    """How the numbers of a column are written."""

    sql: str
    """SQL that returns a double, with {} for the column."""
    form: str
    values: list[float]
    """The values of the sample, those that are numbers."""


@dataclass(frozen=True)
class Column:
    """A column of a sample."""

    name: str
    """Its name; of a field of a structure the names of its path, with dots."""
    sql: str
    """How SQL names it."""
    rows: Sequence[Any]
    """Its values as Python has them, None where there is none."""

    @property
    def has_name(self) -> bool:
        """Whether its file gives it a name; those of a file without a header are called _c0, _c1, …"""
        return not re.fullmatch(r"_c\d+", self.name)

    @cached_property
    def values(self) -> list[Any]:
        """The values that are there."""
        return [value for value in self.rows if value is not None]

    @cached_property
    def texts(self) -> list[str]:
        """The values that are there as text, without blanks at both ends; 17850.0 is '17850'."""
        return [_text(value) for value in self.values]

    @cached_property
    def distinct(self) -> set[str]:
        """The different values as text."""
        return set(self.texts)

    @property
    def missing(self) -> float:
        """Share of the rows without a value."""
        return 1 - len(self.values) / len(self.rows)

    @cached_property
    def instants(self) -> Instants | None:
        """The form of its instants; None if it holds something else."""
        return instants_of(self.values, self.name)

    @cached_property
    def numbers(self) -> Numbers | None:
        """The form of its numbers; None if it holds something else."""
        return numbers_of(self.values)

    @cached_property
    def is_text(self) -> bool:
        """Whether it is text, other than instants and numbers."""
        is_text = bool(self.values) and all(isinstance(value, str) for value in self.values)
        return is_text and not self.instants and not self.numbers

    @cached_property
    def is_id(self) -> bool:
        """Whether its values may be ids: text or whole numbers, no lists, truth values or instants."""
        if not self.values or any(isinstance(value, bool | list | date) for value in self.values):
            return False
        return not self.instants and (not self.numbers or all(each == int(each) for each in self.numbers.values))

    @property
    def id_sql(self) -> str:
        """SQL that returns an id as text; 17850.0 is '17850'."""
        if all(isinstance(value, str) for value in self.values):
            has_fraction = self.values and all(value.strip().endswith(".0") for value in self.values)
            return f"regexp_replace({self.sql}, '[.]0$', '')" if has_fraction else self.sql
        if any(isinstance(value, float) for value in self.values):
            return f"cast(cast({self.sql} as bigint) as string)"
        return f"cast({self.sql} as string)"


def quoted(name: str) -> str:
    """Return a column's name as SQL has it, in back quotes if it must; braces are doubled, as they name raw tables."""
    if _PLAIN_NAME.fullmatch(name) and name.lower() not in words.RESERVED:
        return name
    return "`" + name.replace("`", "``").replace("{", "{{").replace("}", "}}") + "`"


def instants_of(values: Sequence[Any], name: str) -> Instants | None:
    """Return how instants are written; None if fewer than 95 % of the values are instants of one form.

    Args:
        values: Python's values: text, numbers, dates or instants.
        name: The column's name: numbers are instants only if it says so, as ids have any number of digits.
    """
    if not values:
        return None
    if all(isinstance(value, datetime) for value in values):
        has_zone = values[0].tzinfo is not None
        return Instants("{}" if has_zone else "cast({} as timestamp)", has_zone, "timestamps")
    if all(isinstance(value, date) for value in values):
        return Instants("cast({} as timestamp)", has_zone=False, form="dates")
    if any(isinstance(value, bool | list) for value in values):
        return None
    texts = [_text(value) for value in values]
    return _iso(texts) or _by_day(texts) or _epochs(values, texts, name)


def _iso(texts: list[str]) -> Instants | None:
    found = [match for text in texts if (match := _ISO.fullmatch(text))]
    if len(found) < _FITS * len(texts):
        return None
    zoned = sum(bool(match["zone"]) for match in found)
    form = "dates" if all(len(match[0]) <= 10 for match in found) else "ISO 8601"
    return Instants("try_cast({} as timestamp)", zoned > len(found) / 2, f"{form} with zone" if zoned else form)


def _by_day(texts: list[str]) -> Instants | None:
    """Return the form of instants such as 1/3/2026 8:05, 01.03.26 or 3/13/2026 8:05:00 PM."""
    found = [match for text in texts if (match := _BY_DAY.fullmatch(text))]
    if len(found) < _FITS * len(texts):
        return None
    match = max(found, key=lambda each: len(each[0]))
    first, second = (max(int(each[part]) for each in found) for part in (1, 3))
    if first > 31 or len(match[1]) == 4:
        days, is_sure = ("yyyy", "M", "d"), True
    else:
        year = "yyyy" if len(match[4]) == 4 else "yy"
        is_sure = match[2] == "." or first > 12 or second > 12
        days = ("M", "d", year) if second > 12 or (first <= 12 and _varies_more(found)) else ("d", "M", year)
    pattern = match[2].join(days)
    if match[5]:
        pattern += (" h:mm" if match[7] else " H:mm") + (":ss" if match[6] else "")
        pattern += (" a" if match[7].startswith(" ") else "a") if match[7] else ""
    return Instants(f"try_to_timestamp({{}}, '{pattern}')", has_zone=False, form=pattern, is_sure=is_sure)


def _varies_more(found: list[re.Match[str]]) -> bool:
    """Return whether the second number has more values than the first, as the day of some months has; not with dots."""
    return found[0][2] != "." and len({int(each[3]) for each in found}) > len({int(each[1]) for each in found})


def _epochs(values: Sequence[Any], texts: list[str], name: str) -> Instants | None:
    if not set(words_of(name)) & words.TIME and not any(words_of(name)[-1:] == [word] for word in ("at", "on")):
        return None
    numbers = [float(text) for text in texts if _NUMBER.fullmatch(text)]
    if len(numbers) < _FITS * len(texts):
        return None
    is_text = isinstance(values[0], str)
    days = [text for text in texts if re.fullmatch(r"(19|20|21)\d\d(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])", text)]
    if len(days) >= _FITS * len(texts):
        return Instants("try_to_timestamp(cast({} as string), 'yyyyMMdd')", has_zone=False, form="yyyyMMdd")
    whole = "try_cast({} as bigint)" if is_text or any(isinstance(value, float) for value in values) else "{}"
    for unit, per_second in _EPOCHS:
        inside = [each for each in numbers if _EPOCH_RANGE[0] <= each / per_second < _EPOCH_RANGE[1]]
        if len(inside) >= _FITS * len(numbers) and _EPOCH_RANGE[0] <= median(numbers) / per_second:
            sql = {
                "seconds": "timestamp_seconds(try_cast({} as double))",
                "milliseconds": f"timestamp_millis({whole})",
                "microseconds": f"timestamp_micros({whole})",
                "nanoseconds": f"timestamp_micros({whole} div 1000)",
            }[unit]
            return Instants(sql, has_zone=True, form=f"{unit} since 1970")
    return None


def numbers_of(values: Sequence[Any]) -> Numbers | None:
    """Return how numbers are written; None if fewer than 95 % of the values are numbers of one notation.

    Args:
        values: Python's values: text or numbers.
    """
    if not values or any(isinstance(value, bool | list | date) for value in values):
        return None
    if all(isinstance(value, int | float) for value in values):
        return Numbers("cast({} as double)", "numbers", [float(value) for value in values])
    texts = [_text(value) for value in values]
    bare = [_CURRENCY.sub("", text) for text in texts]
    has_currency = bare != texts
    forms = (
        (_NUMBER, "", "", "numbers"),
        (_THOUSANDS, ",", "", "numbers with commas between thousands"),
        (_WITH_COMMA, ". ", ",", "numbers with a decimal comma"),
    )
    for form, between_thousands, comma, notation in forms:
        found = [text for text in bare if form.fullmatch(text)]
        if len(found) < _FITS * len(bare):
            continue
        kept = "regexp_replace({}, '[^0-9.,eE+-]', '')" if has_currency or " " in "".join(found) else "{}"
        for sign in between_thousands.strip():
            kept, found = f"replace({kept}, '{sign}', '')", [text.replace(sign, "") for text in found]
        if comma:
            kept, found = f"replace({kept}, ',', '.')", [text.replace(" ", "").replace(",", ".") for text in found]
        notation += " with a currency" if has_currency else ""
        return Numbers(f"try_cast({kept} as double)", notation, [float(text) for text in found])
    return None


def words_of(name: str) -> list[str]:
    """Return the words of a column's name in lower case, without accents: 'orderId' and 'ORDER_ID' are order, id."""
    plain = "".join(each for each in normalize("NFKD", name) if not combining(each)).replace("ß", "ss")
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", plain)
    return re.findall(r"[^\W_]+", spaced.lower())


Kind = Literal["visit", "purchase", "neither"]
_KINDS: tuple[tuple[Kind, frozenset[str]], ...] = (
    ("neither", words.NEITHER),
    ("purchase", words.PURCHASE),
    ("visit", words.VISIT),
)


def kind_of(value: str) -> Kind | None:
    """Return what an event's kind means by its words, in six languages; None if no word is known.

    A cart is a visit: the user looked at the sale, and has not bought it yet.
    """
    parts = words_of(value)
    for kind, known in _KINDS:
        if {*parts, "".join(parts)} & known and not (kind == "purchase" and set(parts) & words.CART):
            return kind
    joined = "".join(parts)  # such as removefromcart
    return "neither" if joined.startswith(("remove", "delete")) else None


def is_cart(value: str) -> bool:
    """Return whether an event's kind is one of a cart."""
    parts = words_of(value)
    return bool({*parts, "".join(parts)} & words.CART)


def _text(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return value.strip() if isinstance(value, str) else str(value)
