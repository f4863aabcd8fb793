import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict

from recsys.config import strict_yaml
from recsys.config.settings import load_settings
from recsys.config.strict_yaml import MAX_BYTES, MAX_NESTING, MAX_NUMBER
from recsys.errors import ConfigurationError
from recsys.experiments.files import load_experiments
from recsys.rules.settings import load_rules


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "shop.yaml"


@pytest.fixture
def read(path) -> Callable[[str | bytes], dict[str, Any]]:
    def read_content(content: str | bytes) -> dict[str, Any]:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return strict_yaml.read(path, "conf/demo.yaml")

    return read_content


@pytest.fixture
def refusal(read, path) -> Callable[[str | bytes], str]:
    """Return the one-line message of the error that a content raises, without the file's name."""

    def message(content: str | bytes) -> str:
        with pytest.raises(ConfigurationError) as error:
            read(content)
        (line,) = str(error.value).splitlines()
        assert line.startswith(f"{path} ")
        return line.removeprefix(f"{path} ").removeprefix("is not readable as YAML: ")

    return message


# Nine levels of nine aliases: 430 million values in less than 500 bytes.
NESTED_ANCHORS = "a: &a [x]\n" + "".join(
    f"{name}: &{name} [{', '.join(['*' + before] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize("load", [load_settings, load_rules, load_experiments])
@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "folder: a\nnote: b\nfolder: c\n",
            "line 3, 'folder: c': key 'folder' stands twice, first on line 1: keep one",
        ),
        (NESTED_ANCHORS, "line 1, 'a: &a [x]': anchor 'a' is not allowed: write the value out where it is needed"),
        ("a: " + "[" * 100, f"is nested in {MAX_NESTING} lists and mappings, must be in fewer: nest less"),
        ("a: '" + "x" * MAX_BYTES + "'", "has more than 262,144 bytes: shorten its lists"),
    ],
    ids=["repeated key", "nested anchors", "nesting", "size"],
)
def test_every_yaml_file_that_people_write_is_read_within_the_same_limits(path, load, text, problem):
    path.write_text(text)
    with pytest.raises(ConfigurationError) as error:
        load(path)
    assert str(path) in str(error.value)
    assert problem in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_folder_is_no_file_to_read(tmp_path):
    with pytest.raises(ConfigurationError) as error:
        strict_yaml.read(tmp_path, "conf/demo.yaml")
    assert str(error.value) == f"{tmp_path} cannot be read (Is a directory): name a file such as conf/demo.yaml"


def test_content_refused_for_its_size_is_never_built(refusal):
    start = time.process_time()
    for content in (NESTED_ANCHORS, "a: " + "[" * 200_000, "a: " + "1" + ":1" * 100_000, "{a: " * 50_000):
        refusal(content)
    assert time.process_time() - start < 2  # built, the nested anchors alone would take minutes


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: 1\nb: {c: 1, d: 2, c: 3}", "line 2, 'b: {c: 1, d: 2, c: 3}': key 'c' stands twice, first on line 2: keep"),
        ("a: &first 1\nb: 2", "line 1, 'a: &first 1': anchor 'first' is not allowed"),
        ("a: 1\nb: *first", "line 2, 'b: *first': anchor 'first' is not allowed"),
        ("a: 1\n<<: {b: 2}", "line 2, '<<: {b: 2}': merge key '<<' is not allowed: write the keys out"),
        ("a: 1\nb: c: d", "line 2, 'b: c: d': mapping values are not allowed here"),
        ("a: 1\nb: 2026-13-01", "line 2, 'b: 2026-13-01': month must be in 1..12: correct the value"),
        ("a: " + "9" * 5_000, f"a number of 5,000 characters, at most {MAX_NUMBER}: put a text in quotes"),
        ("a: 1\n---\nb: 2", "line 2, '---': but found another document"),
        ("a: !!python/name:os.system x", "could not determine a constructor for the tag"),
        ("a: 1\0", "unacceptable character #x0000: special characters are not allowed"),
        (b"\xff\xfea\0", "'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"),
        ("- a", "holds list, must hold keys and values"),
    ],
)
def test_problem_is_named_in_one_line_with_its_line_number(refusal, text, problem):
    assert problem in refusal(text)


def test_long_line_is_shown_only_around_the_problem(refusal):
    message = refusal("a: [" + "x, " * 1_000 + "b: c: d]")
    assert "x, x, b: c: d]': " in message
    assert len(message) < 200


def test_values_at_the_limits_are_read(read):
    nested: Any = 1
    for _ in range(MAX_NESTING - 2):  # the file's mapping and the number itself count too
        nested = [nested]
    text = f"a: {nested}\nb: {'9' * MAX_NUMBER}\nc: {'x' * 5_000}\n'<<': quoted\n"
    text += "#" * (MAX_BYTES - len(text))
    assert read(text) == {"a": nested, "b": int("9" * MAX_NUMBER), "c": "x" * 5_000, "<<": "quoted"}


def test_byte_order_mark_is_not_part_of_the_first_key(read):
    assert read("\ufeffnote: Île\n".encode()) == {"note": "Île"}


def test_equal_keys_in_two_mappings_are_not_repeated_keys(read):
    assert read("{a: {c: 1}, b: [{c: 2}, {c: 3}]}") == {"a": {"c": 1}, "b": [{"c": 2}, {"c": 3}]}


def test_unquoted_truth_values_and_base_60_numbers_are_read_as_yaml_defines(read):
    assert read("a: [NO, on]\nb: 12:30\nc: 'NO'") == {"a": [False, True], "b": 750, "c": "NO"}


class _Note(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    note: int


def test_long_keys_and_values_are_cut_off_in_the_message(path):
    long = "x" * 50_000
    path.write_text(f"note: {long}\n? {long}\n: {long}\n")
    with pytest.raises(ConfigurationError) as error:
        strict_yaml.load(path, _Note, "conf/demo.yaml")
    first, *lines = str(error.value).splitlines()
    assert first == f"{path}: 2 wrong:"
    assert [line[:16] for line in lines] == ["  note == 'xxxxx", "  xxxxxxxxxxxxxx"]
    assert max(map(len, lines)) < 500


def test_number_too_long_for_decimal_notation_is_refused_without_a_crash(refusal):
    assert "a number of 9,002 characters" in refusal("a: 0x" + "f" * 9_000)
