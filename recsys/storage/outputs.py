"""Where the outputs of a run's steps are: each is written below a new name, and the journal says which ones count."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from recsys.storage.journal import steps_of
from recsys.storage.places import Place, absolute, place

DATA = "data"
"""Folder in a run's folder with a folder for each time that a step was run."""


@dataclass(frozen=True)
class Outputs:
    """The outputs of a run as of one moment; `outputs / "rankings"` is the place of one of them.

    A folder without a journal holds its outputs itself. Small, hashable, and the same on every machine.
    """

    folder: str
    found: tuple[tuple[str, str], ...] = ()
    """Name of each output, and its path in the folder."""

    @classmethod
    def of(cls, folder: Place) -> "Outputs":
        """Return the outputs that are in a run's folder now."""
        return cls.committed(folder, steps_of(folder).values())

    @classmethod
    def committed(cls, folder: Place, steps: Iterable[dict[str, Any]]) -> "Outputs":
        """Return the outputs that these entries of a journal name, one of each step."""
        found = {name: f"{entry['data']}/{name}" for entry in steps for name in entry["outputs"]}
        return cls(str(absolute(folder)), tuple(sorted(found.items())))

    def __truediv__(self, name: str) -> Place:
        """Return the place of an output; one that is not there has a place where nothing is."""
        return place(self.folder) / dict(self.found).get(name, name)

    def __str__(self) -> str:
        """Return the run's folder, for messages."""
        return self.folder


def newest_runs(folder: Place, kinds: Iterable[str] = ("nights",)) -> Iterator[Outputs]:
    """Return the outputs of a shop's runs, the latest instants first.

    Args:
        folder: The shop's folder.
        kinds: Folders of runs in it: nights, backtests, refreshes.
    """
    found = [run for kind in kinds if (folder / kind).exists() for run in (folder / kind).iterdir() if run.is_dir()]
    for run in sorted(found, key=lambda run: run.name, reverse=True):
        yield Outputs.of(run)
