import re

import grpc
import pytest

from recsys.errors import ConfigurationError, RecsysError
from serving.addresses import check_address, is_loopback, unavailable
from serving.client import Client
from tests.helpers.tls_authority import Authority
from tests.helpers.waiting import PATIENCE

LAST = "connections to all backends failing; last error: "
ELSEWHERE = "recsys.internal:50051"


class Unavailable(grpc.RpcError):
    """An error with gRPC's reason."""

    def __init__(self, reason: str):
        self.reason = reason

    def details(self) -> str:
        return self.reason


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch) -> None:
    for name in ("grpc_proxy", "https_proxy", "http_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("target", ["", " ", "http://127.0.0.1:50051", "127.0.0.1:65536", "[::1]:0"])
def test_address_that_can_be_none_is_refused_by_its_rule(target):
    with pytest.raises(ConfigurationError, match=f"address == {re.escape(repr(target))}, must be HOST:PORT"):
        Client(target)


@pytest.mark.parametrize(
    "target", ["127.0.0.1:65535", "[::1]:1", "::1:50051", "dns:///recsys.internal", "unix:/a.sock"]
)
def test_addresses_of_grpc_are_accepted(target):
    check_address(target)


@pytest.mark.parametrize(
    "target",
    [
        "localhost:1",
        "127.0.0.1:1",
        "127.3.4.5",
        "[::1]:1",
        "::1",
        "dns:///localhost:1",
        "ipv4:127.0.0.1:1,127.0.0.2:1",
        "ipv6:[::1]:1",
        "unix:/run/recsys.sock",
        "unix-abstract:recsys",
    ],
)
def test_this_machine_is_recognised(target):
    assert is_loopback(target)


@pytest.mark.parametrize(
    "target",
    [
        "recsys.internal:1",
        "10.0.0.1:1",
        "127.0.0.1.example.com:1",
        "localhost.example.com:1",
        "ipv4:127.0.0.1:1,10.0.0.1:1",
        "dns://10.0.0.1/localhost:1",
        "[2001:db8::1]:1",
        "0.0.0.0:1",
        "localhost@example.com:1",
    ],
)
def test_another_machine_is_not_taken_for_this_one(target):
    assert not is_loopback(target)


@pytest.mark.parametrize("address", [{"target": ELSEWHERE}, {"target": "127.0.0.1:1", "admin_target": ELSEWHERE}])
def test_token_leaves_this_machine_over_tls_or_where_that_is_allowed(address):
    with pytest.raises(ConfigurationError, match=rf"would go to {ELSEWHERE} without TLS.*: give --authority"):
        Client(**address, token="secret")
    Client(**address).close()
    Client(**address, token="secret", plain_token=True).close()
    Client(**address, token="secret", credentials=grpc.ssl_channel_credentials()).close()


@pytest.mark.parametrize(
    ("reason", "shown"),
    [
        (
            LAST + "UNKNOWN: ipv4:10.0.0.1:1: Failed to connect to remote host: Connection refused",
            "(ipv4:10.0.0.1:1: Failed to connect to remote host: Connection refused): start it with 'recsys serve', or "
            "correct the address",
        ),
        (
            LAST + "UNKNOWN: ipv4:10.0.0.1:1: Tls handshake failed: CERTIFICATE_VERIFY_FAILED: self signed",
            "CERTIFICATE_VERIFY_FAILED: self signed): give --authority the PEM file of the authority that signed its "
            "certificate",
        ),
        (
            LAST + "UNKNOWN: ipv4:10.0.0.1:1: Custom verification check failed: Hostname Verification Check failed.",
            "its certificate names another host, use a name of the certificate",
        ),
        (
            LAST + "INTERNAL: ipv4:10.0.0.1:1: Failed parsing HTTP/2 (Trying to connect an http1.x server)",
            "what listens there is no gRPC service, correct the port",
        ),
        (LAST + "UNKNOWN: ipv4:10.0.0.9:3128: HTTP proxy returned response code 403", "403): correct the proxy"),
        ("something\nnew\x1b[2J", r"(something\nnew\x1b[2J): see its log"),
    ],
)
def test_reason_that_grpc_gives_is_told_in_one_line_with_the_next_step(reason, shown):
    message = unavailable(ELSEWHERE, Unavailable(reason))
    assert message.startswith(f"no service at {ELSEWHERE} (")
    assert message.endswith(shown)


def test_proxy_is_named_except_for_this_machine(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://user:secret@127.0.0.1:1")
    refused = Unavailable("connect: Connection refused")
    message = unavailable(ELSEWHERE, refused)
    assert message.endswith("http_proxy names a proxy: name the host in no_proxy if it is reached without")
    assert "secret" not in message
    assert "proxy" not in unavailable("127.0.0.1:1", refused)


def test_unknown_host_and_tls_on_one_side_only_are_told(published, tmp_path):
    with (
        Client("no-such-host.invalid:1", deadline=PATIENCE) as client,
        pytest.raises(RecsysError, match="no host has this"),
    ):
        client.top_sales()
    tls = {"credentials": Authority(tmp_path).channel_credentials()}
    with (
        Client(published.serve().target, deadline=PATIENCE, **tls) as client,
        pytest.raises(RecsysError, match="answers without TLS"),
    ):
        client.top_sales()


def test_this_machine_is_never_asked_for_through_a_proxy(published, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    with Client(published.serve().target, deadline=PATIENCE, token="secret") as client:
        assert client.top_sales().sales
