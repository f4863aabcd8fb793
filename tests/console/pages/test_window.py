"""The shop window: the page that the service would answer, what moves, and that nothing of it is recorded."""

import re
import time

from fastapi.testclient import TestClient

from serving.client import Client
from tests.helpers.console_shop import ConsoleShop


def sales_in(html: str) -> list[list[str]]:
    """The ids of the sales of each page that is shown, in order."""
    return [re.findall(r'href="/sales/([^"]+)">About', section) for section in html.split("<section")[1:]]


def page(client: TestClient, **asked: str) -> str:
    answer = client.get("/window", params=asked)
    assert answer.status_code == 200, answer.text
    return answer.text


def served(shop: ConsoleShop, user: str, **asked: object) -> list[str]:
    with Client(shop.server.target) as client:
        return [sale.sale_id for sale in client.top_sales(user, **asked).sales]


def test_page_is_the_one_that_the_service_answers(shop):
    user = shop.night.users[3]
    console = shop.console(shop.server)
    assert sales_in(page(console, user=user)) == [served(shop, user)]
    both = sales_in(page(console, user=user, policy="popularity", beside="collaborative"))
    assert both == [served(shop, user, policy="popularity"), served(shop, user, policy="collaborative")]


def test_visit_ranks_the_page_again_and_says_who_moved(shop):
    user, console = shop.night.users[3], shop.console(shop.server)
    first = served(shop, user)
    visited = next(sale for sale in first if served(shop, user, session=[sale]) != first)
    with_session, without = sales_in(page(console, user=user, session=visited, beside="no-session"))
    assert with_session == served(shop, user, session=[visited])
    assert without == first
    assert with_session != without
    html = page(console, user=user, session=visited, beside="no-session")
    moved = without.index(with_session[0])
    card = html.split("<section")[1].split('<li class="card sale">')[1]
    assert ("same place" if moved == 0 else f"▲ {moved}") in card


def test_page_is_beside_that_of_the_night_and_that_without_rules(shop):
    user, console = shop.night.users[3], shop.console(shop.server)
    options = {"no-rules": {"without_rules": True}, "ranked-snapshot": {"ranking": "snapshot"}}
    for beside, differs in options.items():
        found = sales_in(page(console, user=user, beside=beside))
        assert found == [served(shop, user), served(shop, user, preview=True, **differs)], beside


def test_link_of_a_sale_adds_it_to_the_session(shop):
    html = page(shop.console(shop.server), user="u01", session="s01")
    sale = sales_in(html)[0][0]
    assert f"/window?user=u01&amp;session=s01%2C{sale}" in html


def test_nothing_that_is_looked_at_is_recorded(shop):
    user, logs = shop.night.users[0], shop.folder / "exposures"
    with Client(shop.server.target) as client:
        client.top_sales(user, request_id="shown-to-a-user")
    page(shop.console(shop.server), user=user, beside="collaborative")
    with Client(shop.server.target) as client:
        client.top_sales(user, request_id="shown-later")
    deadline = time.monotonic() + 10
    while "shown-later" not in (lines := "".join(file.read_text() for file in sorted(logs.glob("*.jsonl*")))):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    ids = re.findall(r'"request_id": ?"([^"]+)"', lines)
    assert ids[ids.index("shown-to-a-user") :] == ["shown-to-a-user", "shown-later"]


def test_history_of_a_user_is_newest_first_and_an_unknown_user_is_said(shop):
    user = shop.night.users[2]
    html = page(shop.console(shop.server), user=user)
    times = re.findall(r'<time datetime="([^"]+)"', html)
    assert times
    assert times == sorted(times, reverse=True)
    data = shop.night.data
    known = data.histories()
    row = data.block.user_ids.to_pylist().index(user)
    assert len(times) == min(30, known.offsets[row + 1] - known.offsets[row])
    assert "does not know user nobody" in page(shop.console(shop.server), user="nobody")


def test_contributions_are_the_largest_of_the_service_s_as_bars(shop):
    user = shop.night.users[3]
    with Client(shop.server.target) as client:
        first = client.top_sales(user, explain=True, preview=True).sales[0]
    largest = max(first.contributions, key=lambda each: abs(each.log_odds))
    card = page(shop.console(shop.server), user=user).split('<li class="card sale">')[1]
    row = card.split("<tbody>")[1].split("</tr>")[0]
    assert f">{largest.feature}</th>" in row
    assert f"{largest.log_odds:+.2f}" in row


def test_what_the_service_refuses_is_said_with_its_rule(shop):
    console = shop.console(shop.server)
    html = page(console, user="u01", policy="metta")
    assert "metta" in html
    assert 'role="alert"' in html
    bad = console.get("/window", params={"user": "u01", "at": "tomorrow"})
    assert "tomorrow" in bad.text


def test_without_a_service_the_page_says_how_to_get_one(shop):
    html = page(shop.console(), user=shop.night.users[2])
    assert 'role="alert"' in html
    assert "127.0.0.1:1" in html
    assert 'class="timeline"' in html  # what is on this machine is shown all the same
