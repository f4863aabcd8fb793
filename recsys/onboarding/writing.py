"""The text of a shop's configuration and SQL files, with a comment on each guess."""

import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from recsys.instants import DAY, from_micros
from recsys.onboarding.columns import Column, is_cart
from recsys.onboarding.guesses import Guess
from recsys.onboarding.plan import EventCounts, Plan
from recsys.onboarding.roles import IMAGES, SALES, USERS
from recsys.snapshot.format import MAX_IMAGES
from recsys.wording import listed, visible

_WIDTH = 120
_JAVA_CHARSETS = "spark.sql.legacy.javaCharsets"
_CHARSETS_OF_SPARK = ("ISO-8859-1", "UTF-16")


def configuration(plan: Plan) -> str:
    """Return the text of conf/NAME.yaml."""
    lines = [
        f"# Shop {plan.name}: written by `recsys init`, which guessed; correct what is wrong. Each key is described in",
        "# recsys/config/settings.py; those that are not here are those of base.yaml.",
        "extends: base.yaml",
        f"folder: {plan.folder}   # everything is written below it",
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
    days = "a day" if plan.margin_days == 1 else f"{plan.margin_days} days"
    ends = {"opens_at": "opens at its first event", "closes_at": f"closes {days} after its last event"}
    return (
        f"A sale {' and '.join(ends[name] for name in plan.missing_windows)}: such windows look ahead, as which sales "
        "are open on a day depends on later events, and a backtest flatters."
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
    """Return conditions for the rows that are events of a user, with what each of them leaves out."""
    share = f"of the {counts.rows:,} rows"
    named = f"user_id not in ({', '.join(map(_literal, counts.placeholders))})"
    found = {
        "trim(user_id) <> ''": (counts.without_user, f"{counts.without_user / counts.rows:.2%} {share} have no user"),
        "trim(sale_id) <> ''": (counts.without_sale, f"{counts.without_sale / counts.rows:.2%} {share} have no sale"),
        "coalesce(quantity, 1) > 0": (
            counts.returns,
            f"{counts.returns / counts.rows:.2%} {share} have no positive quantity, as returns",
        ),
        named: (len(counts.placeholders), "ids that systems write where they know no user"),
    }
    return {sql: words for sql, (n, words) in found.items() if n}


def events_of(plan: Plan) -> str:
    """Return the SQL that selects events as the files have them: user_id, sale_id, occurred_at, kind, and those there
    are of recorded_at, quantity and revenue; the rows of all files."""
    tables = plan.event_tables
    optional = ["recorded_at", "quantity", "revenue"]
    there = {table: {name for name in optional if _has(plan, table, name)} for table in tables}
    optional = [name for name in optional if any(name in there[table] for table in tables)]
    selects = []
    for table in tables:
        columns = [_named(plan, f"{table}.{name}") for name in ("user_id", "sale_id")]
        columns += [_kind(plan, table), _named(plan, f"{table}.occurred_at")]
        for name in optional:
            columns.append(_optional(plan, table, name) if name in there[table] else f"    null as {name}")
        selects.append(f"select\n{_joined(columns)}\nfrom {{{plan.files[table]}}}")
    return "\nunion all\n".join(selects)


def _has(plan: Plan, table: str, name: str) -> bool:
    return bool(plan.column(f"{table}.{name}") or (name == "revenue" and plan.column(f"{table}.price")))


def _kind(plan: Plan, table: str) -> str:
    if plan.column(f"{table}.kind"):
        return _named(plan, f"{table}.kind")
    kind = plan.every_kind.get(table, "purchase")
    return _expression(f"'{kind}' as kind", [f"kind: no column says what the user did; each row is a {kind}"])


def _optional(plan: Plan, table: str, name: str) -> str:
    if plan.column(f"{table}.{name}"):
        return _named(plan, f"{table}.{name}")
    price = plan.sql(f"{table}.price")
    if plan.column(f"{table}.quantity"):
        return _expression(f"{plan.sql(f'{table}.quantity')} * {price} as revenue", ["revenue: pieces times price"])
    return _expression(f"{price} as revenue", ["revenue: the price of one piece"])


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
    kind = "    kind"
    if plan.has_kinds:
        carts = [visible(value) for value, kind in plan.kinds.items() if kind == "visit" and is_cart(value)]
        comments = [f"{listed(carts, 'and')}: a cart counts as a visit"] if carts else []
        whens = "\n".join(
            f"        when {_literal(value)} then '{kind}'" for value, kind in plan.kinds.items() if kind != "neither"
        )
        comments.append("a value that is not listed keeps its name, so that validation reports it")
        kind = _expression(f"case kind\n{whens}\n        else kind\n    end as kind", comments)
    columns = ["    user_id", "    sale_id", kind, "    occurred_at"]
    if any(_has(plan, table, "recorded_at") for table in plan.event_tables):
        columns.append("    recorded_at")
    if any(_has(plan, table, "revenue") for table in plan.event_tables):
        bought = [_literal(value) for value, kind in plan.kinds.items() if kind == "purchase"]
        mixed = any(kind == "visit" for kind in plan.kinds.values())
        columns.append(
            f"    case when kind in ({', '.join(bought)}) then revenue end as revenue"
            if mixed and bought
            else "    revenue"
        )
    parts = [
        _header("event"),
        _with({"named": events_of(plan)}),
        f"select\n{_joined(columns)}\nfrom named",
        condition(plan),
    ]
    return "\n".join(part for part in parts if part) + "\n"


def _sales(plan: Plan) -> str:
    missing = plan.missing_windows
    kept = [name for name in ("opens_at", "closes_at") if name not in missing]
    texts = [name for name in ("description", "price") if plan.column(f"sales.{name}")]
    columns = [
        *(_named(plan, f"sales.{name}") for name in ("sale_id", *kept)),
        _title(plan),
        *(_named(plan, f"sales.{name}") for name in texts),
        _attributes(plan.sale_attributes, "sale"),
    ]
    header = _header("sale")
    from_file = f"from {{{plan.files[SALES]}}}"
    if not missing:
        return f"{header}\nselect\n{_joined(columns)}\n{from_file}\n"
    order = ["title = sale_id", *(["price <= 0"] if "price" in texts else []), *kept, "title", *texts]
    if plan.sales_are_of_events:
        columns.append(f"    {plan.sql('events.occurred_at')} as occurred_at")
        order.insert(-1 - len(texts), "occurred_at")
    ctes = {"named": f"select\n{_joined(columns)}\n{from_file}"}
    if plan.has_copies:
        row = f"struct({', '.join([*kept, 'title', *texts, 'attributes'])})"
        ctes["one_per_id"] = (
            "-- of the rows of an id, the first with a title\n"
            f"select\n    sale_id,\n    min_by(\n        {row},\n        struct({', '.join(order)})\n    ) as first_row"
            "\nfrom named\ngroup by sale_id"
        )
    ctes["windows"] = (
        "select sale_id, min(occurred_at) as first_event_at, max(occurred_at) as last_event_at\n"
        f"from (\n{textwrap.indent(_bare(events_of(plan)), '    ')}\n)\n{_bare(condition(plan))}\ngroup by sale_id"
    ).replace("\n\n", "\n")
    windows = {"opens_at": "opens_at", "closes_at": "closes_at"}
    join = "left join windows using (sale_id)"
    if missing == ["opens_at", "closes_at"]:
        windows["opens_at"] = "first_event_at as opens_at"
        windows["closes_at"] = f"last_event_at + interval {plan.margin_days} day as closes_at"
        join = "inner join windows using (sale_id)  -- a sale without an event has no window"
    elif missing == ["closes_at"]:
        windows["closes_at"] = f"greatest(last_event_at, opens_at) + interval {plan.margin_days} day as closes_at"
    else:
        windows["opens_at"] = "least(first_event_at, closes_at - interval 1 day) as opens_at"
    selected = ["sale_id", *windows.values(), "title", *texts, "attributes"]
    if plan.sales_are_of_events and len(plan.event_tables) > 1:
        join = "right join windows using (sale_id)  -- of the other events' sales only the id is known"
        selected[selected.index("title")] = "coalesce(title, sale_id) as title"
        selected[-1] = "coalesce(attributes, cast(map() as map<string, string>)) as attributes"
    rows = "(select sale_id, first_row.* from one_per_id)" if plan.has_copies else "named"
    return "\n".join(
        [
            header,
            *_comment([note_on_windows(plan)], "-- "),
            _with(ctes),
            f"select\n{_joined(f'    {each}' for each in selected)}",
            f"from {rows}",
            join,
            "",
        ]
    )


def _title(plan: Plan) -> str:
    guess, sale = plan.guesses["sales.title"], plan.sql("sales.sale_id")
    if guess.column is None:
        labels = [f"cast({each.sql} as string)" for each in plan.sale_attributes.values() if not each.numbers][:2]
        return _expression(f"concat_ws(' ', {', '.join([*labels, sale])}) as title", [f"title: {guess.reason}"])
    if guess.column.missing:
        comment = f"title: {_said(guess)}; the id where it is empty"
        return _expression(f"coalesce({guess.column.sql}, {sale}) as title", [comment])
    return _named(plan, "sales.title")


def _users(plan: Plan) -> str:
    columns = [_named(plan, "users.user_id"), _attributes(plan.user_attributes, "user")]
    return f"{_header('user')}\nselect\n{_joined(columns)}\nfrom {{{plan.files[USERS]}}}\n"


def _images(plan: Plan) -> str:
    columns = [_named(plan, "sale_images.sale_id"), _named(plan, "sale_images.image_uri")]
    header, from_file = _header("photo of a sale"), f"from {{{plan.files[IMAGES]}}}"
    position = plan.column("sale_images.position")
    if position and position.numbers:
        first = int(min(position.numbers.values))
        sql = f"cast({plan.sql('sale_images.position')}{f' - {first}' if first else ''} as int) as position"
        comment = f"position: {_said(plan.guesses['sale_images.position'])}, from {first} on; 0 is the cover"
        return f"{header}\nselect\n{_joined([*columns, _expression(sql, [comment])])}\n{from_file}\n"
    sale, uri = plan.sql("sale_images.sale_id"), plan.sql("sale_images.image_uri")
    order = f"row_number() over (partition by {sale} order by {uri}) - 1 as position"
    columns.append(_expression(order, ["position: in order of the addresses; 0 is the cover"]))
    numbered = f"select\n{_joined(columns)}\n{from_file}\nwhere {uri} is not null"
    return (
        f"{header}\n{_with({'numbered': numbered})}\nselect sale_id, image_uri, cast(position as int) as position\n"
        f"from numbered\nwhere position < {MAX_IMAGES}\n"
    )


def _attributes(attributes: Mapping[str, Column], of: str) -> str:
    if not attributes:
        nothing = "cast(map() as map<string, string>) as attributes"
        return _expression(nothing, [f"no column describes the {of} in few values"])
    pairs = [f"        {_literal(name)}, cast({each.sql} as string)" for name, each in attributes.items()]
    values = f"map(\n{_joined(f'    {each}' for each in pairs)}\n        )"
    sql = f"map_filter(\n        {values},\n        (name, value) -> value is not null\n    ) as attributes"
    return _expression(sql, [f"columns with few values, one per {of}"])


def _header(of: str) -> str:
    return f"-- One row per {of}. Written by `recsys init`, which guessed: correct what is wrong."


def _with(tables: Mapping[str, str]) -> str:
    """Return the start of a query that names tables."""
    return "with " + ", ".join(f"{name} as (\n{textwrap.indent(sql, '    ')}\n)" for name, sql in tables.items())


def _named(plan: Plan, key: str) -> str:
    name = key.partition(".")[2]
    sql, guess = plan.sql(key), plan.guesses[key]
    column, comments = guess.column, [f"{name}: {_said(guess)}"]
    if column and column.instants and name.endswith("_at") and not column.instants.has_zone:
        other = "; for another write to_utc_timestamp(…, 'Europe/Paris')" if plan.zone == "UTC" else ""
        comments[0] += f"; without a zone, read as {plan.zone}{other}"
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
    """Return texts as lines of comments that start with a sign; names from data neither end one nor name a table."""
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
