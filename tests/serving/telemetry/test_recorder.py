from datetime import UTC, datetime

import pytest
from recommendations.v1 import recommendations_pb2 as pb

from recsys.instants import HOUR, to_micros
from serving.client import Client
from serving.errors import NotRecordedError
from serving.telemetry.record_log import RecordLog
from tests.helpers.real_service import exposed, shown
from tests.helpers.waiting import PATIENCE, wait_until

AS_OF = datetime(2026, 3, 1, tzinfo=UTC)


def test_exposure_holds_user_sales_time_and_policy(shop, night, tmp_path):
    server = shop.serve()
    shop.clock.set(1)
    user, seen = night.users[0], night.sales[0].sale_id
    with Client(server.target, deadline=PATIENCE) as client:
        page = client.top_sales(
            user, 4, policy="collaborative", session=[seen], attributes={"market": "FR"}, surface="mail"
        )
    server.stop()
    (line,) = exposed(tmp_path)
    assert line["exposed_at"] == page.answer_time.ToMicroseconds() == to_micros(AS_OF) + HOUR
    assert (line["request_id"], line["user_id"], line["surface"]) == (page.request_id, user, "mail")
    assert (line["policy"], line["model_version"], line["fallback_level"]) == ("collaborative", "3", "none")
    assert (line["snapshot"], line["n"]) == (page.snapshot, 4)
    assert tuple(line["sale_ids"]) == shown(page)
    assert line["scores"] == pytest.approx([sale.score for sale in page.sales])
    assert (line["attributes"], line["session_sale_ids"]) == ({"market": "FR"}, [seen])


def test_each_page_of_a_batch_is_an_exposure_with_its_fallback_level(published, tmp_path):
    server = published.serve()
    requests = [pb.GetTopSalesRequest(user_id=user_id, n=2) for user_id in ("ann", "nobody", "")]
    with Client(server.target, deadline=PATIENCE) as client:
        pages = client.batch(requests)
    server.stop()
    lines = list(exposed(tmp_path))
    assert [line["fallback_level"] for line in lines] == ["none", "popular", "popular"]
    assert [line["user_id"] for line in lines] == ["ann", "nobody", ""]
    assert [line["request_id"] for line in lines] == [page.request_id for page in pages]
    assert len({page.request_id for page in pages}) == 3
    assert {line["surface"] for line in lines} == {"home"}


def test_request_id_of_the_caller_is_the_exposures(published, tmp_path):
    server = published.serve()
    with Client(server.target, deadline=PATIENCE) as client:
        assert [client.top_sales("ann", request_id="r-1").request_id for _ in range(2)] == ["r-1"] * 2
    server.stop()
    assert len({line["event_id"] for line in exposed(tmp_path)}) == 1  # a retry counts once


def test_refused_request_is_no_exposure_and_none_is_written_where_the_log_is_disabled(published, tmp_path):
    for settings in ({}, {"exposures": {"enabled": False}}):
        server = published.serve(**settings)
        with Client(server.target, deadline=PATIENCE) as client:
            with pytest.raises(Exception, match="policy == 'x'"):
                client.top_sales("ann", policy="x")
            if settings:
                client.top_sales("ann")
        server.stop()
    assert not (tmp_path / "exposures").exists() or list(exposed(tmp_path)) == []


def test_page_whose_exposure_cannot_be_made_durable_is_not_sent(published, monkeypatch):
    server = published.serve(exposures={"durable": True})

    def full(*_: object) -> None:
        raise NotRecordedError("exposures: the disk is full: send it again later")

    with Client(server.target, deadline=PATIENCE) as client, monkeypatch.context() as patch:
        assert client.top_sales("ann").sales
        patch.setattr(RecordLog, "append", full)
        with pytest.raises(NotRecordedError, match="the disk is full"):
            client.top_sales("ann")


def test_full_disk_is_a_problem_of_the_service_and_pages_are_still_answered(published, tmp_path):
    (tmp_path / "exposures").write_text("no folder")  # nothing can be written below it
    server = published.serve(exposures={"flush_seconds": 0.05})
    with Client(server.target, deadline=PATIENCE, admin_target=server.admin_target) as client:
        assert client.top_sales("ann").sales
        wait_until(lambda: any("exposures cannot be written" in problem for problem in client.status().problems))
        assert client.top_sales("ann").sales
        assert client.status().exposures_queued >= 1
        (tmp_path / "exposures").unlink()
        wait_until(lambda: not any("exposures" in problem for problem in client.status().problems))
        assert client.status().exposures_lost == 0
    server.stop()
    assert len(list(exposed(tmp_path))) == 2
