"""A data profile, printed to a terminal."""

from recsys.console import TextConsole, TextTable, line
from recsys.data_profile.advice import Advice
from recsys.data_profile.profile import DataProfile
from recsys.reports.profile.wording import facts


def print_profile(profile: DataProfile, advice: Advice, console: TextConsole) -> None:
    """Print what a shop's tables hold, what looks wrong, what to configure, and what there is too little data for."""
    for group, found in facts(profile).items():
        table = TextTable(show_header=False)
        for column in ("label", "value"):
            table.add_column(column, overflow="fold")
        for label, value in found.items():
            table.add_row(line((label, "dim")), value)
        console.print("", line((group, "bold")), table)
    if advice.cautions:
        console.print("", line(("Look at", "bold yellow")), *(f"- {each}" for each in advice.cautions))
    if advice.proposals:
        console.print("", line(("Proposals", "bold")))
        for each in advice.proposals:
            console.print(
                line(
                    "- ",
                    (f"{each.key}{'' if each.key.startswith('recsys ') else ':'} {each.value}", "bold"),
                    f"  because {each.reason}",
                )
            )
    if advice.shortages:
        console.print("", line(("Too little data for", "bold")))
        console.print(*(f"- {each.what}: {each.why}" for each in advice.shortages))
