import json
import logging
import sys
import time

import pytest

from recsys.log_lines import LineFormatter
from serving.telemetry.logs import TEXT, JsonFormatter
from tests.helpers.real_service import RealService
from tests.helpers.waiting import wait_until

USER = "a-very-secret-user"


@pytest.fixture(autouse=True)
def utc(monkeypatch) -> None:
    monkeypatch.setattr(JsonFormatter, "converter", time.gmtime)


def formatted(message: str, *arguments: object, error: bool = False, **extra: object) -> dict:
    logger = logging.getLogger("serving.test")
    info = sys.exc_info() if error else None
    record = logger.makeRecord(logger.name, logging.WARNING, "f.py", 1, message, arguments, info, extra=extra)
    record.created, record.msecs = 1_772_323_200.25, 250.0
    text = JsonFormatter().format(record)
    assert "\n" not in text
    return json.loads(text)


def test_line_holds_time_level_process_logger_and_message():
    line = formatted("%d «é»\nsales", 3)
    assert line.pop("process") > 0
    assert line == {
        "time": "2026-03-01T00:00:00.250Z",
        "level": "WARNING",
        "logger": "serving.test",
        "message": "3 «é»\nsales",
    }


def test_line_holds_extra_fields_of_any_type(tmp_path):
    line = formatted("x", request_id="r-1", milliseconds=0.125, folder=tmp_path)
    assert (line["request_id"], line["milliseconds"], line["folder"]) == ("r-1", 0.125, str(tmp_path))


def test_line_of_an_error_holds_its_stack():
    try:
        raise KeyError("x")
    except KeyError:
        line = formatted("failed", error=True)
    assert "KeyError: 'x'" in line["stack"]


FORGED = "r-1\n2026-03-01 00:00:00,000 ERROR 1 forged"


def text_lines(message: str, *arguments: object, **keywords: object) -> list[str]:
    record = logging.makeLogRecord({"msg": message, "args": arguments, "levelname": "INFO", **keywords})
    return LineFormatter(TEXT).format(record).splitlines()


def test_value_with_a_line_feed_forges_no_line():
    (line,) = text_lines("request %s", FORGED)
    assert line.endswith(r"INFO " + line.split()[3] + r" request r-1\n2026-03-01 00:00:00,000 ERROR 1 forged")
    try:
        raise KeyError(FORGED)
    except KeyError:
        first, *others = text_lines("failed", exc_info=sys.exc_info())
    assert first.endswith(" failed")
    assert all(line.startswith("  ") for line in others)
    first, *others = text_lines("failed", stack=FORGED)
    assert others == ["  r-1", "  2026-03-01 00:00:00,000 ERROR 1 forged"]


@pytest.mark.parametrize("control", ["\x1b[2J", "\r", "\x00", "\x9b", "\u2028", "\u202e", "\x7f", "\x0b"])
def test_control_characters_are_escaped(control):
    (line,) = text_lines("%s", f"a{control}b")
    assert control[0] not in line
    assert control[0].encode("unicode_escape").decode() in line


def test_other_characters_are_logged_as_they_are():
    assert text_lines("%s", "«é» 用户 🏖 \\n")[0].endswith("«é» 用户 🏖 \\n")


@pytest.mark.parametrize("user_ids", [False, True])
def test_log_of_a_service_is_json_with_request_ids_and_users_only_if_configured(published, tmp_path, user_ids):
    log = {"format": "json", "requests": True, "user_ids": user_ids}
    with RealService(tmp_path, log=log, workers=1).start() as service:
        with service.ready().client() as client:
            answered = client.top_sales(USER).request_id
            client.top_sales(USER, request_id="r-2")
        wait_until(lambda: "r-2" in service.log())
        assert service.stop() == 0
        lines = [json.loads(line) for line in service.log().splitlines()]
    of_requests = [line for line in lines if line.get("method") == "GetTopSales"]
    assert [line["request_id"] for line in of_requests] == [answered, "r-2"]
    assert {line["code"] for line in of_requests} == {"OK"}
    assert all(0 < line["milliseconds"] < 60_000 for line in of_requests)
    assert [line.get("user_id") for line in of_requests] == [USER if user_ids else None] * 2
    assert (USER in service.log()) == user_ids
    assert all({"time", "level", "process", "logger", "message"} <= line.keys() for line in lines)
