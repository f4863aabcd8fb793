"""Health: the findings of the doctor, the worst first."""

import re


def test_findings_are_those_of_the_doctor_with_what_to_do(shop):
    html = shop.console().get("/health/findings").text
    states = re.findall(r'<li class="(\w+)">', html)
    assert states == sorted(states, key=["fail", "warn", "ok"].index)
    assert "fail" in states
    assert "127.0.0.1:1" in html
    assert "→" in html


def test_page_comes_at_once_and_asks_for_the_findings(shop):
    html = shop.console().get("/health").text
    assert 'hx-get="/health/findings"' in html
