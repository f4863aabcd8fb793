import numpy as np
import pytest

from recsys.errors import ConfigurationError
from recsys.images.lab.active_learning import Simulation
from recsys.images.lab.simulation_plot import write_simulation_plot

CURVES = {"active": np.array([[0.5, 0.9], [0.6, 0.8]]), "random": np.array([[0.2, 0.5], [0.1, 0.6]])}
SIMULATION = Simulation(np.array([10, 20]), CURVES, np.ones((2, 2)), np.ones(2))


def test_plot_names_each_strategy_and_is_the_same_each_time(tmp_path):
    first, again = tmp_path / "first.svg", tmp_path / "again.svg"
    write_simulation_plot(SIMULATION, "Labels of rooms", first)
    write_simulation_plot(SIMULATION, "Labels of rooms", again)
    assert first.read_bytes() == again.read_bytes()
    assert all(text in first.read_text() for text in ("Labels of rooms", "active", "random", "90 % of that"))


def test_plot_of_another_suffix_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match=r"must end in .png or .svg"):
        write_simulation_plot(SIMULATION, "Labels", tmp_path / "plot.gif")
