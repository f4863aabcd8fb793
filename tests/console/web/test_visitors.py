"""Who is let in: by token, by a proxy that is trusted, on this machine by default; and what pages may load."""

from typing import Any

import pytest
from fastapi.testclient import TestClient

from console.shop_console import console_app
from console.web.people import digest
from tests.helpers.console_shop import HERE, NOW, ConsoleShop

ANN = {"name": "ann", "role": "staff", "token_sha256": digest("ann-token")}


def visitor(shop: ConsoleShop, address: str = "testclient", **console: Any) -> TestClient:
    app = console_app(shop.settings(**console), ["127.0.0.1"], "cookie", lambda: NOW)
    return TestClient(app, HERE, headers={"origin": HERE}, client=(address, 4711))


def test_console_without_people_lets_this_machine_in(shop):
    assert "local" in visitor(shop).get("/changes").text


def test_token_is_asked_for_and_kept_in_a_cookie_that_no_script_reads(shop):
    ann = visitor(shop, people=[ANN])
    asked = ann.get("/sales")
    assert (asked.status_code, 'name="token"' in asked.text) == (401, True)
    wrong = ann.post("/enter", data={"token": "guess"})
    assert (wrong.status_code, "not known" in wrong.text) == (401, True)
    entered = ann.post("/enter", data={"token": " ann-token\n"}, follow_redirects=False)
    assert (entered.status_code, entered.headers["location"]) == (303, "/")
    assert all(each in entered.headers["set-cookie"] for each in ("HttpOnly", "SameSite=strict"))
    assert ann.get("/sales").status_code == 200
    assert ann.post("/enter", data={"token": "x" * 5000}).status_code == 401


def test_token_that_is_taken_out_of_the_configuration_opens_nothing_any_more(shop):
    ann = visitor(shop, people=[ANN])
    ann.get("/?token=ann-token")
    other = visitor(shop, people=[{**ANN, "token_sha256": digest("another")}])
    other.cookies = ann.cookies
    assert other.get("/sales").status_code == 401


@pytest.mark.parametrize(
    ("address", "headers", "status"),
    [
        ("10.0.0.5", [("x-forwarded-user", "ann")], 200),
        ("10.0.0.5", [("x-forwarded-user", "eve")], 401),  # the proxy knows her, the configuration does not
        ("10.0.0.5", [], 401),
        ("10.0.0.5", [("x-forwarded-user", "ann"), ("x-forwarded-user", "ann")], 401),  # a browser sent one too
        ("10.0.1.5", [("x-forwarded-user", "ann")], 401),
        ("testclient", [("x-forwarded-user", "ann")], 401),
    ],
)
def test_header_of_a_proxy_counts_from_its_own_address_only(shop, address, headers, status):
    person = {"name": "ann", "role": "staff"}
    client = visitor(shop, address, people=[person], proxy={"addresses": ["10.0.0.0/24"]})
    assert client.get("/changes", headers=headers).status_code == status


def test_others_whom_the_proxy_lets_in_have_the_role_that_the_configuration_says(shop):
    client = visitor(shop, "10.0.0.5", proxy={"addresses": ["10.0.0.5"], "others": "viewer"})
    assert "viewer" in client.get("/changes", headers={"x-forwarded-user": "eve"}).text


def test_change_from_a_page_of_another_site_is_refused(shop):
    client = visitor(shop)
    for origin in ("http://evil.example", "null", ""):
        answer = client.post("/hide/s01", data={"reason": "x"}, headers={"origin": origin})
        assert answer.status_code == 403, origin
    assert client.get("/", headers={"host": "evil.example"}).status_code == 421


def test_script_that_is_not_there_is_no_error_of_the_console(shop):
    answer = visitor(shop, people=[ANN]).get("/static/nothing.js")
    assert answer.status_code == 404
    assert visitor(shop, people=[ANN]).get("/static/htmx/htmx-2.min.js").status_code == 200


def test_change_that_is_long_or_does_not_say_how_long_is_not_read(shop):
    client = visitor(shop)
    assert client.post("/rules/check", data={"text": "x" * (1 << 21)}).status_code == 413

    def parts():
        yield b"text=x"

    assert client.post("/rules/check", content=parts()).status_code == 413
    long = {"content-length": "9" * 30}
    assert client.post("/rules/check", content=b"", headers=long).status_code == 413


def test_pages_load_nothing_from_other_hosts_and_run_no_script_of_their_own(shop):
    client = visitor(shop)
    for path in ("/", "/sales", "/health", "/changes", "/window", "/nothing"):
        answer = client.get(path)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        html = answer.text
        assert "http://" not in html.replace(HERE, "")
        assert "https://" not in html
        assert " style=" not in html
        assert " onclick" not in html
        assert "<script>" not in html
