"""Results of jobs, printed to a terminal."""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recsys.console import TextConsole, TextTable, line, stacked
from recsys.meta_model import LogisticModel
from recsys.reports.backtest.wording import boosted_advice, weakness_advice
from recsys.reports.wording import PRINTED_METRICS, UNKNOWN
from recsys.snapshot.publishing import Publisher
from recsys.storage.places import Place
from recsys.wording import plural

if TYPE_CHECKING:
    from recsys.images.themes.theme_choice import ThemeCount
    from recsys.images.themes.theme_map import Treatment

_LONGEST_EXAMPLE = 160
_STYLES = {"PASS": "green", "NOTE": "yellow", "FAIL": "bold red"}
_VARIETY = {"coverage": ".1%", "gini": ".3f", "novelty": ".2f"}
"""Format of each measure of how much of the shop a policy shows."""


def print_rules(rule_counts: Place, console: TextConsole) -> None:
    """Print every rule with PASS, NOTE or FAIL, the number of rows that break it, and a few of them.

    FAIL: rows are broken by themselves, and a source with too many is refused; NOTE: rows break the rule without harm.
    """
    counts = json.loads(rule_counts.read_text())
    table = TextTable("table", "rule", "result", "rows", "broken", "action")
    for count in counts:
        rule = count["rule"]
        verdict = result_of_rule(count)
        table.add_row(
            count["table"],
            rule["name"],
            line((verdict, _STYLES[verdict])),
            f"{count['rows']:,}",
            f"{count['broken']:,}",
            rule["action"],
        )
    console.print(table)
    for count in counts:
        if result_of_rule(count) != "PASS":
            rule = (f"{count['table']}.{count['rule']['name']}", "bold")
            console.print("", line(rule, f": {count['rule']['meaning']}; broken by:"))
            for example in count["examples"]:
                console.print(f"  {example[:_LONGEST_EXAMPLE]}{'…' if len(example) > _LONGEST_EXAMPLE else ''}")


def result_of_rule(count: Mapping[str, Any]) -> str:
    """Return PASS, NOTE or FAIL; an event that is not known yet breaks no rule."""
    if count["broken"] == 0 or count["rule"]["action"] == "not yet":
        return "PASS"
    return "FAIL" if count["rule"]["action"] == "set aside" else "NOTE"


def print_backtest(result: dict[str, Any], console: TextConsole) -> None:
    """Print one row per policy: each metric with the half-width of its 95 % interval, best ndcg@10 first."""
    window, meta = result["window"], result["policies"]["meta"]
    console.print(
        f"{window['from']} to {window['to']}: {plural(window['days'], 'day')}, {plural(window['pages'], 'page')} of"
        f" {plural(meta['users'], 'user')}; {window['model']}, trained on {window['trained_on']}"
    )
    console.print(_policies_table(result["policies"]))
    for policy, options in result.get("peers", {}).items():
        if options:
            console.print(f"{policy}: {options}")
    if advice := weakness_advice(result):
        console.print(advice, style="bold red")
    if "auc" in meta:
        console.print(
            f"meta-model on all sales open at a purchase: AUC {meta['auc']:.4f}, log-loss {meta['log_loss']:.5f}, "
            f"{meta['calibration']:.2f} predicted purchases per observed purchase"
        )
        shown, made = result["predicted"]["shown"], result["predicted"]["shown_made"]
        console.print(f"on a page of ten {shown:.2f} predicted and {made:.2f} observed purchases")
    if oracle := result.get("oracle"):
        ndcg, share = oracle["ndcg@10"], oracle["share"]
        console.print(
            f"oracle, ranking by the true tastes: ndcg@10 {ndcg['value']:.4f} ± {_half_width(ndcg):.4f}; "
            f"meta reaches {share['value']:.1%} of it, 95% interval {share['low']:.1%} to {share['high']:.1%}"
        )
    for pair, difference in result["differences"].items():
        ndcg = difference["ndcg@10"]
        console.print(f"{pair}: ndcg@10 {ndcg['value']:+.4f}, 95% interval {ndcg['low']:+.4f} to {ndcg['high']:+.4f}")
    if advice := boosted_advice(result):
        console.print(advice)
    if window["note"]:
        console.print(f"Note: {window['note']}", style="yellow")


def _policies_table(policies: Mapping[str, Any]) -> TextTable:
    """Return the table of policies, with coverage, Gini and novelty where they are known."""
    variety = [name for name in _VARIETY if any(metrics.get(name) is not None for metrics in policies.values())]
    table = TextTable("policy", *PRINTED_METRICS, *variety, labels=1)
    for name, metrics in sorted(policies.items(), key=lambda item: -item[1]["ndcg@10"]["value"]):
        cells = [f"{metrics[metric]['value']:.4f} ± {_half_width(metrics[metric]):.4f}" for metric in PRINTED_METRICS]
        cells += [UNKNOWN if metrics.get(each) is None else format(metrics[each], _VARIETY[each]) for each in variety]
        table.add_row(line((name, "bold" if name == "meta" else "")), *cells)
    return table


def print_tags(rows: Iterable[Mapping[str, Any]], console: TextConsole, total: int) -> Iterator[Mapping[str, Any]]:
    """Print the tags of each photo as they are found, or why it could not be tagged; yield the rows unchanged."""
    rejected = 0
    for row in rows:
        console.print(row["photo"], style="bold")
        if "tags" in row:
            for each in row["tags"]:
                console.print(f"  {each['probability']:6.1%}  {each['tag']}")
        else:
            rejected += 1
            console.print(f"  {row['detail'] or row['reason']}", style="red")
        yield row
    console.print(f"{total - rejected:,} of {plural(total, 'photo')} tagged, {rejected:,} set aside")


def print_themes(rows: list[dict[str, Any]], console: TextConsole) -> None:
    """Print themes, most frequent first: shares, strongest tags with their weights, example photos."""
    table = TextTable("id", "theme", "photos", "sales", "tags", "examples", padding=(0, 1, 1, 0))
    for row in sorted(rows, key=lambda row: -row["share_of_photos"]):
        tags = ", ".join(f"{each['tag']} {each['weight']:.0%}" for each in row["tags"])
        examples = stacked(line((Path(uri).name, "dim")) for uri in row["examples"])
        shares = (f"{row[share]:.1%}" for share in ("share_of_photos", "share_of_sales"))
        table.add_row(str(row["id"]), line((row["name"], "bold")), *shares, tags, examples)
    console.print(table)
    console.print("photos, sales: share whose strongest theme this is; tags: share of the theme's weight.")


def print_theme_counts(counts: "Iterable[ThemeCount]", console: TextConsole) -> None:
    """Print the measures of each number of themes, as they are computed."""
    columns = {"themes": 6, "unexplained": 11, "stability": 9, "coherence": 9, "rarest": 7}
    console.print("  ".join(f"{name:>{width}}" for name, width in columns.items()), style="bold")
    for count in counts:
        measures = (
            f"{count.error:.3f}",
            f"{count.stability:.3f}",
            f"{count.coherence:.3f}",
            f"{count.smallest_share:.2%}",
        )
        cells = zip((str(count.themes), *measures), columns.values(), strict=True)
        console.print("  ".join(f"{cell:>{width}}" for cell, width in cells))
    console.print(
        "unexplained: relative reconstruction error of the photos' tags; stability: similarity of the themes of two "
        "halves of the photos; coherence: how often a theme's tags occur together on photos, -1 to 1; rarest: share "
        "of photos of the rarest theme. Choose the largest number before stability and coherence fall, and set "
        "images.themes.themes to it."
    )


def print_treatments(treatments: "Iterable[Treatment]", console: TextConsole) -> None:
    """Print how well the map of each treatment keeps similar photos together."""
    columns = ("treatment", "trustworthiness", "same theme", "by chance", "same category", "by chance", "silhouette")
    table = TextTable(*columns)
    for each in treatments:
        quality = each.quality
        measures = (
            quality.trustworthiness,
            quality.same_theme,
            quality.same_theme_by_chance,
            quality.same_group,
            quality.same_group_by_chance,
            quality.silhouette,
        )
        table.add_row(each.name, *(UNKNOWN if each is None else f"{each:.3f}" for each in measures))
    console.print(table)


def print_model(model: Any, console: TextConsole) -> None:
    """Print the coefficients of a logistic regression, or the shares of gain of boosted trees, largest first."""
    is_linear = isinstance(model, LogisticModel)
    unit = "log-odds per standard deviation" if is_linear else "share of the gain of all splits"
    table = TextTable("feature", unit)
    for name, value in sorted(model.coefficients_by_feature.items(), key=lambda row: -abs(row[1])):
        table.add_row(name, f"{value:+.3f}" if is_linear else f"{value:.1%}")
    console.print(table)


def print_snapshots(publisher: Publisher, console: TextConsole) -> None:
    """Print the snapshots of a shop, newest first."""
    listed = publisher.listing()
    if not listed:
        console.print(f"No snapshot in {publisher.shared or publisher.root} yet: run 'recsys nightly'.")
        return
    table = TextTable("", "snapshot", "as of", "users", "sales", "MB", "made by", "published")
    for each in listed:
        table.add_row(
            "▸ served" if each.is_current else "",
            each.name,
            f"{each.as_of:%Y-%m-%d %H:%M}" if each.as_of else line((each.problem or "damaged", "red")),
            f"{each.n_users or 0:,}",
            f"{each.n_sales or 0:,}",
            f"{(each.n_bytes or 0) / 1e6:,.1f}",
            ", ".join(f"{name} {version}" for name, version in each.versions.items()),
            f"{each.published_at:%Y-%m-%d %H:%M}" if each.published_at else "",
        )
    console.print(table)


def _half_width(estimate: dict[str, float]) -> float:
    return (estimate["high"] - estimate["low"]) / 2
