import logging
import os
import socket
import subprocess
import sys
import threading
from hashlib import sha256

import grpc
import pytest
from grpc_reflection.v1alpha import reflection_pb2
from recommendations.v1 import recommendations_pb2 as pb
from recommendations.v1 import recommendations_pb2_grpc as pb_grpc

from recsys.config.serving import ServingSettings
from recsys.errors import ConfigurationError, RecsysError, SnapshotError, StoreError
from recsys.shop.live_counts import LiveCounts
from serving.answers.top_sales import TopSales
from serving.client import Client
from serving.process.server import ADMIN, FRESH, SERVICE, start_server
from serving.process.watcher import RulesWatcher
from serving.stores.folder import FolderStore
from tests.helpers.asking import NOT_SERVING, SERVING, check_health, shown
from tests.helpers.scraping import scraped
from tests.helpers.waiting import PATIENCE, wait_until

HOUR = 3_600_000_000


def test_user_gets_ten_open_sales_those_of_their_ranking_first(published):
    response = published.ask(published.serve(), "ann")
    assert shown(response) == ["s00", "s02", "s04", "s05", "s13", "s12", "s11", "s10", "s09", "s08"]
    assert [sale.rank for sale in response.sales] == list(range(1, 11))
    assert [sale.reason for sale in response.sales] == ["own_visits"] * 3 + ["collaborative"] + ["popularity"] * 6
    assert response.sales[0].reason_text == "You looked at this sale"
    assert response.sales[9].reason_text == "Popular right now"
    assert response.fallback_level == pb.FALLBACK_LEVEL_NONE
    assert (response.policy, response.model_version) == ("meta", "3")
    assert response.snapshot == "20260301T000000Z-1a2b3c4d"
    assert response.as_of_time.ToJsonString() == "2026-03-01T00:00:00Z"
    assert (response.fallback_reason, response.shortfall_reason) == ("", "")


def test_each_sale_has_what_the_website_shows(published):
    first = published.ask(published.serve(), "ann").sales[0]
    assert (first.title, first.price) == ("Title of s00", 9.5)
    assert first.open_time.ToJsonString() == "2026-02-28T23:00:00Z"
    assert first.close_time.ToJsonString() == "2026-03-02T00:00:00Z"
    assert first.score == pytest.approx(0.9)


def test_each_sale_shows_the_photo_chosen_for_the_user_or_its_cover(shop, make_sale):
    photos = {name: (f"s3a://photos/{name}/0.jpg", f"s3a://photos/{name}/1.jpg") for name in "abc"}
    sales = [make_sale(name, images=images) for name, images in photos.items()]
    shop.publish([*sales, make_sale("d")], {"ann": [(1, 0.5, 0, 1), (0, 0.4, 0, 0), (3, 0.3, 0)]})
    server = shop.serve()
    shown = {sale.sale_id: sale.image_uri for sale in shop.ask(server, "ann").sales}
    assert shown == {"b": photos["b"][1], "a": photos["a"][0], "d": "", "c": photos["c"][0]}
    shown = {sale.sale_id: sale.image_uri for sale in shop.ask(server, "nobody").sales}
    assert shown == {"d": "", "c": photos["c"][0], "b": photos["b"][0], "a": photos["a"][0]}


@pytest.mark.parametrize("detail", ["pool · palm trees", "a/b", "{0}", "海滩 🏖", "/"])
def test_reason_may_name_what_the_photos_show(shop, make_sale, detail):
    reasons = (f"content_images/{detail}", "content_images", "popularity")
    ranking = [(0, 0.5, 0), (1, 0.25, 1)]
    shop.publish([make_sale("a"), make_sale("b")], {"ann": ranking}, reasons=reasons)
    response = shop.ask(shop.serve(), "ann")
    assert [sale.reason for sale in response.sales] == ["content_images"] * 2
    texts = [f"Because you looked at {detail}", "Looks like sales you looked at"]
    assert [sale.reason_text for sale in response.sales] == texts


def test_sale_is_shown_from_opens_at_included_to_closes_at_excluded(shop, make_sale):
    shop.publish([make_sale("a", 1, 2)], {"ann": [(0, 0.5, 0)]})
    server = shop.serve()
    for hours, micros, expected in [(1, -1, []), (1, 0, ["a"]), (2, -1, ["a"]), (2, 0, []), (1, 0, ["a"])]:
        shop.clock.set(hours, micros)
        for user_id in ("ann", "nobody"):
            response = shop.ask(server, user_id)
            assert shown(response) == expected
            assert response.answer_time.ToMicroseconds() == shop.clock.micros


def test_new_and_anonymous_users_get_the_popular_sales(published):
    server = published.serve()
    for user_id, why in (("nobody", "no ranking for this user"), ("", "No user_id was given")):
        response = published.ask(server, user_id, n=3)
        assert shown(response) == ["s13", "s12", "s11"]
        assert [sale.score for sale in response.sales] == [113.0, 112.0, 111.0]
        assert response.fallback_level == pb.FALLBACK_LEVEL_POPULAR
        assert response.policy == "popularity"
        assert why in response.fallback_reason


def test_popularity_can_be_requested_and_is_then_not_a_fallback(published):
    response = published.ask(published.serve(), "ann", n=2, policy="popularity")
    assert shown(response) == ["s13", "s12"]
    assert response.fallback_level == pb.FALLBACK_LEVEL_NONE


def test_default_policy_comes_from_the_settings(published):
    assert published.ask(published.serve(default_policy="popularity"), "ann").policy == "popularity"


def test_unknown_policy_is_an_invalid_argument_that_lists_the_others(published):
    server = published.serve()
    with grpc.insecure_channel(server.target) as channel:
        stub = pb_grpc.RecommendationsStub(channel)
        with pytest.raises(grpc.RpcError) as error:
            stub.GetTopSales(pb.GetTopSalesRequest(policy="metta"), timeout=PATIENCE)
    assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert error.value.details() == "policy == 'metta', must be one of meta, popularity"


@pytest.mark.parametrize("n", [-1, 101, 2**31 - 1, -(2**31)])
def test_n_out_of_range_is_an_invalid_argument(published, n):
    server = published.serve()
    with pytest.raises(ConfigurationError, match=f"n == {n}, must be in 1..100"):
        published.ask(server, "ann", n=n)


@pytest.mark.parametrize(("n", "expected"), [(0, 10), (1, 1), (12, 12), (100, 12)])
def test_n_sales_are_shown_or_all_that_are_open_with_the_reason(published, n, expected):
    response = published.ask(published.serve(), "ann", n=n)
    assert len(response.sales) == expected
    assert response.shortfall_reason == ("Only 12 sales are open." if n == 100 else "")


@pytest.mark.parametrize("user_id", ["用户", "a'b\"c", "../../etc/passwd", "é" * 127, "a\x00b"])
def test_odd_user_ids_travel_unchanged(shop, make_sale, user_id):
    shop.publish([make_sale("a"), make_sale("b")], {user_id: [(0, 0.5, 0)]})
    server = shop.serve()
    assert shop.ask(server, user_id).fallback_level == pb.FALLBACK_LEVEL_NONE
    assert shop.ask(server, user_id + "x").fallback_level == pb.FALLBACK_LEVEL_POPULAR


def test_without_snapshot_the_service_is_unavailable_and_says_what_to_do(shop):
    server = shop.serve()
    with grpc.insecure_channel(server.target) as channel, pytest.raises(grpc.RpcError) as error:
        pb_grpc.RecommendationsStub(channel).GetTopSales(pb.GetTopSalesRequest(), timeout=PATIENCE)
    assert error.value.code() == grpc.StatusCode.UNAVAILABLE
    assert "publish it with 'recsys nightly'" in error.value.details()


def test_health_follows_the_first_snapshot(shop, make_sale):
    server = shop.serve()
    assert [check_health(server.target, service) for service in ("", SERVICE, ADMIN, FRESH)] == [NOT_SERVING] * 4
    shop.publish([make_sale("a")], {})
    for service in (SERVICE, "", ADMIN):
        wait_until(lambda service=service: check_health(server.target, service) == SERVING)
    assert check_health(server.admin_target, ADMIN) == SERVING
    assert shown(shop.ask(server, "ann")) == ["a"]


def test_fresh_is_serving_only_while_there_is_no_problem(shop, night):
    server = shop.serve()
    wait_until(lambda: check_health(server.target, FRESH) == SERVING)
    shop.clock.set(36)  # the end of the horizon: sales that open from now on are missing
    wait_until(lambda: check_health(server.target, FRESH) == NOT_SERVING)
    assert [check_health(server.target, service) for service in ("", SERVICE)] == [SERVING] * 2
    shop.clock.set(35.9)
    wait_until(lambda: check_health(server.target, FRESH) == SERVING)


def test_snapshot_that_cannot_rank_sessions_serves_but_is_not_fresh(published, caplog):
    server = published.serve()
    wait_until(lambda: "session ranking: " in caplog.text)
    assert "files/ranker is missing, snapshot 20260301T000000Z-1a2b3c4d was written without it" in caplog.text
    assert [check_health(server.target, service) for service in (SERVICE, FRESH)] == [SERVING, NOT_SERVING]


def listed_services(target: str, version: str, **options: object) -> set[str]:
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    with grpc.insecure_channel(target) as channel:
        call = channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            reflection_pb2.ServerReflectionRequest.SerializeToString,
            reflection_pb2.ServerReflectionResponse.FromString,
        )
        (answer,) = call(iter([request]), timeout=PATIENCE, **options)
    return {service.name for service in answer.list_services_response.service}


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_reflection_lists_the_services_if_it_is_on(published, version):
    expected = {
        "recommendations.v1.Recommendations",
        "grpc.health.v1.Health",
        f"grpc.reflection.{version}.ServerReflection",
    }
    assert listed_services(published.serve(reflection=True).target, version) >= expected
    with pytest.raises(grpc.RpcError) as error:
        listed_services(published.serve().target, version)
    assert error.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_reflection_is_for_callers_with_a_token(published):
    callers = [{"name": "shop", "role": "website", "token_sha256": sha256(b"secret").hexdigest()}]
    server = published.serve(reflection=True, access={"callers": callers})
    assert SERVICE in listed_services(server.target, "v1", metadata=[("authorization", "bearer secret")])
    with pytest.raises(grpc.RpcError) as error:
        listed_services(server.target, "v1")
    assert error.value.code() == grpc.StatusCode.UNAUTHENTICATED


def test_swap_under_load_fails_no_request_and_mixes_no_answer(shop, make_sale):
    sales = [make_sale("a"), make_sale("b"), make_sale("c")]
    expected, names = {}, []
    for fingerprint, first in (("aaaaaaaa", 0), ("bbbbbbbb", 2)):
        ranking = [(first, 0.5, 0), (1, 0.25, 0)]
        names.append(shop.write(sales, {"ann": ranking}, fingerprint=fingerprint))
        expected[names[-1]] = [sales[first].sale_id, "b"]
    shop.point_at(names[0])
    server = shop.serve()
    seen, failures, done = set(), [], threading.Event()

    def hammer() -> None:
        with grpc.insecure_channel(server.target) as channel:
            stub = pb_grpc.RecommendationsStub(channel)
            while not done.is_set():
                try:
                    response = stub.GetTopSales(pb.GetTopSalesRequest(user_id="ann", n=2), timeout=PATIENCE)
                    assert shown(response) == expected[response.snapshot]
                    seen.add(response.snapshot)
                except Exception as error:
                    failures.append(error)
                    return

    clients = [threading.Thread(target=hammer) for _ in range(3)]
    for client in clients:
        client.start()
    for swap in range(1, 9):
        shop.point_at(names[swap % 2])
        wait_until(lambda swap=swap: server.watcher.served().snapshot.name == names[swap % 2])
    done.set()
    for client in clients:
        client.join()
    assert failures == []
    assert seen == set(names)


def test_bad_snapshot_is_refused_once_in_the_log_while_the_old_one_serves(shop, make_sale, caplog):
    good = shop.publish([make_sale("a")], {})
    bad = shop.write([make_sale("b")], {}, fingerprint="bbbbbbbb")
    content = bytearray((shop.root / bad / "sales.json").read_bytes())
    content[20] ^= 1
    (shop.root / bad / "sales.json").write_bytes(content)
    server = shop.serve()
    shop.point_at(bad)
    wait_until(lambda: "snapshot: refused: " in caplog.text)
    for _ in range(5):
        server.watcher.poll()
        assert shop.ask(server, "ann").snapshot == good
    assert [check_health(server.target, service) for service in (SERVICE, FRESH)] == [SERVING, NOT_SERVING]
    (record,) = [record for record in caplog.records if record.getMessage().startswith("snapshot: ")]
    assert f"{bad}/sales.json: sha256 == " in record.getMessage()
    assert f"still serving {good}" in record.getMessage()
    assert record.levelno == logging.WARNING
    assert not record.exc_info

    repaired = shop.publish([make_sale("c")], {}, fingerprint="cccccccc")
    wait_until(lambda: shop.ask(server, "ann").snapshot == repaired)


def test_snapshot_without_the_default_policy_is_refused(shop, make_sale, caplog):
    shop.publish([make_sale("a")], {}, policies=("collaborative",))
    server = shop.serve()
    with pytest.raises(SnapshotError, match="no snapshot is loaded"):
        shop.ask(server, "ann")
    assert "serving.default_policy == 'meta', snapshot 20260301T000000Z-1a2b3c4d has" in caplog.text
    assert check_health(server.target, SERVICE) == NOT_SERVING


def test_unexpected_error_is_internal_and_neither_answer_nor_log_holds_the_user(published, monkeypatch, caplog):
    def fail(self, request, *_):
        raise KeyError(request.user_id)

    server = published.serve()
    monkeypatch.setattr(TopSales, "answer", fail)
    with pytest.raises(RecsysError, match="INTERNAL: the service failed on this request") as error:
        published.ask(server, "secret-user")
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert "failed with KeyError" in record.getMessage()
    assert "raise KeyError(request.user_id)" in record.stack  # where it happened
    assert "secret-user" not in caplog.text + record.stack + str(error.value)


def test_expected_errors_leave_no_trace_in_the_log(published, caplog):
    server = published.serve()
    caplog.clear()
    with pytest.raises(ConfigurationError):
        published.ask(server, "ann", policy="als")
    assert [record for record in caplog.records if record.levelno > logging.INFO] == []


def test_port_in_use_is_an_error_that_names_the_address(shop):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=rf"cannot listen on 127\.0\.0\.1:{port}, must be"):
            shop.serve(port=port)


def test_two_services_cannot_share_a_port(shop):
    port = shop.serve().port
    with pytest.raises(ConfigurationError, match="cannot listen on"):
        shop.serve(port=port)


def test_snapshot_after_a_rollback_has_the_present_rules(shop, make_sale, tmp_path, monkeypatch):
    rules = tmp_path / "rules.yaml"
    pin = "schema_version: 1\nrules:\n- {kind: pin, name: first, sale_ids: [%s], position: 1}\n"
    rules.write_text(pin % "a")
    names = [shop.publish([make_sale("a"), make_sale("b")], {}, fingerprint=8 * letter) for letter in "xy"]
    server = shop.serve(rules=str(rules))
    shop.point_at(names[0])
    wait_until(lambda: server.watcher.served().snapshot.name == names[0])
    rules.write_text(pin % "b" + "# b now\n")
    wait_until(lambda: shown(shop.ask(server, "ann")) == ["b", "a"])
    monkeypatch.setattr(RulesWatcher, "poll", lambda *_: None)  # it polls a moment later: too late for a request
    shop.point_at(names[1])
    wait_until(lambda: server.watcher.served().snapshot.name == names[1])
    assert shown(shop.ask(server, "ann")) == ["b", "a"]


def test_replay_starts_some_hours_after_as_of_and_continues_after_a_swap(shop, make_sale):
    sales = [make_sale("early", -1, 12), make_sale("late", 12.5, 20)]
    shop.publish(sales, {})
    settings = ServingSettings(
        port=0,
        admin_port=None,
        metrics_port=None,
        workers=1,
        clock="replay",
        replay_start_hours=12.0,
        poll_seconds=0.01,
    )
    server = shop.services.enter_context(start_server(settings, shop.root.parent))
    before = shop.ask(server, "ann")
    assert shown(before) == []
    other = shop.publish(sales, {}, hours=6)
    wait_until(lambda: shop.ask(server, "ann").snapshot == other)
    after = shop.ask(server, "ann")
    start = before.as_of_time.ToMicroseconds() + 12 * HOUR
    assert start <= before.answer_time.ToMicroseconds() < after.answer_time.ToMicroseconds() < start + HOUR / 60


def test_recorded_events_are_counted_and_the_metrics_say_how_old_the_counts_are(published):
    server = published.serve(metrics_port=0, live_counts={"read_seconds": 0.01})
    with Client(server.target, deadline=PATIENCE) as client:
        for user_id in ("ann", "bob", "ann"):
            client.record([pb.Event(user_id=user_id, sale_id="s00", kind=pb.EVENT_KIND_VISIT)])
    wait_until(lambda: scraped(server.metrics_port)["recsys_live_counts_events",] == 2)
    assert 0 < scraped(server.metrics_port)["recsys_live_counts_age_seconds",] < PATIENCE


def test_counts_that_hang_are_a_problem_after_the_bound_and_pages_go_on(published, monkeypatch):
    server = published.serve(metrics_port=0, live_counts={"read_seconds": 0.01, "stale_seconds": 0.2})
    problems = lambda: scraped(server.metrics_port)["recsys_problems",]  # noqa: E731
    before, go_on = problems(), threading.Event()
    with monkeypatch.context() as patch:
        patch.setattr(FolderStore, "live_counts", lambda *_: go_on.wait(PATIENCE) and LiveCounts())
        wait_until(lambda: problems() == before + 1)
        assert published.ask(server, "ann").fallback_level == pb.FALLBACK_LEVEL_NONE
    go_on.set()
    wait_until(lambda: problems() == before)


def test_counts_that_cannot_be_read_are_a_problem_that_names_the_next_step(published, monkeypatch, caplog):
    server = published.serve(live_counts={"read_seconds": 0.01, "stale_seconds": 0.05})

    def fail(*_: object) -> LiveCounts:
        raise StoreError("sessions cannot be read: check the disk")

    monkeypatch.setattr(FolderStore, "live_counts", fail)
    wait_until(lambda: "live counts: not read for 0.05 s, pages go on with what was known before: " in caplog.text)
    wait_until(lambda: "sessions cannot be read: check the disk" in caplog.text)
    assert published.ask(server, "ann").fallback_level == pb.FALLBACK_LEVEL_NONE


def test_starting_the_service_imports_no_spark_torch_mlflow_pandas_or_sklearn():
    heavy = ("pyspark", "torch", "mlflow", "pandas", "sklearn")
    modules = "serving.process.server, serving.process.workers, serving.client, serving.stores.redis"
    modules += ", recsys.recommenders.towers, recsys.ranking.ranker_files"
    code = f"import sys, {modules}; print([name for name in {heavy!r} if name in sys.modules])"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    output = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert output.stdout == "[]\n"


def test_stopping_frees_the_port(shop):
    server = shop.serve()
    server.stop()
    assert shop.serve(port=server.port).port == server.port


def test_live_page_shows_first_what_sold_a_moment_ago(night, shop):
    shop.clock.micros = night.ranker.scorer.horizon.as_of + 12 * HOUR
    server = shop.serve(ranking="live", live_counts={"read_seconds": 0.01})
    last = shown(shop.ask(server, "stranger", n=10))[-1]
    bought = [pb.Event(user_id=f"u{number}", sale_id=last, kind=pb.EVENT_KIND_PURCHASE) for number in range(300)]
    with Client(server.target, deadline=PATIENCE) as client:
        client.record(bought)
    shop.clock.micros += HOUR  # later
    wait_until(lambda: shown(shop.ask(server, "stranger", n=10))[0] == last)
