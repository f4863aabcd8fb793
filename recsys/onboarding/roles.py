"""What the product's tables need from the columns of a shop's files, and how well a column's name says it."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import median

from recsys.onboarding import words
from recsys.onboarding.columns import Column, words_of

SALES, EVENTS, USERS, IMAGES = "sales", "events", "users", "sale_images"
WHOLE_NAME = 0.9
"""Least score of a name that says a role as a whole, see `name_score`."""
_MOST_KINDS = 50
_LONGEST_KIND = 40
_MOST_PIECES = 3
"""Median of an amount above which it is money."""
_ID_PARTS = re.compile(
    r"^(?:id|num|no|code|cod|codigo|codice|pk)_|_(?:id|ids|nr|no|num|number|nummer|code|key|uuid|hash|pk)$"
)
_GLUED_ID = re.compile(r"(?<=[a-z]{3})(?:id|nr|nummer|number|code)$")


def is_events(table: str) -> bool:
    """Return whether a table is one of events: 'events', or of a further file 'events_2' and so on."""
    return table == EVENTS or table.startswith(f"{EVENTS}_")


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
            return column.is_text and sum(map(is_photo, column.texts)) > len(column.texts) / 2
        if self.name == "kind":
            is_short = all(len(value) <= _LONGEST_KIND and value.count(" ") < 4 for value in column.distinct)
            return column.is_id and is_short and len(column.distinct) <= _MOST_KINDS
        return column.is_text

    def may_propose(self, column: Column) -> bool:
        """Return whether a column that fits is one to propose: neither its name nor its values speak of another thing.

        An id of an order is neither a user nor a sale, one of a product no user, a category is no title, and an amount
        of 1, 2 or 3 is one of pieces, not of money.
        """
        parts = set(words_of(column.name))
        if self.name in ("sale_id", "user_id"):
            other = words.SALE if self.name == "user_id" else words.USER
            is_other = parts & set(other) and not name_score(column.name, self)
            return not (is_other or parts & (words.ORDER | words.SELLER))
        if self.name == "title":
            return not parts & words.GROUP
        if self.name in ("price", "revenue", "quantity") and "amount" in parts and column.numbers:
            is_pieces = median(column.numbers.values) <= _MOST_PIECES and column.is_id
            return is_pieces == (self.name == "quantity")
        return True


ROLES = (
    Role(SALES, "sale_id", "the id of the sale", words.SALE, is_required=True),
    Role(SALES, "opens_at", "when the sale opens", words.OPENS_AT),
    Role(SALES, "closes_at", "when the sale closes", words.CLOSES_AT),
    Role(SALES, "title", "the title that a user reads", words.TITLE),
    Role(SALES, "description", "a longer text about the sale", words.DESCRIPTION),
    Role(SALES, "price", "its price", words.PRICE),
    Role(EVENTS, "user_id", "the id of the user", words.USER, is_required=True),
    Role(EVENTS, "sale_id", "the id of the sale", words.SALE, is_required=True),
    Role(EVENTS, "kind", "what the user did", words.KIND),
    Role(EVENTS, "occurred_at", "when it was", words.OCCURRED_AT, is_required=True),
    Role(EVENTS, "recorded_at", "when it was recorded", words.RECORDED_AT),
    Role(EVENTS, "revenue", "its revenue", words.REVENUE),
    Role(EVENTS, "quantity", "the number of pieces", words.QUANTITY),
    Role(EVENTS, "price", "the price of a piece", words.PRICE_OF_A_PIECE),
    Role(USERS, "user_id", "the id of the user", [*words.USER, "id"], is_required=True),
    Role(IMAGES, "sale_id", "the id of the sale", words.SALE, is_required=True),
    Role(IMAGES, "image_uri", "the address of a photo", words.IMAGE_URI, is_required=True),
    Role(IMAGES, "position", "its place, the cover first", words.POSITION),
)


def roles_of(tables: Iterable[str]) -> dict[str, Role]:
    """Return the roles of some tables by their key; each table of events has those of events."""
    found = [
        replace(role, table=table)
        for table in tables
        for role in ROLES
        if role.table == (EVENTS if is_events(table) else table)
    ]
    return {role.key: role for role in found}


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


def is_photo(text: str) -> bool:
    """Return whether a text is the address or the path of a photo."""
    return text.lower().split("?")[0].endswith((".jpg", ".jpeg", ".png", ".webp", ".gif")) or (
        text.startswith(("http://", "https://")) and bool(re.search(r"im(?:g|age)|photo|pic", text, re.IGNORECASE))
    )
