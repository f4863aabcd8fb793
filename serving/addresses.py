"""Addresses of a service as a caller gives them: which are this machine, and why one does not answer."""

import ipaddress
import os
import re
from typing import Any

import grpc

from recsys.errors import ConfigurationError
from recsys.wording import visible

_PROXIES = ("grpc_proxy", "https_proxy", "http_proxy")
"""The environment variables that name a proxy, in the order in which gRPC reads them."""
_ADVICE = (
    ("HTTP proxy", "correct the proxy"),
    ("refused", "start it with 'recsys serve', or correct the address"),
    ("not found|lookup|resolv", "no host has this name, correct the address"),
    ("WRONG_VERSION_NUMBER", "it answers without TLS, leave out --authority"),
    ("CERTIFICATE_VERIFY_FAILED", "give --authority the PEM file of the authority that signed its certificate"),
    ("Hostname Verification", "its certificate names another host, use a name of the certificate"),
    ("http1|HTTP/2", "what listens there is no gRPC service, correct the port"),
    ("closed|reset", "if it speaks TLS, give --authority; otherwise see its log"),
    ("unreachable|timed out|No route", "check the network, or correct the address"),
)
"""Patterns of gRPC's reasons, and what to do; the first that matches counts."""


def is_loopback(target: str) -> bool:
    """Return whether an address in gRPC's syntax, such as localhost:50051 or ipv4:127.0.0.1:1, is this machine."""
    scheme, colon, rest = target.partition(":")
    if colon and scheme in ("unix", "unix-abstract"):
        return True
    if colon and scheme in ("dns", "ipv4", "ipv6"):
        target = rest.removeprefix("///")
    return all(_is_loopback_host(each) for each in target.split(","))


def _is_loopback_host(address: str) -> bool:
    host = address if address.count(":") > 1 and not address.startswith("[") else re.sub(r":\d+$", "", address)
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def check_address(target: str) -> None:
    """Check that an address can be one.

    Raises:
        ConfigurationError: If it is empty, is a URL of HTTP, or ends in a number that is no port.
    """
    port = re.search(r":(\d+)$", target)
    if not target.strip() or re.match("https?://", target) or (port and not 0 < int(port[1]) < 1 << 16):
        raise ConfigurationError(f"address == {target!r}, must be HOST:PORT with a port in 1..65535")


def refuse_token_in_the_clear(target: str, advice: str) -> None:
    """Refuse to send a token without TLS, unless the connection stays on this machine.

    Args:
        target: The address.
        advice: How to use TLS here, the end of the error's sentence.

    Raises:
        ConfigurationError: If the address is another machine.
    """
    if not is_loopback(target):
        raise ConfigurationError(
            f"the token would go to {target} without TLS, readable for everyone on the way: {advice}"
        )


def proxy_options(target: str) -> list[tuple[str, Any]]:
    """Return gRPC's options for an address: this machine is never asked for through a proxy."""
    return [("grpc.enable_http_proxy", 0)] if is_loopback(target) else []


def unavailable(target: str, error: grpc.RpcError) -> str:
    """Return why an address does not answer, as gRPC gives the reason, and what to do."""
    reason = visible(re.sub(r"^.*last error: [A-Z_]+: ", "", error.details() or "no reason", flags=re.DOTALL))
    advice = next((advice for pattern, advice in _ADVICE if re.search(pattern, reason)), "see its log")
    proxy = next((name for name in _PROXIES if os.environ.get(name)), None)
    if proxy is not None and not is_loopback(target):
        advice += f"; {proxy} names a proxy: name the host in no_proxy if it is reached without"
    return f"no service at {target} ({reason}): {advice}"
