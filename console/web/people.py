"""Who works with the console, and what they may do there."""

import hashlib
from collections.abc import Mapping
from enum import IntEnum
from ipaddress import ip_address, ip_network
from typing import NamedTuple

from starlette.requests import Request

from recsys.config.console import ConsoleSettings, ProxySettings


class Role(IntEnum):
    """What a person may do; each may do what the ones below may."""

    VIEWER = 1
    STAFF = 2
    SCIENTIST = 3
    ADMIN = 4


class Visitor(NamedTuple):
    """A person who was let in."""

    name: str
    role: Role


EVERYBODY = Visitor("local", Role.ADMIN)
"""Whoever opens the console of this machine where no people are configured."""


class People:
    """Finds out who asks.

    Args:
        by_token: Visitors by the SHA-256 of their token, in hex.
        proxy: The proxy that states who asks; None if there is none.
        by_name: Roles of those whom it may state, by their names.
        everybody: Who everybody else is; None if nobody else is let in.
    """

    def __init__(
        self,
        by_token: Mapping[str, Visitor],
        proxy: ProxySettings | None = None,
        by_name: Mapping[str, Role] | None = None,
        everybody: Visitor | None = None,
    ):
        self._by_token = by_token
        self._proxy = proxy
        self._networks = [ip_network(each) for each in proxy.addresses] if proxy else []
        self._by_name = by_name or {}
        self._everybody = everybody

    @classmethod
    def of(cls, settings: ConsoleSettings) -> "People":
        """Return those whom the configuration lets in."""
        roles = {person.name: Role[person.role.upper()] for person in settings.people}
        tokens = {each.token_sha256: Visitor(each.name, roles[each.name]) for each in settings.people}
        tokens.pop(None, None)
        known = {digest: visitor for digest, visitor in tokens.items() if digest}
        return cls(known, settings.proxy, roles, EVERYBODY if settings.is_open else None)

    @classmethod
    def with_tokens(cls, names: Mapping[str, str]) -> "People":
        """Return people who may do everything, by their tokens."""
        return cls({digest(token): Visitor(name, Role.ADMIN) for token, name in names.items()})

    def with_token(self, token: str) -> Visitor | None:
        """Return the visitor who has a token."""
        return self._by_token.get(digest(token))

    def without_token(self, request: Request) -> Visitor | None:
        """Return who asks by what a trusted proxy says, or since everybody may."""
        if self._proxy is None or request.client is None:
            return self._everybody
        names = request.headers.getlist(self._proxy.header)
        try:
            address = ip_address(request.client.host)
        except ValueError:
            return self._everybody
        if not any(address in network for network in self._networks) or len(names) != 1 or not names[0].strip():
            return self._everybody
        name = names[0].strip()
        role = self._by_name.get(name) or (Role[self._proxy.others.upper()] if self._proxy.others else None)
        return Visitor(name, role) if role and name.isprintable() and len(name) <= 100 else None


def digest(token: str) -> str:
    """Return the SHA-256 of a token, in hex."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
