from io import StringIO

import pandas as pd
import pytest

from benchmarks.quality import print_case, print_cold_users
from recsys.console import TextConsole
from recsys.meta_model import META


@pytest.fixture
def by_policy() -> dict[str, pd.DataFrame]:
    """Four pages of three users; the peer is 0.1 behind on each page by ndcg, and 0.2 ahead by recall."""
    meta = pd.DataFrame(
        {"user_id": [*"abca"], "ndcg@10": [0.9, 0.5, 0.3, 0.7], "recall@10": [0.5, 0.1, 0.3, 0.3]}
    ).assign(known_events=[4, 5, 0, 9])
    return {META: meta, "peer": meta.assign(**{"ndcg@10": meta["ndcg@10"] - 0.1, "recall@10": meta["recall@10"] + 0.2})}


def printed(print_to) -> str:
    text = StringIO()
    print_to(TextConsole(file=text, width=160))
    return text.getvalue()


def test_lead_is_the_meta_model_less_the_peer_on_the_same_pages(by_policy):
    text = printed(lambda console: print_case("all", by_policy, ["peer"], 0, console))
    assert "all: 4 pages of 3 users" in text
    assert "ndcg@10: meta - peer = +0.1000 (+0.1000 to +0.1000), +20.0%" in text
    assert "recall@10: meta - peer = -0.2000 (-0.2000 to -0.2000), -40.0%" in text
    assert text.index("meta  ") < text.index("peer  ")  # the best first


def test_cold_users_are_those_with_fewer_than_five_events(by_policy):
    text = printed(lambda console: print_cold_users(by_policy, 0, console))
    assert "users with fewer than 5 events: 2 pages" in text
    assert "0.6000 ±" in text  # of the pages of user a, the first one, and c
    by_policy[META]["known_events"] = 5
    assert "0 pages" in printed(lambda console: print_cold_users(by_policy, 0, console))
