"""The console as a process of its own: over TLS, and what it says of what it cannot do."""

import ssl
import urllib.request
from pathlib import Path
from threading import Thread

import pytest

from console.server import listen, serve_console
from recsys.errors import ConfigurationError
from tests.helpers.console_shop import ConsoleShop
from tests.helpers.tls_pair import tls_pair
from tests.helpers.waiting import wait_until


def test_console_answers_over_tls(shop: ConsoleShop, tmp_path: Path) -> None:
    pair = tls_pair(tmp_path / "tls", 10)
    tls = {"certificate": pair.certificate, "key": pair.key}
    told: list[str] = []
    Thread(target=serve_console, args=(shop.settings(port=0, tls=tls), told.append), daemon=True).start()
    wait_until(lambda: told)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    assert told[0].startswith("https://127.0.0.1:")
    with urllib.request.urlopen(told[0], context=context, timeout=10) as answer:
        assert answer.status == 200


def test_certificate_that_cannot_be_used_is_named(shop: ConsoleShop, tmp_path: Path) -> None:
    tls = {"certificate": str(tmp_path / "none.pem"), "key": str(tmp_path / "none.key")}
    with pytest.raises(ConfigurationError, match=r"console\.tls cannot be used"):
        serve_console(shop.settings(port=0, tls=tls), lambda _: None)


def test_port_that_is_taken_and_all_addresses_are_refused() -> None:
    taken, url = listen("127.0.0.1", 0)
    with taken, pytest.raises(ConfigurationError, match="cannot be listened on"):
        listen("127.0.0.1", int(url.rpartition(":")[2]))
    with pytest.raises(ConfigurationError, match="must be one address"):
        listen("0.0.0.0", 0)
