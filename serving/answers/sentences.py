"""The sentences of answers: reasons for the website's visitors, and explanations for its developers."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from recsys.snapshot.format import Snapshot
from recsys.wording import did_you_mean, listed

REASONS = {
    "own_visits": "You looked at this sale",
    "own_purchases": "You bought in this sale before",
    "own_recency": "You bought in this sale before",
    "own_habit": "You bought in this sale before",
    "collaborative": "Like sales you looked at",
    "collaborative_conditional": "Like sales you looked at",
    "collaborative_lift": "Like sales you looked at",
    "als": "Liked by people with your taste",
    "content_metadata": "Matches your taste in {attributes}",
    "content_text": "Described like sales you looked at",
    "content_images": "Looks like sales you looked at",
    "taste_metadata": "Matches your taste in {attributes}",
    "taste_text": "Described like sales you looked at",
    "taste_images": "Looks like sales you looked at",
    "towers": "Like what you have been looking at lately",
    "popularity": "Popular right now",
    "popularity_day": "Popular today",
    "popularity_month": "Popular in recent weeks",
    "hours_open": "Just opened",
    "hours_left": "Closes soon",
    "price_gap": "In the price range you look at",
    "open": "Open now",
}
"""The sentence that the website shows for each kind of evidence; {attributes} names the attributes of the sales."""

DETAIL = "detail"
"""The key, beside the kinds of evidence, of the sentence for a reason that names {detail}, such as a theme."""

_DETAIL_SENTENCE = "Because you looked at {detail}"
_WITHOUT_VISITS = {
    **{kind: text.replace("you looked at", "you bought") for kind, text in REASONS.items() if kind != "own_visits"},
    "towers": "Like what you have been buying lately",
    "price_gap": "In your usual price range",
    DETAIL: "Like what you bought: {detail}",
}
"""The sentences of a shop that reports purchases only."""
_WITHOUT_ATTRIBUTES = dict.fromkeys(("content_metadata", "taste_metadata"), "In your usual price range")
_MOST_ATTRIBUTES = 3
_MOST_NAMED = 3

OTHER_REASON = "Chosen for you"
"""The sentence for evidence that has none of its own."""

ANONYMOUS = "No user_id was given."
POLICY_MISSING = "The night could not rank by this policy: 'recsys doctor' says why."
UNKNOWN_USER = "The snapshot has no ranking for this user."
NO_SALE_OF_RANKING = "No sale of this user's ranking may be shown now."
DAMAGED_RECORD = "This user's record in the snapshot is damaged."
RANKING_FAILED = "This user's ranking failed: the service's log has the stack trace."
STORE_OUT_OF_REACH = "The store of users' rankings is out of reach."
DEADLINE_NEAR = "The deadline was near: the session was left out."
NOT_LIVE = "The page is as of the night: the snapshot has no ranker, or the service does not count what users do."
NO_SESSION_RANKER = "The snapshot cannot rank sessions: see the service's log."
UNKNOWN_SALE = "The snapshot does not know the sale that others are to resemble."
UNKNOWN_SESSION = "The snapshot knows neither this user nor a sale of the session."
JUST_BOUGHT = "Sales that the user bought a short time ago come last."
POPULAR_SHOWN = "Popular sales are shown."
YOUNGEST_SHOWN = "The sales that opened last are shown: no event of the shop is known yet."
NO_RANKED_OPEN = "No ranking holds a sale that may be shown now. Any open sales are shown, the soonest to close first."


class ReasonTexts:
    """The sentences for reasons, in the words of one shop.

    Args:
        snapshot: Its sales, whose attributes are named, and whether its users have visits.
        own: The shop's own sentences, by kind of evidence or DETAIL.
    """

    def __init__(self, snapshot: Snapshot, own: Mapping[str, str]):
        counts = Counter(name for sale in snapshot.sales for name, value in sale.attributes.items() if value)
        # The most frequent ones; a sentence that lists more is not read.
        names = [name.replace("_", " ") for name, _ in sorted(counts.items(), key=lambda each: (-each[1], each[0]))]
        self._attributes = listed(names[:_MOST_ATTRIBUTES], "and")
        has_visits = snapshot.manifest.n_visits != 0
        self._texts = {
            DETAIL: _DETAIL_SENTENCE,
            **REASONS,
            **({} if has_visits else _WITHOUT_VISITS),
            **({} if names else _WITHOUT_ATTRIBUTES),
            **own,
        }

    def reason(self, name: str) -> tuple[str, str]:
        """Split a reason, such as `popularity` or `content_images/pool`, into the kind of evidence and its sentence."""
        kind, _, detail = name.partition("/")
        text = self._texts[DETAIL] if detail else self._texts.get(kind, OTHER_REASON)
        return kind, text.replace("{attributes}", self._attributes).replace("{detail}", detail)


def unused_attribute(name: str, used: Iterable[str]) -> str:
    """Say that no segment, rule or experiment asks for an attribute of the request."""
    return f"No segment, rule or experiment asks for attribute {name!r}{did_you_mean(name, used) or '.'}"


def unknown_in_session(sale_ids: Sequence[str]) -> str:
    """Return the sentence that names the first sales of the session that the snapshot does not know."""
    named = listed([repr(each) for each in sale_ids[:_MOST_NAMED]], "and")
    more = f", nor {len(sale_ids) - _MOST_NAMED} more" if len(sale_ids) > _MOST_NAMED else ""
    return f"The snapshot does not know {named} of the session{more}."


def no_sale_has(attribute: str, values: Iterable[str], known: Iterable[str]) -> str:
    """Return the sentence that says that no sale of the snapshot has one of the values of an attribute."""
    wanted = sorted(values)
    hint = did_you_mean(wanted[0], known) if len(wanted) == 1 else ""
    return f"No sale of the snapshot has {attribute} {listed([repr(value) for value in wanted], 'or')}{hint or '.'}"


@lru_cache(maxsize=1024)
def unknown_surface(surface: str, known: tuple[str, ...]) -> str:
    """Return the sentence that names the surface that was probably meant; empty if none is similar."""
    hint = did_you_mean(surface, known)
    return f"No rule and no experiment is for surface {surface!r}{hint}" if hint else ""


def popular_with(attribute: str, value: str) -> str:
    """Return the sentence that names the segment whose popular sales are shown."""
    return f"Sales popular with {attribute} {value} are shown."


def shortfall(shown: int, n_open: int, restricted: bool) -> str:
    """Return the sentence that explains why fewer sales than requested are shown."""
    if n_open == 0:
        return "No sale is open."
    opened = "Only 1 sale is open" if n_open == 1 else f"Only {n_open} sales are open"
    return f"{opened}; the request's lists and the shop's rules leave {shown}." if restricted else f"{opened}."
