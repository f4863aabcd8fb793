import io

from cli.tables.profile import print_profile
from recsys.console import TextConsole
from recsys.data_profile.advice import Advice, Proposal, Shortage
from recsys.data_profile.profile import profile_of
from recsys.instants import to_micros
from tests.helpers.profiles import frames_of
from tests.helpers.small_shop import AS_OF, event, sale


def printed(advice: Advice) -> list[str]:
    console = TextConsole(file=io.StringIO(), width=160)
    print_profile(profile_of(frames_of([sale("s1")], [event("u1", "s1", -3)]), to_micros(AS_OF)), advice, console)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_profile_is_printed_as_facts_and_advice():
    proposals = (Proposal("as_of", "2026-03-01", "it ended"), Proposal("recsys backtest", "--from a --to b", "enough"))
    lines = printed(Advice(("'[red]' has 9 of 10 events",), proposals, (Shortage("towers", "9 events"),)))
    assert "events                       1 visit (100%), 0 purchases (0%)" in lines
    assert lines[lines.index("Look at") + 1] == "- '[red]' has 9 of 10 events"
    assert lines[lines.index("Proposals") + 1 :][:2] == [
        "- as_of: 2026-03-01  because it ended",
        "- recsys backtest --from a --to b  because enough",
    ]
    assert lines[lines.index("Too little data for") + 1] == "- towers: 9 events"


def test_parts_without_a_line_have_no_title():
    lines = printed(Advice((), (), ()))
    assert not {"Look at", "Proposals", "Too little data for"} & set(lines)
