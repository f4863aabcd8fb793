"""The rules for rows of the source, what happens to a row that breaks one, and when a source is refused.

A rule has one of four actions. `set aside`: the row is broken by itself; it goes to table `rejected_rows`, and a source
with too large a share of such rows is refused. `set aside, not counted`: the row goes to `rejected_rows` too, but says
nothing bad of its table: it is a copy, a sale's earlier window, a consequence of another broken row, or something that
the public sent. `kept`: the row is used, and counted. `not yet`: the row is not known at the night's instant.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from recsys.errors import EmptyInputError, RejectedRowsError
from recsys.ids import PLACEHOLDERS
from recsys.instants import DAY, EARLIEST, HOUR, LATEST, SECOND, from_micros
from recsys.logs.records import MAX_REVENUE, RECORDED_EVENTS
from recsys.shop.catalogue import Catalogue
from recsys.snapshot.format import MAX_IMAGES
from recsys.tables.night import EVENTS, SALE_IMAGES, SALES, USERS
from recsys.wording import plural

MAX_ID_BYTES = 256
CLOCKS_APART = 300 * SECOND
"""An event may be this much later than the present: clocks of other machines differ."""
LARGE_SHARE = 0.05
MANY_EVENTS = 100
MANY_TIMES = 5
"""An id with at least this share and number of events, and this many times the mean of all users, may be no person."""

SET_ASIDE: Literal["set aside"] = "set aside"
NOT_COUNTED: Literal["set aside, not counted"] = "set aside, not counted"
KEPT: Literal["kept"] = "kept"
NOT_YET: Literal["not yet"] = "not yet"


@dataclass(frozen=True)
class Rule:
    """A rule for the rows of a table."""

    name: str
    meaning: str
    """The rule in words."""
    broken: str
    """Condition in SQL that is true for rows that break the rule."""
    action: Literal["set aside", "set aside, not counted", "kept", "not yet"] = SET_ASIDE
    """What happens to a row that breaks the rule."""


@dataclass(frozen=True)
class RuleCount:
    """Number of rows of a table that broke a rule, with examples."""

    table: str
    rule: Rule
    rows: int
    """Number of rows of the table."""
    broken: int
    """Number of rows that break the rule and no earlier one."""
    examples: tuple[str, ...] = ()
    """A few of these rows, as JSON."""

    @property
    def passed(self) -> bool:
        """Whether no row broke the rule; an event that is not known yet is not an error."""
        return self.broken == 0 or self.rule.action == NOT_YET


def _id_rules(column: str) -> tuple[Rule, ...]:
    return (
        Rule(f"{column}_present", f"{column} is neither null nor blank", f"coalesce({column}, '') = ''"),
        Rule(
            f"{column}_short",
            f"{column} has at most {MAX_ID_BYTES} bytes",
            f"octet_length({column}) > {MAX_ID_BYTES}",
        ),
        Rule(f"{column}_printable", f"{column} has no control character", f"{column} rlike '\\\\p{{Cntrl}}'"),
    )


def is_placeholder(column: str) -> str:
    """Return the condition in SQL that is true for an id that systems write where they know none."""
    names = ", ".join("'" + name.replace("'", "\\'") + "'" for name in PLACEHOLDERS)
    longest = max(len(name.encode()) for name in PLACEHOLDERS)
    # Length and first character rule out nearly all ids, in half the time.
    is_name = f"octet_length({column}) <= {longest} and lower({column}) in ({names})"
    return f"({is_name}) or (left({column}, 1) in ('0', '-') and {column} rlike '^[0-]+$')"


_FIRST, _LAST = (f"{from_micros(instant):%Y-%m-%d}" for instant in (EARLIEST, LATEST))

SALE_RULES = (
    *_id_rules("sale_id"),
    Rule(
        "sale_instants_present",
        "opens_at and closes_at are not null; a sale that never closes has a closes_at such as 9999-12-31",
        "opens_at is null or closes_at is null",
    ),
    Rule(
        "sale_instants_in_range",
        f"opens_at is before {_LAST} and closes_at after {_FIRST}; of others the unit may be wrong",
        f"opens_at >= timestamp_micros({LATEST}) or closes_at <= timestamp_micros({EARLIEST})",
    ),
    Rule("sale_closes_after_it_opens", "closes_at is later than opens_at", "closes_at <= opens_at"),
    Rule(
        "title_present",
        "title has a visible character",
        "not coalesce(title, '') rlike '[^\\\\p{Z}\\\\p{Cc}\\\\p{Cf}]'",
    ),
    Rule(
        "price_valid",
        "price is null or a finite number of at least 0, 0 for a free sale",
        "not (price >= 0 and price < double('Infinity'))",
    ),
)
SALE_COPY_RULES = (
    Rule("sale_copy", "a row is there once; of equal rows one is used", "copy > 1 and is_equal", NOT_COUNTED),
    Rule(
        "sale_window",
        "sale_id has one window; of several the one that is open is used, else the next, else the last; events of the "
        "others stay in users' histories",
        "copy > 1 and has_other_window",
        NOT_COUNTED,
    ),
    Rule("sale_id_unique", "a sale_id and window have one title, text, price and attributes", "copy > 1"),
    Rule("sale_id_meant", "sale_id is no placeholder such as 'null' or '0'", is_placeholder("sale_id"), KEPT),
    Rule(
        "sale_text_decoded",
        "title, description and attributes hold no U+FFFD, the sign for bytes that are not of the encoding that was "
        "read: set source.raw.NAME.options.encoding, such as ISO-8859-1",
        "contains(concat_ws(' ', title, description, map_values(attributes)), '\ufffd')",
        KEPT,
    ),
)

EVENT_RULES = (
    *_id_rules("user_id"),
    Rule("kind_known", "kind is visit or purchase", "kind is null or kind not in ('visit', 'purchase')"),
    Rule("occurred_at_present", "occurred_at is not null", "occurred_at is null"),
    Rule(
        "event_in_range",
        f"occurred_at and recorded_at are in [{_FIRST}, {_LAST}); of others the unit may be wrong",
        " or ".join(
            f"{name} < timestamp_micros({EARLIEST}) or {name} >= timestamp_micros({LATEST})"
            for name in ("occurred_at", "recorded_at")
        ),
    ),
    Rule(
        "event_in_the_past",
        "occurred_at and recorded_at are not later than the present",
        "greatest(occurred_at, recorded_at) > timestamp_micros(:present)",
    ),
    Rule("sale_known", "sale_id is in table sales", "windows is null"),
    Rule("sale_usable", "the event's sale was not set aside itself", "size(windows) = 0", NOT_COUNTED),
    Rule(
        "revenue_finite",
        f"revenue is null or a number of at most {MAX_REVENUE:g}",
        f"isnan(revenue) or abs(revenue) > {MAX_REVENUE:g}",
    ),
    Rule(
        "known_as_of",
        "the event occurred before as_of; a later one is not known yet",
        "occurred_at >= timestamp_micros(:as_of)",
        NOT_YET,
    ),
    Rule(
        "user_id_meant",
        "user_id is no placeholder such as 'null' or '0', which would be one very active user: leave these out in "
        "events.sql",
        is_placeholder("user_id"),
        KEPT,
    ),
    Rule(
        "purchase_while_open",
        "a purchase is in [opens_at, closes_at) of its sale; others are used for taste, but not as training examples",
        "kind = 'purchase' and not exists(windows, w -> occurred_at >= w.opens_at and occurred_at < w.closes_at)",
        KEPT,
    ),
)
EVENT_UNIQUE = Rule(
    "event_unique",
    "an event (user_id, sale_id, kind, occurred_at) is there once; of copies the first recorded is used",
    "copy > 1",
    NOT_COUNTED,
)
USER_ID_USUAL = Rule(
    "user_id_usual",
    f"no user_id has {LARGE_SHARE:.0%} of the events and {MANY_TIMES} times the mean user's: it may be no person",
    f"events >= {LARGE_SHARE} * (select count(*) from events) and events >= {MANY_EVENTS}",
    KEPT,
)
EVENTS_RECENT = Rule(
    "events_recent",
    "the last event is at most history.days before as_of: older ones are not learnt from",
    "occurred_at < timestamp_micros(:as_of) - make_dt_interval(:days)",
    KEPT,
)

IMAGE_RULES = (
    Rule("sale_known", "sale_id is in table sales", "windows is null"),
    Rule("sale_usable", "the photo's sale was not set aside itself", "size(windows) = 0", NOT_COUNTED),
    Rule("image_uri_present", "image_uri is neither null nor empty", "coalesce(image_uri, '') = ''"),
    Rule(
        "position_valid",
        f"position is in 0..{MAX_IMAGES - 1}, 0 for the cover",
        f"position is null or position < 0 or position >= {MAX_IMAGES}",
    ),
)
IMAGE_COPY_RULES = (
    Rule("image_copy", "a row is there once; of equal rows one is used", "copy > 1 and is_equal", NOT_COUNTED),
    Rule("position_unique", "position is unique per sale; of duplicates the first image_uri is used", "copy > 1"),
)
USER_RULES = _id_rules("user_id")
USER_COPY_RULES = (
    Rule("user_copy", "a row is there once; of equal rows one is used", "copy > 1 and is_equal", NOT_COUNTED),
    Rule("user_id_unique", "user_id is unique; of duplicates one is used", "copy > 1"),
)

SALE_OPEN = Rule(
    "sale_open",
    "a sale is open in the night's horizon",
    "opens_at >= timestamp_micros(:until) or closes_at <= timestamp_micros(:as_of)",
    KEPT,
)


class Activity(NamedTuple):
    """Who acts in the usable events of a source, and until when."""

    events: int
    users: int
    last: int | None
    """The instant of the last event, microseconds UTC; None if there is none."""
    large: dict[str, int]
    """Number of events of each user_id with at least LARGE_SHARE of them and MANY_EVENTS."""


def counts_of_events(found: Activity, as_of: int, days: int) -> list[RuleCount]:
    """Return the counts of the rules for a whole log: an id that may be no person, a log that ended.

    Args:
        found: From the usable events.
        as_of: The instant of the night, microseconds UTC.
        days: Length of the histories.
    """
    large = {name: n for name, n in found.large.items() if n * found.users >= MANY_TIMES * found.events}
    most = sorted(large.items(), key=lambda item: (-item[1], item[0]))[:3]
    names = tuple(f"{name!r} has {n:,} of {found.events:,} events" for name, n in most)
    has_ended = found.last is None or found.last < as_of - days * DAY
    ended = (max(found.events, 1), (describe_end(found.last),)) if has_ended else (0, ())
    return [
        RuleCount(EVENTS.name, USER_ID_USUAL, found.events, sum(large.values()), names),
        RuleCount(EVENTS.name, EVENTS_RECENT, found.events, *ended),
    ]


def count_of_open_sales(catalogue: Catalogue, as_of: int, hours: float, last: int | None) -> RuleCount:
    """Return the count of the rule that a sale is open in a horizon; if none is, all sales break it.

    Args:
        catalogue: The usable sales.
        as_of: Start of the horizon, microseconds UTC.
        hours: Its length.
        last: The instant of the last event, microseconds UTC; None if there is none.
    """
    rows = len(catalogue)
    if catalogue.with_open_sales([as_of], hours):
        return RuleCount(SALES.name, SALE_OPEN, rows, 0)
    start, end, last_closes = map(from_micros, (as_of, as_of + int(hours * HOUR), catalogue.closes_at.max()))
    why = (
        f"no sale is open in [{start:%Y-%m-%d %H:%M}, {end:%Y-%m-%d %H:%M}) UTC, the last one closes at "
        f"{last_closes:%Y-%m-%d %H:%M}; {describe_end(last)}; otherwise add today's sales to the source, or give "
        "another --as-of"
    )
    return RuleCount(SALES.name, SALE_OPEN, rows, rows, (why,))


def describe_end(last: int | None) -> str:
    """Say when the last event was, and how to run a night of past data.

    Args:
        last: The instant of the last event, microseconds UTC; None if there is none.
    """
    if last is None:
        return "no event can be used"
    day, next_day = from_micros(last), from_micros(last - last % DAY + DAY)
    return (
        f"the last event is of {day:%Y-%m-%d}: for data of the past set 'as_of: {next_day:%Y-%m-%dT%H:%M:%SZ}' and "
        "'serving.clock: replay'"
    )


def as_sent_by_the_public(rules: Iterable[Rule]) -> tuple[Rule, ...]:
    """Return rules for events that the service recorded: who sends them must not be able to stop a night."""
    return tuple(replace(rule, action=NOT_COUNTED) if rule.action == SET_ASIDE else rule for rule in rules)


def names_of(rules: Iterable[Rule], *actions: str) -> list[str]:
    """Return the names of the rules with one of the actions."""
    return [rule.name for rule in rules if rule.action in actions]


def check_counts(counts: list[RuleCount], max_rejected_share: float, events_of_shop: int | None = None) -> None:
    """Check that the rows of the shop's own tables can be used; what the public sent refuses no source.

    Args:
        counts: Of all tables.
        max_rejected_share: Largest share of a table's rows that may be broken by themselves, in [0, 1].
        events_of_shop: Number of rows of table events that the service did not record; all of them if None.

    Raises:
        EmptyInputError: If table sales has no usable row, or the data end in the past: no sale is open, and no event is
            in the history window.
        RejectedRowsError: If too large a share of a table's rows is set aside and counted.
    """
    for table in (SALES, SALE_IMAGES, EVENTS, USERS):
        of_table = [count for count in counts if count.table == table.name]
        if not of_table:
            continue
        rows = of_table[0].rows if table is not EVENTS or events_of_shop is None else events_of_shop
        counted = [count for count in of_table if count.rule.action == SET_ASIDE]
        aside = sum(count.broken for count in counted)
        if aside > max_rejected_share * rows:
            worst = max(counted, key=lambda count: count.broken)
            raise RejectedRowsError(
                f"table {table.name}: {aside:,} of {rows:,} rows break a rule, must be at most "
                f"{max_rejected_share:.2%} (source.max_rejected_share); most break '{worst.rule.name}' "
                f"({worst.rule.meaning}): {plural(worst.broken, 'row')}, such as {(worst.examples or ('',))[0][:300]}: "
                "correct the source, or allow a larger share"
            )
        if table is SALES and rows == sum(count.broken for count in of_table if count.rule.action != KEPT):
            broken = [f"{count.broken:,} break '{count.rule.name}'" for count in of_table if count.broken]
            raise EmptyInputError(
                f"table {table.name} has 0 rows that can be used, needs at least 1 "
                f"({', '.join(broken) or 'the source has none'}): check the source's path and SQL, and --as-of"
            )
    broken_rules = {count.rule: count for count in counts if count.broken and count.rows}
    if {SALE_OPEN, EVENTS_RECENT} <= broken_rules.keys():  # a shop may be closed today, but this one ended long ago
        raise EmptyInputError(broken_rules[SALE_OPEN].examples[0])


def summary(counts: Iterable[RuleCount]) -> str:
    """Return in one line the numbers of rows that are set aside, not counted, and not known yet, without zeros."""
    counts = list(counts)
    totals = {
        action: sum(count.broken for count in counts if count.rule.action == action)
        for action in (SET_ASIDE, NOT_COUNTED, NOT_YET)
    }
    parts = [f"{plural(totals[SET_ASIDE], 'row')} set aside"]
    if totals[NOT_COUNTED]:
        reasons: dict[str, int] = {}
        for count in counts:
            if count.rule.action == NOT_COUNTED and count.broken:
                name = f"{RECORDED_EVENTS}.{count.rule.name}" if count.table == RECORDED_EVENTS else count.rule.name
                reasons[name] = reasons.get(name, 0) + count.broken
        why = ", ".join(f"{broken:,} {name}" for name, broken in sorted(reasons.items(), key=lambda each: -each[1]))
        parts.append(f"{totals[NOT_COUNTED]:,} more without harm ({why})")
    if totals[NOT_YET]:
        parts.append(f"{plural(totals[NOT_YET], 'event')} not known yet")
    return ", ".join(parts)
