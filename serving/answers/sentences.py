"""The sentences of answers that explain them to the website's developers; reasons are in `reason_texts`."""

from collections.abc import Iterable, Sequence
from functools import lru_cache

from recsys.wording import did_you_mean, listed

_MOST_NAMED = 3

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
