"""The plot of a simulation: accuracy by number of labels, with intervals."""

from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from recsys.errors import ConfigurationError
from recsys.images.lab.active_learning import Simulation

_COLOURS = ("#2166ac", "#8a8a8a", "#b2182b", "#1b7837", "#762a83", "#b35806")
_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "simulation",  # the same curves give the same bytes
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": 9,
    "text.parse_math": False,  # a name may contain a $
}


def write_simulation_plot(simulation: Simulation, title: str, path: Path) -> None:
    """Write the curves of all strategies, with 95 % intervals over the seeds, and 90 % of the accuracy with all labels.

    Args:
        simulation: The curves.
        title: Title of the figure.
        path: Its suffix is .png or .svg.

    Raises:
        ConfigurationError: If the suffix is another.
    """
    if path.suffix not in (".png", ".svg"):
        raise ConfigurationError(f"plot '{path}' ends in '{path.suffix}', must end in .png or .svg: rename it")
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(7, 4.2), layout="constrained")
        axes = figure.add_subplot()
        for number, name in enumerate(simulation.accuracy):
            values, lows, highs = zip(*simulation.curve(name), strict=True)
            colour = _COLOURS[number % len(_COLOURS)]
            axes.plot(simulation.n_labels, values, color=colour, label=name)
            axes.fill_between(simulation.n_labels, lows, highs, color=colour, alpha=0.18, linewidth=0)
        with_all = float(simulation.with_all.mean())
        axes.axhline(with_all, color="black", linewidth=0.8, label="with all labels")
        axes.axhline(0.9 * with_all, color="black", linewidth=0.8, linestyle=":", label="90 % of that")
        axes.set(title=title, xlabel="labels", ylabel="accuracy on the test part")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, loc="lower right")
        figure.savefig(path, dpi=130, metadata={"Date": None} if path.suffix == ".svg" else {})
