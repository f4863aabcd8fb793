from random import Random

from hypothesis import given
from hypothesis import strategies as st

from recsys.experiments.interleaving import NO_TEAM, InterleavedPage, credits_by_team, interleave

rankings = st.lists(st.integers(0, 14), unique=True, max_size=9)


class Coins(Random):
    """Returns given coin tosses; True lets the first team go first."""

    def __init__(self, *falls: bool) -> None:
        super().__init__(0)
        self._falls = iter(falls)

    def random(self) -> float:
        return 0.2 if next(self._falls) else 0.8


def draft(a: list[int], b: list[int], n: int, random: Random) -> InterleavedPage:
    """Interleave as algorithm 2 is worded: the team with fewer sales is next, and a coin decides a tie."""
    page, teams = [], []
    while len(page) < n:
        behind = teams.count("a") - teams.count("b")
        if behind == 0:
            first = "a" if random.random() < 0.5 else "b"
        team = first if behind == 0 else ("b" if behind > 0 else "a")
        left = [sale for sale in {"a": a, "b": b}[team] if sale not in page]
        if not left:
            other = [sale for sale in {"a": b, "b": a}[team] if sale not in page]
            if behind == 0 and other:  # the other team still has its turn in this round
                page.append(other[0])
                teams.append("b" if team == "a" else "a")
            break
        page.append(left[0])
        teams.append(team)
    rest = [sale for sale in [*a, *b] if sale not in page]
    filled = list(dict.fromkeys(rest))[: n - len(page)]
    return InterleavedPage([*page, *filled], [*teams, *[NO_TEAM] * len(filled)])


def test_coin_of_each_round_decides_which_team_goes_first() -> None:
    policies = {"control": [1, 2, 3, 4], "themes": [5, 1, 6, 2]}
    page = interleave(policies, 5, Coins(True, False, True))
    # round 1: control 1, themes 5; round 2: themes 6 (1 is on the page), control 2; round 3: control 3
    assert page == ([1, 5, 6, 2, 3], ["control", "themes", "themes", "control", "control"])


@given(a=rankings, b=rankings, n=st.integers(0, 12), seed=st.integers(0, 500))
def test_page_agrees_with_algorithm_2_as_worded(a: list[int], b: list[int], n: int, seed: int) -> None:
    page = interleave({"a": a, "b": b}, n, Random(seed))
    assert page == draft(a, b, n, Random(seed))
    assert len(page.sales) == len(set(page.sales)) == min(n, len({*a, *b}))
    assert abs(page.teams.count("a") - page.teams.count("b")) <= 1


@given(a=rankings, b=rankings, seed=st.integers(0, 500))
def test_team_contributes_its_sales_in_the_order_of_its_ranking(a: list[int], b: list[int], seed: int) -> None:
    page = interleave({"a": a, "b": b}, 10, Random(seed))
    for team, ranking in (("a", a), ("b", b)):
        contributed = [sale for sale, by in zip(*page, strict=True) if by == team]
        assert contributed == sorted(contributed, key=ranking.index)


def test_equal_rankings_give_each_team_every_position_half_of_the_time() -> None:
    random, n_pages = Random(11), 4000
    pages = [interleave({"a": [4, 2, 7, 9, 1], "b": [4, 2, 7, 9, 1]}, 5, random) for _ in range(n_pages)]
    assert all(page.sales == [4, 2, 7, 9, 1] for page in pages)
    for position in range(5):
        share = sum(page.teams[position] == "a" for page in pages) / n_pages
        assert abs(share - 0.5) < 0.03  # four standard errors


def test_purchases_of_a_user_without_preference_are_credited_evenly() -> None:
    random, total = Random(2), 0
    for _ in range(4000):
        page = interleave({"a": [1, 2, 3, 4, 5, 6], "b": [6, 3, 9, 8, 7, 1]}, 6, random)
        credit = credits_by_team(page, {page.sales[0], page.sales[random.randrange(6)]})
        total += credit["a"] - credit["b"]
    assert abs(total / 4000) < 0.08  # four standard errors: a page differs by 2 at most


def test_sales_added_after_a_ranking_ran_out_are_credited_to_neither_team() -> None:
    page = interleave({"a": [1], "b": [2, 3, 4, 5]}, 4, Coins(True, True))
    # round 1: a 1, b 2; round 2: a has nothing, b 3; the draft is over
    assert page == ([1, 2, 3, 4], ["a", "b", "b", NO_TEAM])
    assert credits_by_team(page, {1, 3, 4}) == {"a": 1, "b": 1}


def test_two_empty_rankings_are_an_empty_page() -> None:
    assert interleave({"a": [], "b": []}, 10, Coins(True)) == ([], [])


def test_only_purchased_sales_of_the_page_are_credited() -> None:
    page = InterleavedPage([7, 3, 5], ["a", "b", "b"])
    assert credits_by_team(page, {3, 5, 99}) == {"b": 2}
    assert credits_by_team(page, set()) == {}


def test_same_seed_gives_the_same_page() -> None:
    policies = {"a": list(range(30)), "b": list(range(29, -1, -1))}
    assert interleave(policies, 10, Random("r1")) == interleave(policies, 10, Random("r1"))
    assert interleave(policies, 10, Random("r1")) != interleave(policies, 10, Random("r2"))
