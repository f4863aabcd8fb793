"""Options that several commands share."""

import pytest

from cli.commands.options import pairs
from recsys.errors import ConfigurationError


def test_pairs_are_values_by_name_of_which_each_may_hold_the_sign():
    assert pairs(["market=FR", "query=a=b", "empty="], "--attribute") == {"market": "FR", "query": "a=b", "empty": ""}


@pytest.mark.parametrize(
    ("given", "rule"),
    [
        (["country"], "--only == 'country', must be NAME=VALUE"),
        (["=FR"], "--only == '=FR', must be NAME=VALUE"),
        (["country=FR", "country=IT"], "--only names 'country' twice, as 'FR' and 'IT', must name it once"),
    ],
)
def test_pair_that_would_be_lost_is_refused(given, rule):
    with pytest.raises(ConfigurationError) as error:
        pairs(given, "--only")
    assert str(error.value) == rule
