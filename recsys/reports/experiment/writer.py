"""The report of an experiment, its verdict first, in markdown and as one HTML file that opens from disk."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from recsys.experiments.analysis.results import Conventions, Result
from recsys.reports.experiment.sections import Section, sections
from recsys.reports.experiment.wording import headline, instant, level, meaning
from recsys.reports.page import ReportTable, render
from recsys.reports.wording import percent
from recsys.storage.local import write_whole
from recsys.wording import plural, visible

_TYPES = {"ab": "A/B test", "aa": "A/A test: a policy against itself", "interleave": "Interleaving"}
_DOUBT = "Not to be trusted: the set-up is faulty, see above."


@dataclass(frozen=True)
class ReportFiles:
    """The paths of a report."""

    result: Path
    """JSON, read by `Result.from_json`."""
    markdown: Path
    html: Path
    """One file that loads nothing else."""


def write_report(result: Result, folder: Path) -> ReportFiles:
    """Write `result.json`, `report.md` and `report.html`; the same result gives the same bytes.

    Args:
        result: The result of the analysis.
        folder: Created if missing; the files of an earlier report are replaced, each atomically.
    """
    written = ReportFiles(folder / "result.json", folder / "report.md", folder / "report.html")
    parts = sections(result)
    write_whole(written.result, result.to_json())
    write_whole(written.markdown, _markdown(result, parts))
    write_whole(written.html, _html(result, parts))
    return written


def _html(result: Result, parts: list[Section]) -> str:
    return render(
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
        blocks += _section_blocks(part, result.verdict.name == "invalid" and part.has_differences)
    blocks += ["## Glossary", *(f"- **{word}**: {_escaped(text)}" for word, text in _terms(result))]
    return "\n\n".join(filter(None, blocks)) + "\n"


def _section_blocks(part: Section, is_doubtful: bool) -> Iterator[str]:
    yield f"## {part.title}"
    if is_doubtful:
        yield f"> **{_DOUBT}**"
    yield from (_escaped(note) for note in part.notes)
    for table in part.tables:
        yield f"**{_escaped(table.caption)}**"
        yield _markdown_table(table) if table.rows else "None."


def _markdown_table(table: ReportTable) -> str:
    """Write a table with its columns padded, so that they are aligned in the file too."""
    cells = [[_escaped(cell) for cell in row] for row in (table.columns, *table.rows)]
    widths = [max(3, *map(len, column)) for column in zip(*cells, strict=True)]
    sides = [str.ljust] * table.labels + [str.rjust] * (len(widths) - table.labels)
    head, *rows = (
        "| " + " | ".join(side(cell, width) for side, cell, width in zip(sides, row, widths, strict=True)) + " |"
        for row in cells
    )
    rules = ["-" * width if column < table.labels else "-" * (width - 1) + ":" for column, width in enumerate(widths)]
    return "\n".join([head, "| " + " | ".join(rules) + " |", *rows])


def _escaped(text: str) -> str:
    """Escape what markdown would interpret; names come from files and requests."""
    text = visible(" ".join(text.split()))
    marked = re.sub(r"([\\`*~|]|(?<!\w)_|_(?!\w)|(?<=\])(?=[(:\[]))", r"\\\1", text)
    return re.sub(r"&(?=[#\w]+;)", "&amp;", re.sub(r"<(?=\S)", "&lt;", marked))


def _terms(result: Result) -> Iterator[tuple[str, str]]:
    """Yield each term with its definition."""
    conventions = result.conventions
    yield from _terms_of_differences(conventions)
    if conventions.lookback_days is not None:
        yield (
            "CUPED",
            "adjusts each user's outcome for the same user's outcome in the"
            f" {plural(conventions.lookback_days, 'day')} before. It estimates the same difference with less variance:"
            " a variance reduction of 30% needs 30% fewer users.",
        )
    yield from _terms_of_trust(conventions)
    if result.interleaving is not None:
        yield (
            "Interleaving",
            "both policies contribute sales to each page in turn, so that they are compared within users.",
        )


def _terms_of_differences(conventions: Conventions) -> Iterator[tuple[str, str]]:
    confidence = level(conventions.alpha)
    yield (
        "Difference",
        "variant minus control, in the unit of the metric. Control is the variant that the others are compared with.",
    )
    yield "Lift", "the difference as a percentage of control's value; for information, nothing is decided by it."
    yield (
        "Interval",
        f"the {confidence} confidence interval, corrected for skewness: {confidence} of intervals made this way contain"
        " the true difference. One without 0 shows that there is a difference.",
    )
    yield (
        "Too few to tell",
        "so few users have a value other than 0, or so few large values decide, that an interval would contain the true"
        f" difference less often than in {confidence} of cases.",
    )
    yield "p", "the probability of a difference at least this large if there is no true difference."
    yield (
        "Adjusted p",
        "p, corrected for the number of primary comparisons: with more of them, chance findings are more frequent.",
    )
    yield (
        "Always-valid interval",
        "a wider confidence interval that is valid at all looks together, so that the experiment may be stopped by it"
        " on any day.",
    )
    yield (
        "Minimum detectable effect",
        f"the smallest true difference that this number of users shows with a power of {percent(conventions.power)}; a"
        " smaller one may go undetected.",
    )


def _terms_of_trust(conventions: Conventions) -> Iterator[tuple[str, str]]:
    yield (
        "Guardrail",
        "a metric that must not get worse by more than its margin. It holds if the whole interval is within the"
        " margin, and is violated if the whole interval is beyond it.",
    )
    yield (
        "Sample ratio mismatch",
        f"the users of the variants are not split by the weights. If p is below {conventions.srm_alpha:g}, users of a"
        " variant are lost or counted twice, and no figure can be trusted.",
    )
    yield "Jumper", "a user who was served more than one variant; counted for the first."
    yield "Fallback", "a page that does not show what its variant should, for example because a model is missing."
    yield "Segment", "the users who share the value of an attribute; within a segment they are randomised too."
