"""The rules: checked while they are typed, tried, and put in force, by one at a time."""

import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from console.web.people import digest
from recsys.rules import load_rules
from serving.answers.rules_trial import PageKind, rules_trial
from serving.client import Client
from tests.helpers.console_shop import ConsoleShop
from tests.helpers.waiting import wait_until

NO_RULES = "schema_version: 1\nrules: []\n"


def hiding(sale_id: str, name: str = "no_such") -> str:
    return f"schema_version: 1\nrules:\n  - {{kind: filter, name: {name}, match: {{sale_id: {sale_id}}}}}\n"


@pytest.fixture(scope="module")
def ruled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsoleShop]:
    """A shop whose service goes by a file of rules, which has none."""
    with ConsoleShop.made(tmp_path_factory.mktemp("ruled")) as shop:
        path = shop.folder / "home.yaml"
        path.write_text(NO_RULES)
        shop.serve(rules=str(path))
        yield shop


def file_of(shop: ConsoleShop) -> Path:
    return shop.folder / "home.yaml"


def version(console: Any) -> str:
    """The version of the text that is open for editing."""
    return re.findall(r'name="version" value="([0-9a-f]+)"', console.get("/rules").text)[0]


def first_sale(shop: ConsoleShop) -> str:
    with Client(shop.server.target) as client:
        return str(client.top_sales(shop.night.users[0], preview=True).sales[0].sale_id)


def test_draft_is_checked_and_each_problem_is_named(ruled):
    console = ruled.console(ruled.server)
    wrong = console.post("/rules/check", data={"text": hiding("s01").replace("filter", "filtr")}).text
    assert "rules.0" in wrong
    assert "filtr" in wrong
    assert "home.yaml" in wrong
    assert "/tmp" not in wrong
    fine = console.post("/rules/check", data={"text": hiding("s01").replace("\n", "\r\n")}).text
    assert "1 rule, nothing wrong" in fine
    noted = console.post("/rules/check", data={"text": hiding("no-such-sale")}).text
    assert "no_such" in noted  # it matches no sale
    assert file_of(ruled).read_text() == NO_RULES


def test_trial_is_that_of_the_command(ruled):
    console, sale = ruled.console(ruled.server), first_sale(ruled)
    html = console.post("/rules/try", data={"text": hiding(sale), "surface": "home"}).text
    draft = ruled.folder / "draft.yaml"
    draft.write_text(hiding(sale))
    snapshot = ruled.server.watcher.served().snapshot
    kind = PageKind("meta", 10, "home", {})
    expected = rules_trial(snapshot, load_rules(draft), snapshot.users.sample(200), kind)
    assert f"<b>{len(expected.changed)} of {expected.pages}</b> sampled users" in html
    assert len(expected.changed) > 0
    assert expected.changed[0].user_id in html
    assert file_of(ruled).read_text() == NO_RULES


def test_rules_are_put_in_force_and_the_log_says_what_they_were(ruled):
    console, sale = ruled.console(ruled.server), first_sale(ruled)
    before = version(console)
    saved = console.post(
        "/rules/save",
        data={"text": hiding(sale, "off_for_now"), "version": before, "reason": "Legal asks for it"},
        follow_redirects=False,
    )
    assert (saved.status_code, saved.headers["location"]) == (303, "/rules")
    wait_until(lambda: first_sale(ruled) != sale)
    wait_until(lambda: "<b>In force</b>" in console.get("/rules").text)
    log = console.get("/changes").text
    assert "Legal asks for it" in log
    assert "off_for_now" in log
    assert "no rule" in log
    late = console.post("/rules/save", data={"text": NO_RULES, "version": before, "reason": "I was first"})
    assert (late.status_code, "changed by somebody else" in late.text) == (409, True)
    assert "off_for_now" in file_of(ruled).read_text()
    console.post("/rules/save", data={"text": NO_RULES, "version": version(console), "reason": "Legal agrees"})
    wait_until(lambda: first_sale(ruled) == sale)


def test_wrong_rules_are_never_written(ruled):
    console = ruled.console(ruled.server)
    data = {"text": "rules: 1", "version": version(console), "reason": "x"}
    assert console.post("/rules/save", data=data).status_code == 409
    assert console.post("/rules/save", data={**data, "text": NO_RULES, "reason": " "}).status_code == 409
    assert file_of(ruled).read_text() == NO_RULES


def test_viewer_may_try_but_not_put_in_force(ruled):
    people = [{"name": "vic", "role": "viewer", "token_sha256": digest("t")}]
    console = ruled.console(ruled.server, people=people)
    console.get("/?token=t")
    assert "Put in force" not in console.get("/rules").text
    assert console.post("/rules/try", data={"text": NO_RULES}).status_code == 200
    data = {"text": NO_RULES, "version": version(console), "reason": "x"}
    assert console.post("/rules/save", data=data).status_code == 403


def test_shop_without_a_file_of_rules_is_told_how_to_have_one(ruled):
    unruled = ConsoleShop(ruled.folder, ruled.night)
    answer = unruled.console(ruled.server).get("/rules")
    assert answer.status_code == 409
    assert "serving.rules" in answer.text


def test_text_that_is_edited_is_the_file_itself(ruled):
    text = hiding("s01").replace("rules:", "\n# <b>mind</b> this\nrules:")
    file_of(ruled).write_text(text)
    html = ruled.console(ruled.server).get("/rules").text
    edited = re.findall(r"<textarea[^>]*>\n(.*?)</textarea>", html, re.DOTALL)
    assert [unescape(each) for each in edited] == [text]
    file_of(ruled).write_text(NO_RULES)
