"""The result of a check for leaks, printed to a terminal."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from recsys.wording import plural


def print_leaks(result: Mapping[str, Any], console: Console) -> None:
    """Print one row per feature: values compared, values that differ in each world, and the largest difference.

    Then examples of differences, and warnings of what no world shows.
    """
    window, rows = result["window"], result["features"]
    users = ", ".join(f"{instant} ({plural(count, 'user')})" for instant, count in window["users"].items())
    console.print(f"Features as of {users}, recomputed after all later data was changed, deleted or shuffled:")
    worlds = list(dict.fromkeys(row["world"] for row in rows))
    table = Table(
        "feature", "values", *(f"differ: {world}" for world in worlds), "largest difference", box=None, pad_edge=False
    )
    for column in table.columns[1:]:
        column.justify = "right"
    for feature in dict.fromkeys(row["feature"] for row in rows):
        of_feature = [row for row in rows if row["feature"] == feature]
        largest = max(row["largest"] for row in of_feature)
        table.add_row(feature, f"{of_feature[0]['compared']:,}", *map(_number_differing, of_feature), f"{largest:.2g}")
    console.print(table)
    for row in rows:
        if row["example"]:
            console.print(Text(_example_sentence(row), "red"))
    console.print(
        f"Values differ if the difference (above 1, the relative one) is more than {window['tolerance']:g}: sums of "
        "float32 depend on their order."
    )
    for warning in result["warnings"]:
        console.print(Text(f"Warning: {warning}", "yellow"))
    if window["note"]:
        console.print(Text(f"Note: {window['note']}", "yellow"))


def _number_differing(row: Mapping[str, Any]) -> Text:
    return Text(f"{row['moved']:,}", "bold red" if row["moved"] else "green")


def _example_sentence(row: Mapping[str, Any]) -> str:
    example = row["example"]
    after = "nothing" if example["after"] is None else f"{example['after']:.6g}"
    return (
        f"{row['feature']}, {row['world']}: as of {example['as_of']} for user {example['user_id']} and sale "
        f"{example['sale_id']} {example['before']:.6g} became {after}"
    )
