"""What a shop's tables hold, as frames and as a picture."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from recsys.data_profile.advice import Advice
from recsys.data_profile.profile import DataProfile
from recsys.reports.profile.wording import facts
from recsys.reports.profile.writer import write_report


@dataclass(frozen=True, eq=False)
class Profile:
    """What a shop's tables hold, and what that suggests for its configuration."""

    name: str
    data: DataProfile
    """Each number by its name."""
    advice: Advice
    rule_counts: Sequence[Mapping[str, Any]]

    @cached_property
    def facts(self) -> pd.DataFrame:
        """What the tables hold, in words: group, fact, value."""
        rows = [(group, *pair) for group, found in facts(self.data).items() for pair in found.items()]
        return pd.DataFrame(rows, columns=["group", "fact", "value"])

    @property
    def days(self) -> pd.DataFrame:
        """Visits, purchases and open sales of each day from the first event to the last."""
        return self.data.days

    @property
    def hours(self) -> pd.DataFrame:
        """Visits, purchases and open sales by hour of the day, UTC."""
        return self.data.hours

    @cached_property
    def proposals(self) -> pd.DataFrame:
        """What to configure: key, value, reason."""
        return pd.DataFrame(self.advice.proposals, columns=["key", "value", "reason"])

    @cached_property
    def shortages(self) -> pd.DataFrame:
        """What there is too little data for: what, why."""
        return pd.DataFrame(self.advice.shortages, columns=["what", "why"])

    def write(self, file: str | Path) -> None:
        """Write the report, one HTML file that opens from disk, as `recsys validate --html` does."""
        write_report(self.data, self.advice, self.rule_counts, Path(file), self.name)

    def _repr_html_(self) -> str:
        """Show the facts, what looks wrong, the proposals, and what there is too little data for."""
        cautions = pd.DataFrame({"look at": self.advice.cautions})
        tables = [each for each in (self.facts, cautions, self.proposals, self.shortages) if len(each)]
        with pd.option_context("display.max_colwidth", None):
            return "\n".join(each.to_html(index=False) for each in tables)
