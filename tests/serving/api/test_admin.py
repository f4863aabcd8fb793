import json
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recommendations.v1 import admin_pb2 as pb

from recsys.errors import ConfigurationError, RecsysError, StoreError
from recsys.instants import HOUR, SECOND
from serving.client import Client
from serving.errors import STATUS_CODES, FinalError, NotFoundError
from tests.helpers.asking import refusal_of, shown
from tests.helpers.in_process import Call, InProcess, timestamp
from tests.helpers.waiting import PATIENCE, wait_until

WITHDRAWN = "serving/withdrawn.json"


@pytest.fixture
def service(shop, make_sale):
    """Sales a to d, which are all open; popularity ranks the last one first."""
    shop.publish([make_sale(name) for name in "abcd"], {})
    with InProcess(shop.root.parent, shop.clock) as service:
        yield service


def close(service: InProcess, sale_id: str, comment: str = "") -> pb.WithdrawnSale:
    return service.admin.CloseSale(pb.CloseSaleRequest(sale_id=sale_id, comment=comment), Call())


def hide(service: InProcess, sale_id: str, until: int | None = None) -> pb.WithdrawnSale:
    request = pb.HideSaleRequest(sale_id=sale_id)
    if until is not None:
        request.until_time.CopyFrom(timestamp(until))
    return service.admin.HideSale(request, Call())


def show(service: InProcess, sale_id: str) -> None:
    service.admin.ShowSale(pb.ShowSaleRequest(sale_id=sale_id), Call())


def listed(service: InProcess) -> list[pb.WithdrawnSale]:
    return list(service.admin.ListWithdrawnSales(pb.ListWithdrawnSalesRequest(), Call()).sales)


def test_closed_sale_is_on_no_page_from_then_on(service):
    assert shown(service.ask()) == ["d", "c", "b", "a"]
    close(service, "c")
    assert shown(service.ask()) == ["d", "b", "a"]
    assert service.ask(n=4).shortfall_reason == "Only 3 sales are open."


def test_closing_is_final(service):
    close(service, "c")
    with pytest.raises(FinalError, match="sale 'c' was closed, which is final"):
        show(service, "c")
    with pytest.raises(FinalError, match="sale 'c' is closed, which is final"):
        hide(service, "c")
    assert shown(service.ask()) == ["d", "b", "a"]


def test_reply_says_whether_the_snapshot_has_the_sale_and_names_the_nearest_id(shop, make_sale):
    shop.publish([make_sale(name) for name in ("s-005194", "s-77", "x")], {})
    with InProcess(shop.root.parent, shop.clock) as service:
        name = service.watcher.served().snapshot.name
        looked_up = service.admin.LookUpSale(pb.LookUpSaleRequest(sale_id="s-00519"), Call())
        assert (looked_up.snapshot, looked_up.in_snapshot, looked_up.nearest_sale_id) == (name, False, "s-005194")
        assert listed(service) == []
        assert hide(service, "s-00519").lookup == close(service, "s-00519").lookup == looked_up
        assert close(service, "x").lookup == pb.SaleLookup(snapshot=name, in_snapshot=True, title="Title of x")
        assert close(service, "entirely different").lookup == pb.SaleLookup(snapshot=name)


def test_closing_twice_changes_nothing_more(service):
    close(service, "c", "sold out")
    close(service, "c", "sold out")
    assert [sale.sale_id for sale in listed(service)] == ["c"]


def test_hidden_sale_is_shown_again_on_request(service):
    hide(service, "c")
    assert shown(service.ask()) == ["d", "b", "a"]
    show(service, "c")
    assert shown(service.ask()) == ["d", "c", "b", "a"]
    assert listed(service) == []


def test_sale_hidden_until_an_instant_is_shown_from_then_on(service, shop):
    until = shop.clock() + HOUR
    hide(service, "c", until)
    for micros, expected in [(-1, "dba"), (0, "dcba"), (-1, "dba")]:
        shop.clock.micros = until + micros
        assert shown(service.ask()) == list(expected)


def test_hidden_sale_can_be_closed(service, shop):
    hide(service, "c", shop.clock() + HOUR)
    close(service, "c")
    shop.clock.set(2)
    assert shown(service.ask()) == ["d", "b", "a"]


@pytest.mark.parametrize("micros", [-HOUR, -1, 0])
def test_sale_cannot_be_hidden_until_an_instant_in_the_past(service, shop, micros):
    with pytest.raises(
        ConfigurationError, match=r"until_time == 20\d\d-.* UTC, must be after the present, 20\d\d-.* UTC, and"
    ):
        hide(service, "c", shop.clock() + micros)
    assert listed(service) == []


@pytest.mark.parametrize("seconds", [-(2**63), -1, 0, 253_402_300_800, 2**63 - 1])
def test_sale_cannot_be_hidden_until_an_instant_out_of_range(service, seconds):
    request = pb.HideSaleRequest(sale_id="c", until_time={"seconds": seconds})
    with pytest.raises(ConfigurationError, match=r"until_time == .* (s|UTC), must be .* before the year 10000"):
        service.admin.HideSale(request, Call())


def test_sale_that_is_not_hidden_cannot_be_shown(service):
    with pytest.raises(NotFoundError, match="sale 'c' is not hidden: 'recsys sales list'"):
        show(service, "c")


def test_sale_is_kept_off_later_snapshots(service, shop, make_sale):
    close(service, "e")
    shop.publish([make_sale(name) for name in "abcde"], {}, fingerprint="bbbbbbbb")
    service.poll()
    assert shown(service.ask()) == ["d", "c", "b", "a"]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 9])
def test_list_can_be_read_page_by_page(service, size):
    for sale_id in ("d", "a", "gone", "b"):
        close(service, sale_id)
    pages, token = [], ""
    while not pages or token:
        request = pb.ListWithdrawnSalesRequest(page_size=size, page_token=token)
        response = service.admin.ListWithdrawnSales(request, Call())
        pages.append([sale.sale_id for sale in response.sales])
        token = response.next_page_token
    everything = ["a", "b", "d", "gone"]
    assert pages == [everything[start : start + size] for start in range(0, 4, size)]
    with pytest.raises(ConfigurationError, match="page_size == -1, must be at least 0"):
        service.admin.ListWithdrawnSales(pb.ListWithdrawnSalesRequest(page_size=-1), Call())


def test_list_names_what_was_done_and_when(service, shop):
    shop.clock.set(1)
    hide(service, "d", shop.clock() + HOUR)
    answer = close(service, "b", "sold out")
    first, second = listed(service)
    assert answer.lookup.title == "Title of b"
    answer.ClearField("lookup")
    assert first == answer
    assert (first.sale_id, first.closed, first.comment, first.by) == ("b", True, "sold out", "")
    assert first.since_time.ToMicroseconds() == shop.clock()
    assert not first.HasField("until_time")
    assert (second.sale_id, second.closed) == ("d", False)
    assert second.until_time.ToMicroseconds() == shop.clock() + HOUR


def test_long_comment_is_truncated(service):
    assert len(close(service, "a", "é" * 5_000).comment) == 1_000


def test_withdrawn_sales_survive_a_restart(service, shop):
    close(service, "c")
    hide(service, "a")
    with InProcess(shop.root.parent, shop.clock) as restarted:
        assert shown(restarted.ask()) == ["d", "b"]
        with pytest.raises(FinalError):
            show(restarted, "c")


def test_other_process_sees_each_change_at_its_next_request(service, shop):
    with InProcess(shop.root.parent, shop.clock) as other:
        for change, sale_id, expected in [(close, "c", "dba"), (hide, "a", "db")]:
            change(service, sale_id)
            assert shown(other.ask()) == list(expected)  # nothing was polled
        show(other, "a")
        assert shown(service.ask()) == ["d", "b", "a"]


def test_damaged_file_is_a_problem_and_the_last_known_sales_stay_withdrawn(service, shop):
    close(service, "c")
    hide(service, "a", shop.clock() + 12 * HOUR)
    other = InProcess(shop.root.parent, shop.clock)
    assert shown(service.ask()) == shown(other.ask()) == ["d", "b"]
    file = shop.root.parent / WITHDRAWN
    good = file.read_text()
    file.write_text(good[:-9])
    with pytest.raises(StoreError, match=rf"(?s){WITHDRAWN} cannot be read .*: correct it, or restore"):
        service.store.poll()
    for hours, expected in [(1, "db"), (12, "dba"), (-1, "db")]:  # each time the open sales are computed again
        shop.clock.set(hours)
        assert shown(service.ask()) == shown(other.ask()) == list(expected)
    other.close()
    with pytest.raises(StoreError):
        hide(service, "a")  # it would forget that c is closed
    file.write_text(good)
    service.store.poll()
    hide(service, "a")
    assert shown(service.ask()) == ["d", "b"]


def test_service_without_last_known_sales_does_not_start_on_a_damaged_file(service, shop):
    close(service, "c")
    (shop.root.parent / WITHDRAWN).write_text("[{]")
    with InProcess(shop.root.parent, shop.clock) as restarted:
        assert restarted.watcher.serving() is None
        assert "withdrawn.json cannot be read" in restarted.troubles.listed()[0]


def test_file_is_written_atomically_and_is_readable(service, shop):
    hide(service, "a")
    (entry,) = json.loads((shop.root.parent / WITHDRAWN).read_text())
    assert (entry["sale_id"], entry["closed"]) == ("a", False)
    assert not (shop.root.parent / "serving/withdrawn.tmp").exists()


@pytest.mark.parametrize("method", [close, hide, show])
@pytest.mark.parametrize("sale_id", ["", "x" * 257])
def test_invalid_sale_id_is_refused(service, method, sale_id):
    with pytest.raises(ConfigurationError, match="sale_id == "):
        method(service, sale_id)


SALES = st.sampled_from(["a", "b", "", "x" * 300, "a\x00", "é"])
INSTANTS = st.fixed_dictionaries(
    {"seconds": st.integers(-(2**63), 2**63 - 1), "nanos": st.integers(-(2**31), 2**31 - 1)}
)
EXPECTED = {"INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION"}
CALLS = st.one_of(
    st.builds(pb.CloseSaleRequest, sale_id=SALES, comment=st.text(max_size=9)),
    st.builds(pb.HideSaleRequest, sale_id=SALES, comment=st.text(max_size=9), until_time=st.none() | INSTANTS),
    st.builds(pb.ShowSaleRequest, sale_id=SALES),
)


@settings(max_examples=150)
@given(st.lists(CALLS, max_size=6))
def test_any_call_succeeds_or_is_refused_by_an_error_with_a_code(many_calls, calls):
    for request in calls:
        method = getattr(many_calls.admin, type(request).__name__.removesuffix("Request"))
        error = refusal_of(partial(method, request, Call()))
        assert error is None or STATUS_CODES[type(error)].name in EXPECTED
        listed(many_calls)
        many_calls.ask()


@pytest.fixture(scope="module")
def many_calls(new_shop, make_sale, tmp_path_factory):
    shop = new_shop(tmp_path_factory.mktemp("shop") / "snapshots")
    shop.publish([make_sale(name) for name in "abcd"], {})
    with InProcess(shop.root.parent, shop.clock) as service:
        yield service


# The status, and the port.


def test_status_names_what_is_served(shop, make_sale, tmp_path):
    rules = tmp_path / "rules.yaml"
    rules.write_text("schema_version: 1\nrules: []\n")
    name = shop.publish([make_sale("a"), make_sale("b", 5, 6), make_sale("c")], {})
    server = shop.serve(rules=str(rules), workers=1)
    with Client(server.target, admin_target=server.admin_target, deadline=PATIENCE) as client:
        client.admin("CloseSale", pb.CloseSaleRequest(sale_id="c"))
        status = client.status()
    assert (status.snapshot, status.open_sales, status.workers) == (name, 1, 1)
    assert status.present_time.ToMicroseconds() == shop.clock()
    assert status.as_of_time.ToMicroseconds() == shop.clock()
    assert status.horizon_end_time.ToMicroseconds() == shop.clock() + 36 * HOUR
    assert len(status.rules) == 12
    assert status.process_id > 0
    assert status.start_time.seconds * SECOND > shop.clock()  # by the system's clock
    assert [problem.partition(":")[0] for problem in status.problems] == ["session ranking"]


def test_status_without_snapshot_says_so(shop):
    server = shop.serve()
    with Client(server.target, admin_target=server.admin_target, deadline=PATIENCE) as client:
        status = client.status()
    assert (status.snapshot, status.open_sales) == ("", 0)
    assert not status.HasField("as_of_time")
    assert not status.HasField("horizon_end_time")


def test_damaged_file_is_among_the_problems_of_the_status(published):
    server = published.serve()
    with Client(server.target, admin_target=server.admin_target, deadline=PATIENCE) as client:
        client.admin("CloseSale", pb.CloseSaleRequest(sale_id="s13"))
        (published.root.parent / WITHDRAWN).write_text("?")
        wait_until(lambda: "withdrawn.json cannot be read" in "".join(client.status().problems))
        assert "s13" not in shown(client.top_sales("ann", 100))


def test_admin_methods_are_on_their_own_port(published):
    server = published.serve()
    assert server.admin_target != server.target
    with (
        Client(server.target, admin_target=server.target, deadline=PATIENCE) as client,
        pytest.raises(RecsysError, match="UNIMPLEMENTED"),
    ):
        client.status()
    with (
        Client(server.admin_target, deadline=PATIENCE) as client,
        pytest.raises(RecsysError, match=r"UNIMPLEMENTED.* have one port"),
    ):
        client.top_sales()


def test_service_without_admin_port_has_no_admin_methods(published):
    assert published.serve(admin_port=None).admin_target is None
