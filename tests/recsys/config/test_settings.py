import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from recsys.config.settings import Settings, load_settings
from recsys.errors import ConfigurationError
from recsys.settings import StepSettings
from tests.helpers.paths import CONF

MINIMAL = "folder: var/shop\nsource: {sql: sql, raw: {lines: {path: lines.parquet}}}\n"
SOURCE = {"sql": "sql", "raw": {"lines": {"path": "lines.parquet"}}}


@pytest.fixture
def load(tmp_path) -> Callable[..., Settings]:
    """Load a text as `shop.yaml`; the texts of further files by name."""

    def load_text(text: str, **files: str) -> Settings:
        for name, content in {"shop": text, **files}.items():
            (tmp_path / f"{name}.yaml").write_text(content)
        return load_settings(tmp_path / "shop.yaml")

    return load_text


@pytest.fixture
def refusal(load) -> Callable[..., str]:
    """Return the message of the error that a text raises."""

    def message(text: str, **files: str) -> str:
        with pytest.raises(ConfigurationError) as error:
            load(text, **files)
        return str(error.value)

    return message


def test_everything_but_folder_and_source_has_a_default(load):
    settings = load(MINIMAL)
    assert (settings.horizon_hours, settings.meta_model.negatives, settings.rankings.policies) == (36.0, 20, ("meta",))
    assert settings.snapshots_folder == Path("var/shop/snapshots")


@pytest.mark.parametrize("path", sorted(CONF.glob("*.yaml")), ids=lambda path: path.name)
def test_every_configuration_of_the_project_is_valid(path):
    if path.name != "base.yaml":  # it has neither folder nor source: the others extend it
        load_settings(path)


def test_extending_configuration_overrides_only_the_keys_that_it_names(load):
    base = "history: {days: 30, max_events: 9}\nhorizon_hours: 48.0\nmlflow: {experiment: base}\n"
    settings = load(
        "extends: middle.yaml\n" + MINIMAL + "history: {days: 60}\n",
        middle="extends: base.yaml\nmlflow: {model_name: middle}\n",
        base=base,
    )
    assert (settings.history.days, settings.history.max_events, settings.horizon_hours) == (60, 9, 48.0)
    assert (settings.mlflow.experiment, settings.mlflow.model_name) == ("base", "middle")


def test_as_of_is_an_instant_with_a_zone(load, refusal):
    assert load(MINIMAL + "as_of: 2026-03-01T01:00:00+01:00").as_of == datetime(2026, 3, 1, tzinfo=UTC)
    for written in ("2026-03-01T00:00:00", "'2026-03-01T00:00:00'"):
        assert "instant 2026-03-01T00:00:00 has no zone: write 2026-03-01T00:00:00Z" in refusal(
            MINIMAL + f"as_of: {written}"
        )


@pytest.mark.parametrize(
    "content", ['"2026-03-01T00:00:00Z"', "'2026-03-01T01:00+01:00'", "2026-03-01", '"2026-03-01"']
)
def test_as_of_may_be_in_quotes_and_a_date(load, content):
    assert load(MINIMAL + f"as_of: {content}").as_of == datetime(2026, 3, 1, tzinfo=UTC)


@pytest.mark.parametrize("content", ["today", "20260301", "1.5", "[2026-03-01]", "'2026-02-30'"])
def test_as_of_that_is_no_instant_is_refused_with_an_example(refusal, content):
    message = refusal(MINIMAL + f"as_of: {content}")
    assert "as_of == " in message
    assert "must be a date or an instant such as 2026-03-01 or 2026-03-01T02:30:00Z" in message


def test_configuration_may_be_json_with_a_byte_order_mark_tabs_and_escaped_characters(tmp_path):
    content = {"folder": "var/🏖", "source": {"sql": "sql", "raw": {}}, "as_of": "2026-03-01T00:00:00Z"}
    (tmp_path / "shop.json").write_text(json.dumps(content, indent="\t"), "utf-8-sig")
    settings = load_settings(tmp_path / "shop.json")
    assert (settings.folder, settings.as_of) == ("var/🏖", datetime(2026, 3, 1, tzinfo=UTC))


def test_key_that_stands_twice_in_json_is_refused(refusal):
    assert "key 'folder' stands twice: keep one of them" in refusal('{"folder": "a", "folder": "b"}')


def test_all_problems_are_listed_with_file_key_value_and_rule(refusal, tmp_path):
    message = refusal(
        "source: {sql: sql, raw: {}}\n"
        "histroy: {days: 5}\n"
        "history: {day: 5}\n"
        "horizon_hours: 23\n"
        "meta_model: {days: '14', negatives: 0}\n"
        "rankings: {top_k: 5}\n"
    )
    assert message.splitlines() == [
        f"{tmp_path / 'shop.yaml'}: 7 wrong:",
        "  folder == (missing): Field required",
        "  horizon_hours == 23: Input should be greater than or equal to 24",
        "  history.day == 5: unknown key; did you mean 'days'?",
        "  meta_model.days == '14': Input should be a valid integer",
        "  meta_model.negatives == 0: Input should be greater than or equal to 1",
        "  rankings.top_k == 5: Input should be greater than or equal to 10",
        "  histroy == {'days': 5}: unknown key; did you mean 'history'?",
    ]


def test_no_in_a_list_of_names_is_a_boolean_and_refused(refusal):
    message = refusal(MINIMAL + "recommenders: {without: [hours_left, NO]}")
    assert "recommenders.without.1 == False: Input should be a valid string" in message


@pytest.mark.parametrize("pattern", ["/data/**.csv", "/data/a**/x.csv"])
def test_pattern_with_folders_of_any_depth_within_a_name_is_refused(refusal, pattern):
    message = refusal(f"folder: var\nsource: {{sql: sql, raw: {{lines: {{pattern: '{pattern}'}}}}}}\n")
    assert f"source.raw.lines.pattern == '{pattern}': ** stands for folders, between slashes" in message


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("horizon_hours: .nan", "horizon_hours == nan: Input should be"),
        ("horizon_hours: .inf", "horizon_hours == inf: Input should be a finite number"),
        ("history: {days: true}", "history.days == True: Input should be a valid integer"),
        ("history: {days: 1.5}", "history.days == 1.5: Input should be a valid integer"),
        ("note: 5", "note == 5: Input should be a valid string"),
        ("history: [1]", "history == [1]: Input should be a valid dictionary or instance of HistorySettings"),
        ("history:", "history == None: Input should be a valid dictionary"),
        ("snapshots: {keep: 1}", "snapshots.keep == 1: Input should be greater than or equal to 2"),
    ],
)
def test_value_of_the_wrong_type_or_size_is_refused(refusal, line, problem):
    assert problem in refusal(MINIMAL + line)


def test_raw_table_has_either_a_path_or_a_table_name(refusal):
    for location in ("{}", "{path: a, table: b}"):
        message = refusal(f"folder: f\nsource: {{sql: sql, raw: {{lines: {location}}}}}")
        assert "source.raw.lines" in message
        assert "give 'path', 'pattern' or 'table', one of the three" in message


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("recommenders: {without: [hour_left]}", "recommenders.without == 'hour_left': must be one of popularity_day,"),
        ("recommenders: {without: [popularity]}", "recommenders.without == 'popularity': must be one of"),
        (
            "serving: {pages: {reason_texts: {poularity: x}}}",
            "serving.pages.reason_texts == 'poularity': must be one of popularity,",
        ),
        ("rankings: {policies: [meta, colaborative]}", "rankings.policies == 'colaborative': must be one of meta,"),
        ("rankings: {policies: [meta, popularity]}", "rankings.policies == 'popularity': must be one of"),
        ("rankings: {policies: [meta, meta]}", "rankings.policies == ['meta', 'meta']: must name each policy once"),
        (
            "rankings: {policies: [meta, own_visits]}\nrecommenders: {without: [own_visits]}",
            "rankings.policies == 'own_visits': must be one of meta, popularity_day",
        ),
        (
            "rankings: {policies: [collaborative]}",
            "serving.default_policy == 'meta': must be one of collaborative, popularity",
        ),
    ],
)
def test_feature_or_policy_that_does_not_exist_is_refused(refusal, line, problem):
    assert problem in refusal(MINIMAL + line)


def test_folder_may_be_in_an_object_store_and_has_a_folder_on_the_disk_of_each_machine():
    settings = Settings.model_validate({"folder": "s3a://bucket/my/shop", "source": SOURCE})
    assert str(settings.place / "a.json") == "s3://bucket/my/shop/a.json"
    assert settings.own_disk == Path(".recsys/bucket/my/shop")
    assert settings.model_copy(update={"disk": "/var/lib/recsys"}).own_disk == Path("/var/lib/recsys")
    assert Settings.model_validate({"folder": "x/y", "source": SOURCE}).own_disk == Path("x/y")


def test_folder_in_a_store_that_nothing_reads_is_refused(refusal):
    message = refusal(MINIMAL.replace("folder: ", "folder: ftp://bucket/", 1))
    assert "is no place known here, must be a local path or a URL of s3, s3a, gs," in message


def test_missing_file_is_named(tmp_path, refusal):
    with pytest.raises(ConfigurationError, match=r"absent.yaml does not exist: name a file such as conf/demo"):
        load_settings(tmp_path / "absent.yaml")
    assert "base.yaml does not exist" in refusal("extends: base.yaml\n" + MINIMAL)


@pytest.mark.parametrize("base", ["shop.yaml", "other.yaml", "[other.yaml]", "5"])
def test_circular_extends_or_one_without_a_file_name_is_refused(refusal, base):
    assert "must name another file" in refusal(f"extends: {base}\n" + MINIMAL, other="extends: shop.yaml\n")


@pytest.mark.parametrize("text", ["a: [", "\tb: 1", "a: b: c", "\0"])
def test_text_that_is_not_yaml_is_refused(refusal, text):
    assert "is not readable as YAML" in refusal(text)


@pytest.mark.parametrize("text", ["", "- a", "just text"])
def test_yaml_without_keys_is_refused(refusal, text):
    assert "must hold keys and values" in refusal(text)


def test_folder_or_binary_file_instead_of_a_configuration_is_refused(tmp_path):
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigurationError, match="is not readable as YAML"):
        load_settings(tmp_path / "binary.yaml")
    with pytest.raises(ConfigurationError, match=r"cannot be read \(Is a directory\): name a file such as"):
        load_settings(tmp_path)


def test_settings_are_frozen(load):
    with pytest.raises(ValueError, match="frozen"):
        load(MINIMAL).folder = "other"


def settings_classes(kind: type[StepSettings]) -> Iterator[type[StepSettings]]:
    for each in kind.__subclasses__():
        yield each
        yield from settings_classes(each)


@pytest.mark.parametrize(
    "kind",
    sorted((each for each in settings_classes(StepSettings) if each.__module__.startswith("recsys.")), key=str),
    ids=lambda kind: kind.__name__,
)
def test_every_setting_except_groups_has_a_docstring_of_a_sentence(kind):
    for name, field in kind.model_fields.items():
        is_group = isinstance(field.annotation, type) and issubclass(field.annotation, StepSettings)
        assert is_group or (field.description or "").endswith("."), f"{kind.__name__}.{name}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rankings: {kept: 30}", "kept == 30: is called 'top_k' now: rename the key"),
        ("rankings: {segments: {kept: 100}}", "kept == 100: is called 'top_k' now: rename the key"),
        ("meta_model: {min_again: 200}", "min_again == 200: is called 'min_repeats' now: rename the key"),
    ],
)
def test_former_name_of_a_key_is_refused_with_its_present_name(refusal, text, said):
    assert said in refusal(f"folder: var\nsource: {{sql: sql, raw: {{}}}}\n{text}\n")
