"""Versions of taggers in the registry, and what a change of version does, printed to a terminal."""

from collections.abc import Sequence

from jobs.lab.compare_taggers import Drift
from jobs.registry.taggers import TaggerVersion
from recsys.console import TextConsole, TextTable
from recsys.wording import plural

LABELS = 20
"""Labels of a drift that are printed."""


def print_versions(found: Sequence[TaggerVersion], taxonomy: str, console: TextConsole) -> None:
    """Print the versions of a tagger, newest first."""
    if not found:
        console.print(f"Tagger {taxonomy} has no version yet: train one with 'recsys tagger train {taxonomy}'.")
        return
    names = sorted(set().union(*(each.metrics for each in found)))
    table = TextTable("version", "alias", "registered (UTC)", *names, "files", labels=3)
    for each in found:
        metrics = [f"{each.metrics[name]:.3f}" if name in each.metrics else "" for name in names]
        table.add_row(each.number, ", ".join(each.aliases), f"{each.created_at:%Y-%m-%d %H:%M}", *metrics, each.version)
    console.print(table)


def print_drift(drift: Drift, console: TextConsole) -> None:
    """Print how many photos change their label, and the labels that most photos change from or to."""
    console.print(
        f"{drift.changed:,} of {plural(drift.photos, 'photo')} of the shop change their label ({drift.share:.1%})."
    )
    if not drift.changed:
        return
    table = TextTable("label", "photos before", "after", "keep it", labels=1)
    moved = sorted(drift.by_label.items(), key=lambda item: item[1][2] - max(item[1][:2]))
    for label, (before, after, kept) in moved[:LABELS]:
        table.add_row(label or "(none)", f"{before:,}", f"{after:,}", f"{kept:,}")
    console.print(table)
    if len(moved) > LABELS:
        console.print(f"… and {plural(len(moved) - LABELS, 'further label')}")
