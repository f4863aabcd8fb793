"""The report of an experiment, for who owns it: its verdict first, in markdown and as one page that opens from disk."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from recsys.experiments.analysis.results import Conventions, Result
from recsys.reports.experiment.sections import Section, sections
from recsys.reports.experiment.wording import headline, instant, level, meaning
from recsys.reports.page import Table, page
from recsys.reports.wording import percent
from recsys.storage.local import write_whole

_TYPES = {"ab": "A/B test", "aa": "A/A test: a policy against itself", "interleave": "Interleaving"}
_DOUBT = "Not to be trusted: the set-up is broken, see above."


@dataclass(frozen=True)
class ReportFiles:
    """Where a report lies."""

    result: Path
    """JSON that `Result.from_json` reads."""
    markdown: Path
    html: Path
    """One file that asks for nothing else."""


def write_report(result: Result, folder: Path) -> ReportFiles:
    """Write `result.json`, `report.md` and `report.html`; the same result gives the same bytes.

    Args:
        result: What the analysis found.
        folder: Made where it is missing; the files of a report before are replaced, each at once.
    """
    written = ReportFiles(folder / "result.json", folder / "report.md", folder / "report.html")
    parts = sections(result)
    write_whole(written.result, result.to_json())
    write_whole(written.markdown, _markdown(result, parts))
    write_whole(written.html, _page(result, parts))
    return written


def _page(result: Result, parts: list[Section]) -> str:
    return page(
        __package__,
        title=_title(result),
        headline=headline(result.verdict),
        meaning=meaning(result),
        verdict=result.verdict,
        sections=parts,
        doubt=_DOUBT if result.verdict.name == "invalid" else "",
        terms=dict(_terms(result)),
        as_of=instant(result.window.as_of),
    )


def _title(result: Result) -> str:
    return f"{result.experiment}, phase {result.phase}. {_TYPES[result.type]}"


def _markdown(result: Result, parts: list[Section]) -> str:
    reasons = "\n".join(f"- {_escaped(reason)}" for reason in result.verdict.reasons)
    blocks = [
        f"# {_escaped(headline(result.verdict))}",
        f"{_escaped(_title(result))}, as of {instant(result.window.as_of)}.",
        f"**{meaning(result)}**",
        reasons,
    ]
    for part in parts:
        blocks += _blocks(part, result.verdict.name == "invalid" and part.tells_differences)
    blocks += ["## What the words mean", *(f"- **{word}**: {_escaped(text)}" for word, text in _terms(result))]
    return "\n\n".join(filter(None, blocks)) + "\n"


def _blocks(part: Section, is_doubtful: bool) -> Iterator[str]:
    yield f"## {part.title}"
    if is_doubtful:
        yield f"> **{_DOUBT}**"
    yield from (_escaped(note) for note in part.notes)
    for table in part.tables:
        yield f"**{_escaped(table.caption)}**"
        yield _markdown_table(table) if table.rows else "None."


def _markdown_table(table: Table) -> str:
    """Write a table whose columns stand below each other in the file too."""
    cells = [[_escaped(cell) for cell in row] for row in (table.columns, *table.rows)]
    widths = [max(3, *map(len, column)) for column in zip(*cells, strict=True)]
    sides = [str.ljust] * table.labels + [str.rjust] * (len(widths) - table.labels)
    head, *rows = (
        "| " + " | ".join(side(cell, width) for side, cell, width in zip(sides, row, widths, strict=True)) + " |"
        for row in cells
    )
    rules = ["-" * width if place < table.labels else "-" * (width - 1) + ":" for place, width in enumerate(widths)]
    return "\n".join([head, "| " + " | ".join(rules) + " |", *rows])


def _escaped(text: str) -> str:
    """Take from a text what markdown would read as its own; names come from files and requests."""
    marked = re.sub(r"([\\`*~|]|(?<=\])(?=\())", r"\\\1", " ".join(text.split()))
    return re.sub(r"<(?=\S)", "&lt;", marked)


def _terms(result: Result) -> Iterator[tuple[str, str]]:
    """Explain each statistical word in plain language."""
    conventions = result.conventions
    yield from _terms_of_differences(conventions)
    if conventions.lookback_days is not None:
        yield (
            "CUPED",
            f"takes out of each user's outcome what his {conventions.lookback_days} days before already told. It"
            " looks for the same difference with less noise; a variance reduction of 30% is worth 30% fewer users.",
        )
    yield from _terms_of_trust(conventions)
    if result.interleaving is not None:
        yield "Interleaving", "both policies share each page in turns, so that every user compares them for himself."


def _terms_of_differences(conventions: Conventions) -> Iterator[tuple[str, str]]:
    sure = level(conventions.alpha)
    yield "Difference", "variant minus control, in the metric's own unit. Control is what the others are compared with."
    yield "Lift", "the difference as a share of control's value; for show, nothing is decided by it."
    yield (
        "Interval",
        f"the true differences that fit the data. Of intervals made so, {sure} hold the true difference. One that"
        " leaves out 0 shows that there is one.",
    )
    yield "p", "how often chance alone would make a difference at least so large where there is none."
    yield (
        "Adjusted p",
        "p, made larger for the number of primary comparisons: who tries more often is lucky more often.",
    )
    yield (
        "Always-valid interval",
        "a wider one that stays right however often one looks, so that one may stop by it on any day.",
    )
    yield (
        "Detectable",
        f"the smallest true difference that so many users show with a chance of {percent(conventions.power)}; a smaller"
        " one may well be there, unseen.",
    )


def _terms_of_trust(conventions: Conventions) -> Iterator[tuple[str, str]]:
    yield (
        "Guardrail",
        "a metric that must not get worse by more than its margin. It holds where the whole interval is within the"
        " margin, and is violated where the whole interval is beyond it.",
    )
    yield (
        "Sample ratio",
        "whether users split by the weights. Where chance would split them so with p below"
        f" {conventions.srm_alpha:g}, users of a variant are lost or counted twice, and no figure can be trusted.",
    )
    yield "Jumper", "a user who was assigned to more than one variant; he counts for his first."
    yield "Fell back", "pages that showed something else than the variant should, such as where a model was missing."
    yield "Segment", "the users who share an attribute. Users are split at random within it, too."
