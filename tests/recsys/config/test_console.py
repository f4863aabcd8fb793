"""Settings of the console: who must be named before it may be reached from elsewhere."""

import pytest
from pydantic import ValidationError

from recsys.config.console import ConsoleSettings

TOKEN = "0" * 64


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.0.0.9"])
def test_console_of_this_machine_alone_needs_no_people(host):
    assert ConsoleSettings(host=host).is_open


@pytest.mark.parametrize("host", ["10.0.0.1", "0.0.0.0", "recsys.example.com", ""])
def test_console_that_others_reach_needs_people_or_a_proxy(host):
    with pytest.raises(ValidationError, match="needs people or proxy"):
        ConsoleSettings(host=host)
    people = [{"name": "ann", "role": "staff", "token_sha256": TOKEN}]
    with pytest.raises(ValidationError, match="tokens would be sent in the clear"):
        ConsoleSettings.model_validate({"host": host, "people": people})
    tls = {"certificate": "c.pem", "key": "k.pem"}
    assert not ConsoleSettings.model_validate({"host": host, "people": people, "tls": tls}).is_open
    assert not ConsoleSettings.model_validate({"host": host, "proxy": {"addresses": ["10.0.0.0/24"]}}).is_open


def test_people_have_names_of_their_own_and_tokens_unless_a_proxy_names_them():
    ann = {"name": "ann", "role": "staff"}
    with pytest.raises(ValidationError, match="need token_sha256"):
        ConsoleSettings.model_validate({"people": [ann]})
    with pytest.raises(ValidationError, match="names of their own"):
        ConsoleSettings.model_validate({"people": [{**ann, "token_sha256": TOKEN}] * 2})
    behind_a_proxy = {"people": [ann], "proxy": {"addresses": ["10.0.0.1"]}}
    assert ConsoleSettings.model_validate(behind_a_proxy).people[0].name == "ann"


def test_addresses_of_the_proxy_are_addresses():
    with pytest.raises(ValidationError, match="must be an address or a network"):
        ConsoleSettings.model_validate({"proxy": {"addresses": ["proxy.internal"]}})
