"""The sales: found, taken off all pages with a reason, put back, and who may do so."""

import re
from dataclasses import replace

import pytest

from console.web.people import digest
from recsys.snapshot import store
from serving.client import Client
from tests.helpers.console_shop import NOW, ConsoleShop

NAMES = {"vic": "viewer", "sam": "staff"}


def listed(html: str) -> set[str]:
    return set(re.findall(r'<a href="/sales/([^"]+)">', html))


def test_list_has_the_open_sales_and_finds_others_by_id_title_and_state(shop):
    console = shop.console(shop.server)
    sales = {sale.sale_id: sale for sale in shop.night.sales}
    now = shop.server.watcher.served().open_sales(shop.server.watcher.served().snapshot.as_of.timestamp() * 1e6 + 3.6e9)
    ids = shop.server.watcher.served().sale_ids
    open_ids = {ids[n] for n, is_open in enumerate(now.is_open) if is_open}
    assert listed(console.get("/sales").text) == open_ids
    everything = console.get("/sales", params={"state": "all"}).text
    assert listed(everything) == set(sales)
    one = next(iter(sales.values()))
    assert listed(console.get("/sales", params={"state": "all", "q": one.sale_id.upper()}).text) == {one.sale_id}
    assert console.get("/sales", params={"state": "opn"}).status_code == 409


def test_first_pages_are_counted_over_the_users_of_the_snapshot(shop):
    console = shop.console(shop.server)
    counts: dict[str, list[int]] = {}
    users = shop.night.users
    for user in users:
        with Client(shop.server.target) as client:
            page = client.top_sales(user, policy="meta", preview=True)
        for sale in page.sales:
            counts.setdefault(sale.sale_id, []).append(sale.rank)
    snapshot = shop.server.watcher.served().snapshot
    best = {}
    for user in users:
        ranked = [snapshot.sales[place[0]] for place in snapshot.users.find(user).places("meta")]
        shown = [sale.sale_id for sale in ranked if sale.opens_at <= snapshot.as_of < sale.closes_at][:10]
        for rank, sale_id in enumerate(shown):
            best.setdefault(sale_id, [0] * 10)[rank] += 1
    sale_id = max(best, key=lambda each: sum(best[each]))
    html = console.get(f"/sales/{sale_id}").text
    assert f"{sum(best[sale_id])} of {len(users)} sampled users" in html
    row = html.split('<th scope="row">users</th>')[1].split("</tr>")[0]
    assert [int(n) for n in re.findall(r">(\d+)<", row)] == best[sale_id]


def test_sale_is_hidden_and_shown_with_reasons_that_the_log_keeps(shop):
    console = shop.console(shop.server)
    user = shop.night.users[0]
    with Client(shop.server.target) as client:
        sale_id = client.top_sales(user, preview=True).sales[0].sale_id
        refused = console.post(f"/hide/{sale_id}", data={"reason": "  "})
        assert (refused.status_code, "reason is empty" in refused.text) == (409, True)
        done = console.post(f"/hide/{sale_id}", data={"reason": "Wrong <price>"}, follow_redirects=False)
        assert (done.status_code, done.headers["location"]) == (303, f"/sales/{sale_id}")
        assert sale_id not in [sale.sale_id for sale in client.top_sales(user, preview=True).sales]
        html = console.get(f"/sales/{sale_id}").text
        assert "Wrong &lt;price&gt; (local)" in html
        assert listed(console.get("/sales", params={"state": "hidden"}).text) == {sale_id}
        console.post(f"/show/{sale_id}", data={"reason": "Price mended"})
        assert client.top_sales(user, preview=True).sales[0].sale_id == sale_id
    log = console.get("/changes").text
    rows = [re.sub(r"<[^>]+>|\s+", " ", row) for row in log.split("<tbody>")[1].split("</tr>")[:2]]
    newest, before = (" ".join(row.split()) for row in rows)
    assert newest.endswith(f"local admin show sale {sale_id} Price mended hidden open")
    assert before.endswith(f"local admin hide sale {sale_id} Wrong &lt;price&gt; open hidden")


def test_hidden_until_an_instant(shop):
    console = shop.console(shop.server)
    sale_id = sorted(listed(console.get("/sales").text))[1]
    console.post(f"/hide/{sale_id}", data={"reason": "Photos come at four", "until": "2026-03-01T16:00"})
    assert "until 2026-03-01 16:00" in console.get(f"/sales/{sale_id}").text
    wrong = console.post(f"/hide/{sale_id}", data={"reason": "again", "until": "1999-01-01T00:00"})
    assert (wrong.status_code, "until_time" in wrong.text) == (409, True)
    assert "failed" in console.get("/changes").text  # what was tried is in the log, with why it failed
    console.post(f"/show/{sale_id}", data={"reason": "they came"})


def test_closing_is_final_and_asks_whether_one_is_sure(shop):
    console = shop.console(shop.server)
    sale_id = sorted(listed(console.get("/sales").text))[2]
    unsure = console.post(f"/close/{sale_id}", data={"reason": "Sold out"})
    assert (unsure.status_code, "closing is final" in unsure.text) == (409, True)
    console.post(f"/close/{sale_id}", data={"reason": "Sold out", "sure": "yes"})
    html = console.get(f"/sales/{sale_id}").text
    assert 'class="state taken-off"' in html
    assert f'action="/show/{sale_id}"' not in html
    assert sale_id not in listed(console.get("/sales").text)


@pytest.fixture
def tokens() -> dict[str, object]:
    people = [{"name": name, "role": role, "token_sha256": digest(f"{name}-token")} for name, role in NAMES.items()]
    return {"people": people}


def test_viewer_may_look_and_staff_may_change(shop, tokens):
    sale_id = sorted(listed(shop.console(shop.server).get("/sales").text))[0]
    vic, sam = (shop.console(shop.server, **tokens) for _ in range(2))
    vic.get("/?token=vic-token")
    assert f'action="/hide/{sale_id}"' not in vic.get(f"/sales/{sale_id}").text
    refused = vic.post(f"/hide/{sale_id}", data={"reason": "because"})
    assert (refused.status_code, "must be &#39;staff&#39;" in refused.text) == (403, True)
    sam.get("/?token=sam-token")
    assert f'action="/hide/{sale_id}"' in sam.get(f"/sales/{sale_id}").text
    assert sam.post(f"/hide/{sale_id}", data={"reason": "because"}).status_code == 200
    assert "because (sam)" in sam.get(f"/sales/{sale_id}").text
    sam.post(f"/show/{sale_id}", data={"reason": "over"})


def test_unknown_sale_is_named_with_the_nearest(shop):
    answer = shop.console(shop.server).get("/sales/s0O")
    assert answer.status_code == 409
    assert "s0O" in answer.text


def test_hostile_title_is_text_everywhere(tmp_path):
    with ConsoleShop.made(tmp_path) as shop:
        hostile = "</title><script>alert(1)</script>{{7*7}}"
        sales = [replace(sale, title=hostile, theme=hostile) for sale in shop.night.sales]
        name = shop.night.write(shop.folder / "snapshots", fingerprint="11111111", sales=sales)
        store.publish(shop.folder / "snapshots", name, NOW)
        console = shop.console(shop.serve())
        one, user = sales[0].sale_id, shop.night.users[0]
        for path in ("/sales", f"/sales/{one}", f"/window?user={user}&session={one}"):
            html = console.get(path).text
            assert "<script>alert" not in html, path
            assert "&lt;script&gt;alert(1)" in html, path
            assert "{{7*7}}" in html, path


def test_hours_of_a_sale_are_shown_once_a_night_knows_events(shop):
    sale_id = shop.night.sales[0].sale_id
    console = shop.console(shop.server)
    assert f'hx-get="/sale-events/{sale_id}"' in console.get(f"/sales/{sale_id}").text
    assert "None was known to the night" in console.get(f"/sale-events/{sale_id}").text


def test_state_that_the_service_does_not_tell_is_logged_as_not_known(shop):
    sale_id = shop.night.sales[0].sale_id
    console = shop.console()
    assert console.post(f"/hide/{sale_id}", data={"reason": "nobody answers"}).status_code == 409
    row = next(row for row in console.get("/changes").text.split("</tr>") if "nobody answers" in row)
    assert "not known: " in row
    assert ">open<" not in row
