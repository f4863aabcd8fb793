"""Authentication, roles and rate limits, over real connections."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from recommendations.v1 import admin_pb2
from recommendations.v1 import recommendations_pb2 as pb
from recommendations.v1 import recommendations_pb2_grpc as pb_grpc

from recsys.config.serving import Caller, ServingSettings, TlsSettings
from recsys.errors import ConfigurationError, RecsysError
from serving.api.access import Access
from serving.client import Client
from serving.errors import ForbiddenError, TooManyRequestsError, UnauthenticatedError
from serving.process.server import Server
from tests.helpers.real_service import shown
from tests.helpers.tls_authority import Authority
from tests.helpers.waiting import PATIENCE

WEBSITE, ADMIN = "w-token", "a-token"


def caller(name: str, role: str, token: str | None = None) -> dict[str, str | None]:
    return {"name": name, "role": role, "token_sha256": token and hashlib.sha256(token.encode()).hexdigest()}


CALLERS = {"callers": [caller("shop", "website", WEBSITE), caller("staff", "admin", ADMIN)]}


def shows(token: str | None = None, certificate: str | None = None, **metadata: str) -> SimpleNamespace:
    """The context of a request whose caller presents a token or a certificate."""
    entries = [*metadata.items(), *([("authorization", f"Bearer {token}")] if token is not None else [])]
    identity = {"x509_common_name": [certificate.encode()]} if certificate else {}
    return SimpleNamespace(invocation_metadata=lambda: entries, auth_context=lambda: identity)


def admitted(access: Access, context: SimpleNamespace, is_admin_method: bool = False) -> Caller:
    """Check a caller as the service does: by the headers, then before the body."""
    return access.admit(access.caller_by_token(context.invocation_metadata()), context, is_admin_method)


def access(callers: Mapping[str, object] = CALLERS, **settings: object) -> Access:
    return Access(ServingSettings(access=callers), **settings)


def test_without_callers_everyone_may_do_everything():
    assert admitted(access({}), shows(), True).role == "admin"
    assert access({}).name_of(shows()) == ""


@pytest.mark.parametrize(("token", "name", "role"), [(WEBSITE, "shop", "website"), (ADMIN, "staff", "admin")])
def test_token_identifies_the_caller(token, name, role):
    found = admitted(access(), shows(token))
    assert (found.name, found.role) == (name, role)
    assert access().name_of(shows(token)) == name


@pytest.mark.parametrize(
    "context",
    [
        shows(),
        shows(""),
        shows("w-toke"),
        shows("W-TOKEN"),
        shows("\udcff"),
        shows(hashlib.sha256(WEBSITE.encode()).hexdigest()),  # the sum of a token is not a token
        shows(authorization=WEBSITE),
        shows(authorization=f"Basic {WEBSITE}"),
        shows(authorization=f"Bearer{WEBSITE}"),
        shows(certificate="shop"),  # a caller with a configured token must send it
    ],
)
def test_missing_or_unknown_token_is_unauthenticated(context):
    with pytest.raises(UnauthenticatedError, match="token"):
        admitted(access(), context)


@pytest.mark.parametrize("scheme", ["bearer ", "BEARER ", "bEARER   "])
def test_name_of_the_scheme_is_case_insensitive(scheme):
    assert admitted(access(), shows(authorization=scheme + WEBSITE)).name == "shop"


def test_blanks_at_the_end_of_a_header_are_no_part_of_the_token():
    assert admitted(access(), shows(authorization=f"Bearer {WEBSITE}  ")).name == "shop"


def test_caller_without_a_token_is_refused_by_the_headers_unless_a_certificate_may_identify_it():
    with pytest.raises(UnauthenticatedError):
        access().caller_by_token([])
    assert access({"callers": [caller("web.shop", "website")]}).caller_by_token([]) is None


def test_website_may_not_call_admin_methods():
    with pytest.raises(ForbiddenError, match="role of 'shop' == 'website', must be 'admin' for this method"):
        admitted(access(), shows(WEBSITE), True)
    assert admitted(access(), shows(ADMIN), True).name == "staff"


def test_certificate_identifies_a_caller_without_a_token():
    by_certificate = access({"callers": [caller("web.shop", "website"), caller("staff", "admin", ADMIN)]})
    assert admitted(by_certificate, shows(certificate="web.shop")).name == "web.shop"
    for other in ("web.shop.", "staff", "WEB.SHOP"):
        with pytest.raises(UnauthenticatedError):
            admitted(by_certificate, shows(certificate=other))
    with pytest.raises(UnauthenticatedError, match="the token is unknown"):  # even with a valid certificate
        admitted(by_certificate, shows("wrong", certificate="web.shop"))


def test_request_that_costs_more_than_a_second_is_admitted_and_then_waited_for():
    clock = Seconds()
    limited = Access(ServingSettings(access=CALLERS, limits={"max_per_second": 10}), clock)
    shop = admitted(limited, shows(WEBSITE))
    limited.charge(shop, 500)  # 10 were left: 490 are missing
    for after, expected in [(48.9, False), (0.3, True)]:
        clock.now += after
        assert is_admitted(limited, WEBSITE) == expected
    assert is_admitted(limited, ADMIN)


class Seconds:
    """A clock that a test moves."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(("rate", "burst"), [(4, 4), (2.5, 2), (0.5, 1)])
def test_each_caller_may_send_one_second_of_requests_at_once_and_then_the_rate(rate, burst):
    clock = Seconds()
    settings = ServingSettings(access=CALLERS, limits={"max_per_second": rate})
    limited = Access(settings, clock)
    admitted = []
    for _ in range(400):  # 40 s, 10 attempts per second
        clock.now += 0.1
        admitted.append(is_admitted(limited, WEBSITE))
    assert sum(admitted[:300]) == pytest.approx(30 * rate + burst, abs=1.1)
    assert is_admitted(limited, ADMIN)  # another caller's bucket is full
    clock.now += 3600
    assert [is_admitted(limited, WEBSITE) for _ in range(burst + 1)] == [True] * burst + [False]


def is_admitted(limited: Access, token: str) -> bool:
    try:
        limited.charge(admitted(limited, shows(token)), 1)
    except TooManyRequestsError:
        return False
    return True


@pytest.fixture
def server(published) -> Server:
    return published.serve(access=CALLERS)


def code(call, *arguments: object, **options: object) -> str:
    try:
        call(*arguments, timeout=PATIENCE, **options)
    except grpc.RpcError as error:
        return error.code().name
    return "OK"


def test_status_codes_of_refused_callers(server):
    with Client(server.target) as plain, Client(server.target, token="wrong") as wrong:
        for client in (plain, wrong):
            with pytest.raises(UnauthenticatedError):
                client.top_sales("ann")
    with grpc.insecure_channel(server.target) as channel:
        ask = pb_grpc.RecommendationsStub(channel).GetTopSales
        assert code(ask, pb.GetTopSalesRequest()) == "UNAUTHENTICATED"
        assert code(ask, pb.GetTopSalesRequest(), metadata=[("authorization", f"Bearer {WEBSITE}")]) == "OK"


def test_roles_are_enforced_on_both_ports(server):
    close = admin_pb2.CloseSaleRequest(sale_id="s00")
    website = Client(server.target, token=WEBSITE, deadline=PATIENCE, admin_target=server.admin_target)
    staff = Client(server.target, token=ADMIN, deadline=PATIENCE, admin_target=server.admin_target)
    with website, staff:
        with pytest.raises(ForbiddenError):
            website.admin("CloseSale", close)
        assert "s00" in shown(website.top_sales("ann"))
        closed = staff.admin("CloseSale", close)
        assert (closed.sale_id, closed.by) == ("s00", "staff")
        assert "s00" not in shown(staff.top_sales("ann"))


def test_admin_methods_are_not_on_the_public_port(server):
    client = Client(server.target, token=ADMIN, deadline=PATIENCE, admin_target=server.target)
    with client, pytest.raises(RecsysError, match="UNIMPLEMENTED"):
        client.status()


def test_health_checks_need_no_token(server):
    for target in (server.target, server.admin_target):
        with grpc.insecure_channel(target) as channel:
            answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=PATIENCE)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_rate_above_the_limit_is_resource_exhausted_and_recovers(published):
    server = published.serve(limits={"max_per_second": 50})
    with grpc.insecure_channel(server.target) as channel:
        ask = pb_grpc.RecommendationsStub(channel).GetTopSales
        codes = [code(ask, pb.GetTopSalesRequest()) for _ in range(500)]
        assert set(codes) == {"OK", "RESOURCE_EXHAUSTED"}
        assert codes[:50] == ["OK"] * 50
        while code(ask, pb.GetTopSalesRequest()) != "OK":
            pass


@pytest.fixture(scope="module")
def authority(tmp_path_factory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory) -> Authority:
    return Authority(tmp_path_factory.mktemp("stranger"), "stranger")


def tls(authority: Authority, mutual: bool = False) -> TlsSettings:
    pair = authority.pair("server")
    return TlsSettings(
        certificate=str(pair.certificate), key=str(pair.key), client_authority=str(authority.file) if mutual else None
    )


def is_refused(server: Server, credentials: grpc.ChannelCredentials | None) -> bool:
    """Tell whether a connection fails before any request, on the public and on the admin port."""
    with Client(server.target, deadline=PATIENCE, credentials=credentials, admin_target=server.admin_target) as client:
        for call in (client.top_sales, client.status):
            with pytest.raises(RecsysError, match="no service at"):
                call()
    return True


def test_tls_answers_only_clients_that_trust_its_authority(published, authority, stranger):
    server = published.serve(tls=tls(authority))
    with Client(server.target, deadline=PATIENCE, credentials=authority.channel_credentials()) as client:
        assert shown(client.top_sales("ann", 2)) == ("s00", "s02")
    assert is_refused(server, stranger.channel_credentials())
    assert is_refused(server, None)


def test_mutual_tls_identifies_callers_by_their_certificates(published, authority, stranger):
    callers = {"callers": [caller("web.shop", "website"), caller("staff", "admin")]}
    server = published.serve(tls=tls(authority, mutual=True), access=callers)

    def connected(name: str) -> Client:
        credentials = authority.channel_credentials(authority.pair(name))
        return Client(server.target, deadline=PATIENCE, credentials=credentials, admin_target=server.admin_target)

    with connected("web.shop") as website, connected("staff") as staff, connected("visitor") as visitor:
        assert shown(website.top_sales("ann", 2)) == ("s00", "s02")
        with pytest.raises(ForbiddenError, match=r"role of 'web\.shop' == 'website'"):
            website.status()
        assert staff.status().open_sales == 12
        with pytest.raises(UnauthenticatedError, match="no token or known certificate"):
            visitor.top_sales("ann")
    assert is_refused(server, authority.channel_credentials())  # without a certificate
    assert is_refused(server, authority.channel_credentials(stranger.pair("staff")))  # by another authority


@pytest.fixture
def damaged(authority) -> Path:
    pair = authority.pair("damaged")
    pair.certificate.write_text("no certificate")
    return pair.certificate


def test_certificate_files_that_cannot_be_used_are_named(published, authority, stranger, damaged):
    whole = tls(authority)
    missing = whole.model_copy(update={"key": "gone.key"})
    with pytest.raises(ConfigurationError, match=r"serving\.tls\.key == 'gone\.key', must be a readable file"):
        published.serve(tls=missing)
    others_key = str(stranger.pair("server").key)
    for wrong in ({"certificate": str(damaged)}, {"key": others_key}):
        with pytest.raises(ConfigurationError, match=r"serving\.tls\.certificate == "):
            published.serve(tls=whole.model_copy(update=wrong))
