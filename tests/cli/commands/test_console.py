"""`recsys console`: what is wrong with its options is one line."""

import pytest

from tests.helpers.paths import ROOT


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        (("--host", "10.0.0.1"), "needs people or proxy"),
        (("--host", "no.such.host.invalid"), "needs people or proxy"),
        (("--port", "65536"), "65535"),
    ],
)
def test_option_that_breaks_a_rule_is_refused_in_one_line(run, options, rule):
    status, _, err = run("console", "--conf", ROOT / "conf" / "demo.yaml", *options)
    assert status != 0
    assert rule in err
    assert "Traceback" not in err
    assert "{" not in err  # the rule, and not all settings
