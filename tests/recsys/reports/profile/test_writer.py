import re
from dataclasses import replace
from xml.etree import ElementTree

from recsys.data_profile.advice import Advice, Proposal, Shortage
from recsys.data_profile.profile import profile_of
from recsys.instants import to_micros
from recsys.reports.profile.writer import write_report
from tests.helpers.profiles import frames_of
from tests.helpers.small_shop import AS_OF, event, sale

NOTHING = Advice((), (), ())


def shop(**changes):
    events = [event("u1", "s1", -47), event("u1", "s1", -46.3, "purchase"), event("u2", "s1", -1.2)]
    return replace(profile_of(frames_of([sale("s1")], events), to_micros(AS_OF)), **changes)


def written(tmp_path, profile, advice=NOTHING, counts=()):
    write_report(profile, advice, counts, tmp_path / "new/profile.html", "my_shop")
    return (tmp_path / "new/profile.html").read_text()


def plots(page: str) -> list[str]:
    labels = [ElementTree.fromstring(svg).get("aria-label") for svg in re.findall(r"<svg.*?</svg>", page, re.DOTALL)]
    return [label for label in labels if label]


def test_report_has_a_plot_per_quantity_that_says_its_numbers_in_words(tmp_path):
    found = plots(written(tmp_path, shop()))
    assert [each.split(".")[0] for each in found] == [
        "Visits per day",
        "Purchases per day",
        "Visits by hour of the day, UTC",
        "Purchases by hour of the day, UTC",
        "Open sales per day",
        "Open sales by hour of the day, UTC",
    ]
    assert "Highest: 1 on 2026-02-27, 0 on 2026-02-28" in found[1]
    assert "1 at 1:00" in found[3]


def test_shop_with_dates_alone_and_one_without_events_have_fewer_plots(tmp_path):
    assert not [each for each in plots(written(tmp_path, shop(has_times=False))) if "Visits by hour" in each]
    assert plots(written(tmp_path, profile_of(frames_of([sale("s1")], []), to_micros(AS_OF)))) == []


def test_report_shows_advice_and_broken_rules_as_text(tmp_path):
    advice = Advice(
        ("'<b>' has 9 of 10 events",), (Proposal("as_of", "2026-03-01", "it ended"),), (Shortage("towers", "9 events"),)
    )
    rule = {"name": "price_valid", "meaning": "price is < infinite"}
    counts = [{"table": "sales", "rule": rule, "rows": 1234, "broken": n} for n in (5, 0)]
    page = written(tmp_path, shop(), advice, counts)
    assert "&#39;&lt;b&gt;&#39; has 9 of 10 events." in page
    assert "<code>as_of</code></th><td><code>2026-03-01</code></td><td>it ended" in page
    assert "<b>towers</b>: 9 events" in page
    assert page.count("price is &lt; infinite") == 1
    plain = written(tmp_path, shop())
    assert "None: the configuration fits these data." in plain
    assert "Too little data for" not in plain
    assert "<h2>Rules</h2>" not in plain


def test_report_needs_nothing_from_anywhere_else(tmp_path):
    page = written(tmp_path, shop())
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)
    assert written(tmp_path, shop()) == page
