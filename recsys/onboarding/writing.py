"""The text of a shop's configuration and SQL files, with a comment on each guess."""

import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from recsys.config.pipeline import RawTable
from recsys.instants import DAY, from_micros
from recsys.onboarding.columns import Column, Kind, is_cart
from recsys.onboarding.guesses import EVENTS, IMAGES, SALES, USERS, Guess
from recsys.snapshot.format import MAX_IMAGES
from recsys.wording import listed, visible

_WIDTH = 120
_JAVA_CHARSETS = "spark.sql.legacy.javaCharsets"
_CHARSETS_OF_SPARK = ("ISO-8859-1", "UTF-16")


@dataclass(frozen=True)
class Plan:
    """What is written: which column is what, in which form, and what was counted."""

    name: str
    raw: Mapping[str, RawTable]
    """The raw tables by name."""
    files: Mapping[str, str]
    """Name of the raw table from which each table is selected."""
    guesses: Mapping[str, Guess]
    """By the key of the role, such as 'sales.title'."""
    sale_attributes: Mapping[str, Column]
    user_attributes: Mapping[str, Column]
    zone: str = "UTC"
    """Zone of the instants that do not say their own."""
    every_kind: Kind = "purchase"
    """Kind of each row of events without a column of kinds."""
    kinds: Mapping[str, Kind] = field(default_factory=dict)
    """Kind by value of the column of kinds."""
    conditions: Mapping[str, str] = field(default_factory=dict)
    """Conditions in SQL that an event must satisfy, with what they leave out in words."""
    has_copies: bool = False
    """Whether a sale's id is in several rows."""
    margin_days: int = 1
    """Days for which a sale without a closing time is open after its last event."""
    last_event: int | None = None
    """Instant of the last event of a shop of the past, microseconds UTC; None for one that goes on."""
    images_root: str | None = None
    notes: tuple[str, ...] = ()
    """What was found out about the files, in words."""

    def column(self, key: str) -> Column | None:
        """Return the column of a role; None if there is none."""
        return self.guesses[key].column if key in self.guesses else None

    @property
    def has_kinds(self) -> bool:
        """Whether a column says what the user did."""
        return self.column("events.kind") is not None

    @property
    def missing_windows(self) -> list[str]:
        """Names of the ends of sales' windows that are derived from events."""
        return [name for name in ("opens_at", "closes_at") if not self.column(f"sales.{name}")]

    def sql(self, key: str) -> str:
        """Return the SQL of a role's column in the type of the table; of a role that has a column."""
        column = self.column(key)
        assert column is not None
        role = key.partition(".")[2]
        if role in ("sale_id", "user_id", "kind"):
            return column.id_sql
        if column.instants and role.endswith("_at"):
            timestamp = column.instants.sql.replace("{}", column.sql)
            is_local = not column.instants.has_zone and self.zone != "UTC"
            return f"to_utc_timestamp({timestamp}, '{self.zone}')" if is_local else timestamp
        if column.numbers and role in ("price", "revenue", "quantity", "position"):
            return column.numbers.sql.replace("{}", column.sql)
        return column.sql


@dataclass(frozen=True)
class EventCounts:
    """Counts of all rows of the events' files."""

    rows: int
    kinds: dict[str, int]
    """Number of rows of each kind, most frequent first; empty if there is no column of kinds."""
    first: int
    last: int
    """Instants of the first and the last event that is not in the future, microseconds UTC."""
    without_user: int
    without_sale: int
    returns: int
    """Rows whose quantity is not positive."""
    placeholders: tuple[str, ...]
    """Ids such as 'unknown', which are no user's."""


def configuration(plan: Plan) -> str:
    """Return the text of conf/NAME.yaml."""
    lines = [
        f"# Shop {plan.name}: written by `recsys init`, which guessed; correct what is wrong. Every key is described in",
        "# recsys/config/settings.py, all others are those of base.yaml.",
        "extends: base.yaml",
        f"folder: var/{plan.name}                       # everything is written below it",
    ]
    lines += _comment(plan.notes, "# ")
    if plan.missing_windows:
        lines += [
            "note: >-",
            *textwrap.wrap(note_on_windows(plan), _WIDTH, initial_indent="  ", subsequent_indent="  "),
        ]
    if plan.last_event is not None:
        midnight = from_micros(plan.last_event - plan.last_event % DAY + DAY)
        lines.append(
            f"as_of: {midnight:%Y-%m-%dT%H:%M:%SZ}   # the midnight after the last event, {_instant(plan.last_event)}; "
            "delete it once events arrive daily"
        )
    lines += ["", "source:", f"  sql: conf/sources/{plan.name}", "  raw:"]
    for name, raw in plan.raw.items():
        values: dict[str, Any] = raw.model_dump(exclude_defaults=True)
        lines.append(f"    {name}: {_flow(values)}")
    if plan.images_root is not None:
        lines += ["", f"images: {_flow({'root': plan.images_root})}   # photos are read below it"]
    if plan.missing_windows:
        without = [{"opens_at": "hours_open", "closes_at": "hours_left"}[name] for name in plan.missing_windows]
        lines += [
            "",
            "recommenders:",
            f"  without: [{', '.join(without)}]   # they would tell the model when the sale's events come",
        ]
    encodings = {raw.options["encoding"] for raw in plan.raw.values() if "encoding" in raw.options}
    if encodings.difference(_CHARSETS_OF_SPARK):
        lines += ["", f'spark: {{conf: {{{_JAVA_CHARSETS}: "true"}}}}   # for {listed(sorted(encodings), "and")}']
    if plan.last_event is not None:
        lines += ["", "serving: {clock: replay}   # the service starts on the morning after as_of"]
    return "\n".join(lines) + "\n"


def spark_conf(plan: Plan) -> dict[str, str]:
    """Return what Spark must be told to read the files."""
    encodings = {raw.options["encoding"] for raw in plan.raw.values() if "encoding" in raw.options}
    return {_JAVA_CHARSETS: "true"} if encodings.difference(_CHARSETS_OF_SPARK) else {}


def note_on_windows(plan: Plan) -> str:
    """Return what is to be known about windows that are derived from events."""
    ends = {
        "opens_at": "opens at its first event",
        "closes_at": f"closes {_days(plan.margin_days)} after its last event",
    }
    return (
        f"A sale {listed([ends[name] for name in plan.missing_windows], 'and')}: such windows look ahead, as which sales are "
        "open on a day depends on later events, and a backtest flatters."
    )


def sql_files(plan: Plan) -> dict[str, str]:
    """Return the text of each SQL file by its name."""
    texts = {"sales.sql": _sales(plan), "events.sql": _events(plan)}
    if USERS in plan.files:
        texts["users.sql"] = _users(plan)
    if IMAGES in plan.files:
        texts["sale_images.sql"] = _images(plan)
    return texts


def conditions(counts: EventCounts) -> dict[str, str]:
    """Return conditions for the rows that are events of a user, with what each leaves out; none that leaves out nothing."""
    share = f"of the {counts.rows:,} rows"
    named = f"user_id not in ({', '.join(map(_literal, counts.placeholders))})"
    found = {
        "trim(user_id) <> ''": (counts.without_user, f"{counts.without_user / counts.rows:.2%} {share} have no user"),
        "trim(sale_id) <> ''": (counts.without_sale, f"{counts.without_sale / counts.rows:.2%} {share} have no sale"),
        "coalesce(quantity, 1) > 0": (counts.returns, f"{counts.returns / counts.rows:.2%} {share} are returns"),
        named: (len(counts.placeholders), "ids that systems write where they know no user"),
    }
    return {sql: words for sql, (n, words) in found.items() if n}


def events_of(plan: Plan) -> str:
    """Return the SQL that selects events as the files have them: user_id, sale_id, occurred_at and those there are of
    kind, recorded_at, quantity and revenue."""
    keys = ["user_id", "sale_id", "kind", "occurred_at", "recorded_at", "quantity", "revenue"]
    columns = [_named(plan, f"{EVENTS}.{name}") for name in keys if plan.column(f"{EVENTS}.{name}")]
    if not plan.column("events.revenue") and plan.column("events.quantity") and plan.column("events.price"):
        revenue = f"{plan.sql('events.quantity')} * {plan.sql('events.price')} as revenue"
        columns.append(_expression(revenue, ["revenue: pieces times price"]))
    return f"select\n{_joined(columns)}\nfrom {{{plan.files[EVENTS]}}}"


def condition(plan: Plan) -> str:
    """Return the SQL condition that leaves out rows that are no events of a user, '' if there are none."""
    conditions = dict(plan.conditions)
    if ignored := [value for value, kind in plan.kinds.items() if kind == "neither"]:
        words = f"{listed([visible(each) for each in ignored], 'and')}: neither visits nor purchases"
        conditions[f"coalesce(kind, '') not in ({', '.join(map(_literal, ignored))})"] = words
    lines: list[str] = []
    for number, (each, words) in enumerate(conditions.items()):
        lines += [*_comment([words], "    -- "), f"    {'and ' if number else ''}{each}"]
    return "where\n" + "\n".join(lines) if lines else ""


def _events(plan: Plan) -> str:
    if plan.has_kinds:
        carts = [visible(value) for value, kind in plan.kinds.items() if kind == "visit" and is_cart(value)]
        comments = [f"{listed(carts, 'and')}: a cart counts as a visit"] if carts else []
        whens = "\n".join(
            f"        when {_literal(value)} then '{kind}'" for value, kind in plan.kinds.items() if kind != "neither"
        )
        comments.append("a value that is not listed keeps its name, so that validation reports it")
        kind = _expression(f"case kind\n{whens}\n        else kind\n    end as kind", comments)
    else:
        kind = _expression(f"'{plan.every_kind}' as kind", ["kind: no column says what the user did"])
    columns = ["    user_id", "    sale_id", kind, "    occurred_at"]
    columns += ["    recorded_at"] if plan.column("events.recorded_at") else []
    text = events_of(plan)
    if " as revenue" in text or plan.column("events.revenue"):
        bought = [_literal(value) for value, kind in plan.kinds.items() if kind == "purchase"]
        mixed = plan.has_kinds and any(kind == "visit" for kind in plan.kinds.values())
        columns.append(
            f"    case when kind in ({', '.join(bought)}) then revenue end as revenue"
            if mixed and bought
            else "    revenue"
        )
    parts = [
        "-- One row per event. Written by `recsys init`, which guessed: correct what is wrong.",
        f"with named as (\n{textwrap.indent(text, '    ')}\n)",
        f"select\n{_joined(columns)}\nfrom named",
        condition(plan),
    ]
    return "\n".join(part for part in parts if part) + "\n"


def _sales(plan: Plan) -> str:
    column, missing = plan.column, plan.missing_windows
    columns = [_named(plan, "sales.sale_id")]
    columns += [_named(plan, f"sales.{name}") for name in ("opens_at", "closes_at") if name not in missing]
    columns += [_title(plan)]
    columns += [_named(plan, f"sales.{name}") for name in ("description", "price") if column(f"sales.{name}")]
    columns += [_attributes(plan.sale_attributes, "sale")]
    texts = [name for name in ("description", "price") if column(f"sales.{name}")]
    is_same_file = plan.files[SALES] == plan.files[EVENTS]
    merges = plan.has_copies and bool(missing)
    if merges and is_same_file:
        columns.append(f"    {plan.sql('events.occurred_at')} as occurred_at")
    named = f"select\n{_joined(columns)}\nfrom {{{plan.files[SALES]}}}"
    header = "-- One row per sale. Written by `recsys init`, which guessed: correct what is wrong."
    kept = [name for name in ("opens_at", "closes_at") if name not in missing]
    values = [*kept, "title", *texts, "attributes"]
    if not missing:
        return f"{header}\n{named}\n"
    parts = [
        header,
        "\n".join(_comment([note_on_windows(plan)], "-- ")),
        f"with named as (\n{textwrap.indent(named, '    ')}\n)",
    ]
    rows = "named"
    if merges:
        order = [
            "title = sale_id",
            *(["price <= 0"] if "price" in texts else []),
            *(["occurred_at"] if is_same_file else []),
        ]
        order += [*kept, "title", *texts]
        first = f"min_by(\n            struct({', '.join(values)}),\n            struct({', '.join(order)})\n        )"
        parts[-1] += (
            f", one_per_id as (\n    -- of the rows of an id, the first with a title\n    select\n        sale_id,\n"
            f"        {first} as first_row\n    from named\n    group by sale_id\n), sales as (\n    select sale_id, first_row.* from one_per_id\n)"
        )
        rows = "sales"
    events = f"from (\n{textwrap.indent(_bare(events_of(plan)), '    ')}\n)\n{_bare(condition(plan))}".rstrip()
    windows = f"select sale_id, min(occurred_at) as first_event_at, max(occurred_at) as last_event_at\n{events}\ngroup by sale_id"
    parts[-1] += f", windows as (\n{textwrap.indent(windows, '    ')}\n)"
    margin = f"interval {plan.margin_days} day"
    opens = "first_event_at as opens_at" if "opens_at" in missing else "opens_at"
    closes = f"last_event_at + {margin} as closes_at" if "closes_at" in missing else "closes_at"
    join = "inner join windows using (sale_id)  -- a sale without an event has no window"
    if missing == ["closes_at"]:
        closes = f"greatest(last_event_at, opens_at) + {margin} as closes_at"
        join = "left join windows using (sale_id)"
    elif missing == ["opens_at"]:
        opens = "least(first_event_at, closes_at - interval 1 day) as opens_at"
        join = "left join windows using (sale_id)"
    selected = ["sale_id", opens, closes, "title", *texts, "attributes"]
    parts += [f"select\n{_joined(f'    {each}' for each in selected)}\nfrom {rows}\n{join}"]
    return "\n".join(parts) + "\n"


def _title(plan: Plan) -> str:
    guess, sale = plan.guesses["sales.title"], plan.sql("sales.sale_id")
    if guess.column is None:
        labels = [f"cast({each.sql} as string)" for each in plan.sale_attributes.values()][:2]
        return _expression(f"concat_ws(' ', {', '.join([*labels, sale])}) as title", [f"title: {guess.reason}"])
    if guess.column.missing:
        comment = f"title: {_said(guess)}; the id where it is empty"
        return _expression(f"coalesce({guess.column.sql}, {sale}) as title", [comment])
    return _named(plan, "sales.title")


def _users(plan: Plan) -> str:
    columns = [_named(plan, "users.user_id"), _attributes(plan.user_attributes, "user")]
    header = "-- One row per user. Written by `recsys init`, which guessed: correct what is wrong."
    return f"{header}\nselect\n{_joined(columns)}\nfrom {{{plan.files[USERS]}}}\n"


def _images(plan: Plan) -> str:
    columns = [_named(plan, "sale_images.sale_id"), _named(plan, "sale_images.image_uri")]
    position = plan.column("sale_images.position")
    if position and position.numbers:
        first = int(min(position.numbers.values))
        start = f" - {first}" if first else ""
        columns.append(
            _expression(
                f"cast({plan.sql('sale_images.position')}{start} as int) as position",
                [f"position: {_said(plan.guesses['sale_images.position'])}, from {first} on; 0 is the cover"],
            )
        )
        text = f"select\n{_joined(columns)}\nfrom {{{plan.files[IMAGES]}}}\n"
    else:
        sale, uri = plan.sql("sale_images.sale_id"), plan.sql("sale_images.image_uri")
        order = f"row_number() over (partition by {sale} order by {uri}) - 1"
        columns.append(_expression(f"{order} as position", ["position: in order of the addresses"]))
        text = (
            f"with numbered as (\n    select\n{textwrap.indent(_joined(columns), '    ')}\n    from {{{plan.files[IMAGES]}}}\n"
            f"    where {uri} is not null\n)\nselect sale_id, image_uri, cast(position as int) as position\nfrom numbered\n"
            f"where position < {MAX_IMAGES}\n"
        )
    return f"-- One row per photo of a sale. Written by `recsys init`, which guessed: correct what is wrong.\n{text}"


def _attributes(attributes: Mapping[str, Column], of: str) -> str:
    if not attributes:
        return _expression(
            "cast(map() as map<string, string>) as attributes", [f"no column describes the {of} in few values"]
        )
    pairs = ",\n            ".join(f"{_literal(name)}, cast({each.sql} as string)" for name, each in attributes.items())
    return _expression(
        f"map_filter(\n        map(\n            {pairs}\n        ),\n        (name, value) -> value is not null\n    ) as attributes",
        [f"columns with few values, one per {of}"],
    )


def _named(plan: Plan, key: str) -> str:
    name = key.partition(".")[2]
    sql, guess = plan.sql(key), plan.guesses[key]
    column, comments = guess.column, [f"{name}: {_said(guess)}"]
    if column and column.instants and name.endswith("_at") and not column.instants.has_zone:
        comments[0] += f"; without a zone, read as {plan.zone}: to_utc_timestamp(…, 'Europe/Paris') reads another"
    if column and column.numbers and "try_cast" in sql and name in ("price", "revenue", "quantity"):
        comments[0] += f"; {column.numbers.form}, other text is null"
    return _expression(sql if sql == name else f"{sql} as {name}", comments)


def _said(guess: Guess) -> str:
    return f"{guess.column.name if guess.column else 'none'}, {guess.reason}"


def _expression(sql: str, comments: Iterable[str]) -> str:
    return "\n".join([*_comment(comments, "    -- "), f"    {sql}"])


def _joined(columns: Iterable[str]) -> str:
    return ",\n".join(columns)


def _comment(texts: Iterable[str], start: str) -> list[str]:
    """Return texts as lines of comments that start with a sign; names from data cannot end one, nor name a raw table."""
    return [
        line
        for text in texts
        for line in textwrap.wrap(
            visible(text).replace("{", "{{").replace("}", "}}"), _WIDTH, initial_indent=start, subsequent_indent=start
        )
    ]


def _bare(sql: str) -> str:
    """Return SQL without the lines that are comments, which stand in another file already."""
    return "\n".join(line for line in sql.splitlines() if not line.lstrip().startswith("--"))


def _literal(text: str) -> str:
    """Return a text as a literal of SQL."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'").replace("{", "{{").replace("}", "}}")
    return f"'{escaped}'"


def _flow(value: Mapping[str, Any]) -> str:
    """Return a mapping in one line of YAML."""
    return yaml.safe_dump(
        dict(value), default_flow_style=True, allow_unicode=True, sort_keys=False, width=10_000
    ).strip()


def _instant(micros: int) -> str:
    return f"{from_micros(micros):%Y-%m-%d %H:%M} UTC"


def _days(n: int) -> str:
    return "a day" if n == 1 else f"{n} days"
