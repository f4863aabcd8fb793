import numpy as np

from cli.commands.morning_demo import Morning, draw, live_counts, new_sale_with_most_events
from recsys.testing.shops import AS_OF, instant, make_shop, purchase, sale, visit
from tests.helpers.counted_events import counts_by_sale

HOUR = 1 / 24


def test_the_sale_that_takes_off_is_the_new_one_with_most_events_of_the_morning():
    sales = [sale("old"), sale("early", 6 * HOUR), sale("late", 9 * HOUR), sale("other", 6 * HOUR)]
    events = [
        *[visit(f"u{each}", "old", 7 * HOUR) for each in range(9)],
        *[visit(f"u{each}", "late", 10 * HOUR) for each in range(8)],
        *[visit(f"u{each}", "early", 8 * HOUR) for each in range(3)],
        *[visit(f"u{each}", "other", 13 * HOUR) for each in range(7)],  # in the afternoon
        visit("u1", "other", 7 * HOUR),
    ]
    data = make_shop(sales, events)
    found = new_sale_with_most_events(data.block, data.catalogue.opens_at, AS_OF)
    assert data.catalogue.sale_ids[found] == "early"


def test_counts_are_those_of_the_day_until_an_instant_and_a_users_once():
    events = [visit("u", "a", -HOUR), visit("u", "a", HOUR), purchase("u", "a", 2 * HOUR), visit("v", "a", 3 * HOUR)]
    data = make_shop([sale("a"), sale("b")], [*events, visit("v", "b", 5 * HOUR)])

    def counted(hours: float) -> dict[str, tuple[int, int]]:
        return counts_by_sale(live_counts(data.block, data.catalogue.sale_ids, AS_OF, instant(hours * HOUR)))

    assert counted(1.5) == {"a": (1, 0)}
    assert counted(4) == {"a": (1, 1)}
    assert counted(6) == {"a": (1, 1), "b": (1, 0)}


def test_picture_is_the_same_file_each_time_and_its_title_is_text(tmp_path):
    ranks = np.array([[30, 20, 9, 2], [40, 41, 12, 8]])
    morning = Morning("$x$ <b> & a", "s1", ["u", "v"], ranks, 50, "06:45", [0, 5, 20, 70])
    for name in ("a.svg", "b.svg"):
        draw(morning, tmp_path / name)
    written = (tmp_path / "a.svg").read_text()
    assert written == (tmp_path / "b.svg").read_text()
    assert "<b>" not in written
