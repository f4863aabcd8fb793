"""Settings of the console, the pages in a browser for those who work with the recommendations."""

from ipaddress import ip_address, ip_network
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from recsys.settings import StepSettings

RoleName = Literal["viewer", "staff", "scientist", "admin"]


class Person(StepSettings):
    """Somebody who may open the console."""

    name: str = Field(min_length=1, max_length=100)
    """Name in the log of changes; behind a proxy, the name that the proxy states."""

    role: RoleName
    """`viewer` sees all pages; `staff` may also hide, show and close sales; `scientist` may change what models and
    themes are made of; `admin` may do everything. Each may do what the ones before may."""

    token_sha256: str | None = Field(None, pattern="^[0-9a-f]{64}$")
    """SHA-256 of the person's token, 64 hex digits (`printf %s TOKEN | sha256sum`); absent for those whom a proxy
    lets in."""


class ProxySettings(StepSettings):
    """A proxy in front of the console that knows who asks, such as one for single sign-on."""

    header: str = Field("X-Forwarded-User", pattern="^[A-Za-z0-9-]+$")
    """Header in which it states the name of who asks; it must remove the header from what browsers send."""

    addresses: tuple[str, ...] = Field(min_length=1, strict=False)
    """Addresses, or networks such as 10.0.0.0/24, that the proxy asks from; the header of others is ignored."""

    others: RoleName | None = None
    """Role of those whom the proxy lets in and `people` does not name; null refuses them."""

    @field_validator("addresses")
    @classmethod
    def _are_networks(cls, addresses: tuple[str, ...]) -> tuple[str, ...]:
        for address in addresses:
            try:
                ip_network(address)
            except ValueError:
                raise ValueError(f"{address!r} must be an address or a network, such as 10.0.0.0/24") from None
        return addresses


class ConsoleTls(StepSettings):
    """TLS, with files in PEM format."""

    certificate: str
    """File of the console's certificate, followed by its intermediate certificates."""

    key: str
    """File of the private key of that certificate."""


class ConsoleSettings(StepSettings):
    """Settings of the console, see `recsys console`."""

    host: str = "127.0.0.1"
    """Address to listen on; anything but this machine's loopback needs `people` or `proxy`."""

    port: int = Field(50080, ge=0, le=65535)
    """Port to listen on; 0 for any free port."""

    hosts: tuple[str, ...] = Field((), strict=False)
    """Names by which browsers reach the console, such as recsys.example.com, besides `host` and localhost."""

    people: tuple[Person, ...] = Field((), strict=False)
    """Who may open the console; without any, and without a proxy, everybody on this machine may do everything."""

    proxy: ProxySettings | None = None
    """A proxy that knows who asks; none by default."""

    service: str | None = None
    """Address of the service, host:port; by default that of `serving` on this machine."""

    admin_service: str | None = None
    """Address of the service for staff, host:port; by default that of `serving` on this machine."""

    token_file: str | None = None
    """File with the console's own token for the service, and nothing else; its role must be `admin`. The environment
    variable RECSYS_TOKEN by default."""

    tls: ConsoleTls | None = None
    """TLS of the console itself; needed where people's tokens come from other machines and no proxy ends it."""

    authority: str | None = None
    """PEM file of the authority of the service's certificate, if it has one; the service is then asked over TLS."""

    @property
    def is_open(self) -> bool:
        """Whether everybody who reaches the console may do everything."""
        return not self.people and self.proxy is None

    @model_validator(mode="after")
    def _is_open_on_this_machine_only(self) -> Self:
        if self.is_open and not is_loopback(self.host):
            raise ValueError(f"host == {self.host!r} needs people or proxy: whoever reaches it could do everything")
        if self.proxy is None and self.tls is None and not is_loopback(self.host):
            raise ValueError(f"host == {self.host!r} needs tls or proxy: people's tokens would be sent in the clear")
        nameless = [each.name for each in self.people if each.token_sha256 is None]
        if nameless and self.proxy is None:
            raise ValueError(f"people {nameless} need token_sha256, as there is no proxy that lets them in")
        if len({each.name for each in self.people}) < len(self.people):
            raise ValueError("people must have names of their own")
        return self


def is_loopback(host: str) -> bool:
    """Return whether an address can be reached from its own machine alone."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
