import re

from jobs.engine.step_metrics import record_step


def test_duration_and_end_of_each_step_are_in_the_file(tmp_path):
    file = str(tmp_path / "recsys.prom")
    record_step(file, "score_users", 2.5)
    record_step(file, "check_night", 0.5)
    record_step(None, "publish_snapshot", 9)
    text = (tmp_path / "recsys.prom").read_text()
    seconds = dict(re.findall(r'^recsys_step_seconds\{step="(\w+)"\} (.+)$', text, re.MULTILINE))
    assert (seconds["score_users"], seconds["check_night"]) == ("2.5", "0.5")
    assert "publish_snapshot" not in seconds
    assert text.count("recsys_step_done_timestamp_seconds{") == len(seconds)


def test_gateway_that_does_not_answer_is_reported_and_harms_no_step(caplog):
    record_step("http://127.0.0.1:9", "score_users", 2.5)
    assert "the metrics of score_users do not reach nights.metrics == 'http://127.0.0.1:9'" in caplog.text
