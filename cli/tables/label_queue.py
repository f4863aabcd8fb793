"""Photos to label next, and what choosing them saves, printed to a terminal."""

from typing import Any

import numpy as np

from recsys.console import TextConsole, TextTable, line
from recsys.images.lab.active_learning import STABLE, STOPPING_ROUNDS, Estimate, Simulation
from recsys.images.lab.label_queue import Queue

_SHOWN = 10


def print_queue(queue: Queue, console: TextConsole) -> None:
    """Print the first photos of a queue, and whether further labels are worth it."""
    table = TextTable("photo", "nearest labelled", "score", "U", "I", "D", labels=2)
    for row in queue.rows[:_SHOWN]:
        near = ", ".join(
            f"{' '.join(each['labels']) or 'none of these'} {each['cosine']:.2f}" for each in row["nearest"]
        )
        table.add_row(row["image_uri"], near or "-", *(f"{row[name]:.3f}" for name in ("score", "U", "I", "D")))
    console.print(table)
    if len(queue.rows) > _SHOWN:
        console.print(line((f"… {len(queue.rows) - _SHOWN:,} more in the file", "dim")))
    console.print(f"{len(queue.rows):,} of {queue.n_open:,} photos without a label.", queue.advice)


def print_simulation(simulation: Simulation, console: TextConsole) -> None:
    """Print the labels that each strategy needs, and where labelling could have stopped."""
    table = TextTable("strategy", "labels to 90 %", "x random", "95 % interval", labels=1)
    for name in simulation.accuracy:
        ratio, needed = simulation.labels_against_random(name), simulation.labels_needed(name).mean()
        known = np.isfinite(needed)
        table.add_row(
            name,
            f"{needed:,.0f}" if known else f"over {simulation.n_labels[-1]:,}",
            f"{ratio.value:.2f}" if np.isfinite(ratio.value) else "-",
            _interval(ratio) if np.isfinite(ratio.value) else "-",
        )
    console.print(f"Accuracy with all labels: {simulation.with_all.mean():.3f}. Labels to reach 90 % of it:", table)
    stops, accuracy = simulation.stops()
    if np.isfinite(stops).all():
        reached = float((accuracy / simulation.with_all).mean())
        told = f"after {stops.mean():,.0f} labels, with {reached:.0%} of the accuracy"
    else:
        told = f"not before {simulation.n_labels[-1]:,} labels in all runs"
    console.print(f"{STOPPING_ROUNDS} batches change under {STABLE:.0%} of the predictions in the mean {told}.")


def simulation_rows(simulation: Simulation) -> list[dict[str, Any]]:
    """Return a row per strategy and number of labels: accuracy with its interval."""
    return [
        {"strategy": name, "labels": int(n), "accuracy": each.value, "low": each.low, "high": each.high}
        for name in simulation.accuracy
        for n, each in zip(simulation.n_labels, simulation.curve(name), strict=True)
    ]


def _interval(estimate: Estimate) -> str:
    return f"{estimate.low:.2f} to {estimate.high:.2f}"
