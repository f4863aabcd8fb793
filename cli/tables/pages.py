"""Home pages and withdrawn sales, printed to a terminal."""

from collections.abc import Iterable, Iterator

from recommendations.v1 import admin_pb2 as admin_pb
from recommendations.v1 import recommendations_pb2 as pb

from recsys.console import TextConsole, TextTable
from recsys.reports.wording import UNKNOWN
from serving.origin import origin

_CONTRIBUTIONS = (
    "What each feature adds to the log-odds of a purchase, compared with its mean: +0.69 doubles the odds, -0.69 "
    "halves them."
)


def print_top_sales(
    user_id: str, response: pb.GetTopSalesResponse, console: TextConsole, explain: bool = False
) -> None:
    """Print a home page: a line about its origin, a table of its sales, their contributions if asked for, and notes."""
    console.print(origin(user_id, response))
    if response.fallback_reason:
        console.print(response.fallback_reason, style="yellow")
    if response.sales:
        console.print(_sales_table(response))
    if explain and any(sale.contributions for sale in response.sales):
        console.print("", *_contribution_tables(response), "", _CONTRIBUTIONS)
    for note in [*response.notes, *(f"Rule {name!r} changed this page." for name in response.rules)]:
        console.print(note, style="yellow")
    if response.shortfall_reason:
        console.print(response.shortfall_reason, style="yellow")


def _sales_table(response: pb.GetTopSalesResponse) -> TextTable:
    has_photos = any(sale.image_uri for sale in response.sales)
    table = TextTable()
    table.add_column("#", justify="right", no_wrap=True)
    table.add_column("sale", overflow="fold")
    table.add_column("title", overflow="fold", ratio=2)
    if has_photos:
        table.add_column("photo", overflow="fold")
    table.add_column("closes in", justify="right", min_width=7, overflow="fold")
    table.add_column(
        "probability" if any(sale.HasField("probability") for sale in response.sales) else "score",
        justify="right",
        min_width=6,
        overflow="fold",
    )
    table.add_column("why", overflow="fold", ratio=2)
    for sale in response.sales:
        seconds = sale.close_time.seconds - response.answer_time.seconds
        photo = [_file_name_of(sale.image_uri)] if has_photos else []
        cells = [str(sale.rank), sale.sale_id, sale.title, *photo, _format_duration(seconds), _format_score(sale)]
        table.add_row(*cells, sale.reason_text)
    return table


def _contribution_tables(response: pb.GetTopSalesResponse) -> Iterator[TextTable | str]:
    """Yield what each feature adds to the log-odds of each sale, largest first, and what the features are."""
    from recsys.backtest.coefficients import WORDS

    added = [{each.feature: each.log_odds for each in sale.contributions} for sale in response.sales]
    largest: dict[str, float] = {}
    for feature, log_odds in (pair for each in added for pair in each.items()):
        largest[feature] = max(abs(log_odds), largest.get(feature, 0.0))
    table = TextTable("feature", *(f"#{sale.rank}" for sale in response.sales), labels=1)
    words = TextTable("feature", "what it is")
    for feature in sorted(largest, key=lambda name: (-largest[name], name)):
        figures = (f"{each[feature]:+.2f}" if feature in each else UNKNOWN for each in added)
        table.add_row(feature, *figures)
        words.add_row(feature, WORDS.get(feature, UNKNOWN))
    yield from (table, "", words)


def _file_name_of(uri: str) -> str:
    return uri.rstrip("/").rpartition("/")[2]


def _format_score(sale: pb.RankedSale) -> str:
    if sale.HasField("probability"):
        return f"{sale.probability:.2%}"
    return f"{sale.score:.3g}" if sale.HasField("score") else "–"


def _format_duration(seconds: int) -> str:
    minutes = seconds // 60
    if minutes < 60:
        return f"{minutes}m"
    if minutes < 48 * 60:
        return f"{minutes // 60}h {minutes % 60}m"
    return f"{minutes // (24 * 60)}d {minutes // 60 % 24}h"


def print_withdrawn_sales(sales: Iterable[admin_pb.WithdrawnSale], console: TextConsole) -> None:
    """Print the sales that are closed or hidden."""
    table = TextTable("sale", "state", "since", "until", "by", "reason")
    for sale in sales:
        until = f"{sale.until_time.ToDatetime():%Y-%m-%d %H:%M}" if sale.HasField("until_time") else ""
        since = f"{sale.since_time.ToDatetime():%Y-%m-%d %H:%M}"
        cells = [sale.sale_id, "closed" if sale.closed else "hidden", since, until, sale.by, sale.comment]
        table.add_row(*cells)
    console.print(table if table.row_count else "No sale is closed or hidden.")
