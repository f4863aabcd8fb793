"""The result of a check for leaks, printed to a terminal."""

from collections.abc import Mapping
from typing import Any

from recsys.console import Line, TextConsole, TextTable, line
from recsys.wording import plural


def print_leaks(result: Mapping[str, Any], console: TextConsole) -> None:
    """Print one row per feature: values compared, values that differ in each world, and the largest difference.

    Then examples of differences, and warnings of what no world shows.
    """
    window, rows = result["window"], result["features"]
    users = ", ".join(f"{instant} ({plural(count, 'user')})" for instant, count in window["users"].items())
    console.print(f"Features as of {users}, recomputed after all later data was changed, deleted or shuffled:")
    worlds = list(dict.fromkeys(row["world"] for row in rows))
    table = TextTable("feature", "values", *(f"differ: {world}" for world in worlds), "largest difference", labels=1)
    for feature in dict.fromkeys(row["feature"] for row in rows):
        of_feature = [row for row in rows if row["feature"] == feature]
        largest = max(row["largest"] for row in of_feature)
        table.add_row(feature, f"{of_feature[0]['compared']:,}", *map(_number_differing, of_feature), f"{largest:.2g}")
    console.print(table)
    for row in rows:
        if row["example"]:
            console.print(_example_sentence(row), style="red")
    console.print(
        f"Values differ if the difference (above 1, the relative one) is more than {window['tolerance']:g}: sums of "
        "float32 depend on their order."
    )
    for warning in result["warnings"]:
        console.print(f"Warning: {warning}", style="yellow")
    if window["note"]:
        console.print(f"Note: {window['note']}", style="yellow")


def _number_differing(row: Mapping[str, Any]) -> Line:
    return line((f"{row['moved']:,}", "bold red" if row["moved"] else "green"))


def _example_sentence(row: Mapping[str, Any]) -> str:
    example = row["example"]
    after = "nothing" if example["after"] is None else f"{example['after']:.6g}"
    return (
        f"{row['feature']}, {row['world']}: as of {example['as_of']} for user {example['user_id']} and sale "
        f"{example['sale_id']} {example['before']:.6g} became {after}"
    )
