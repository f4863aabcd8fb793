"""Reads YAML files that people write: strictly, within limits, with everything that is wrong in one error."""

import json
from collections.abc import Callable, Hashable, Iterable
from datetime import date
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from recsys.errors import ConfigurationError

MAX_BYTES = 1 << 18
"""Maximum length of a file; a longer one is refused before it is parsed, as this one takes two seconds to parse."""
MAX_NESTING = 50
"""Maximum number of lists and mappings around a value."""
MAX_NUMBER = 64
"""Maximum number of characters of a number, an instant or a truth value: YAML reads 1:1:1:1 in base 60, in time
quadratic in its length."""

_MERGE_KEY = "tag:yaml.org,2002:merge"
_TEXT = "tag:yaml.org,2002:str"
_Model = TypeVar("_Model", bound=BaseModel)


def load(
    path: Path, model: type[_Model], example: str, problems_of: Callable[[dict[str, Any]], Iterable[str]] = lambda _: ()
) -> _Model:
    """Return the content of a file as a model.

    Args:
        path: The file.
        model: The model that the content must satisfy.
        example: Path of a correct file, named in errors.
        problems_of: Returns a line for each problem of the content that the model does not find.

    Raises:
        ConfigurationError: If anything is wrong; lists file, key, value and rule of every problem.
    """
    content = read(path, example)
    found: list[str] = []
    loaded = None
    try:
        loaded = model.model_validate(content)
    except ValidationError as error:
        found = problems(error)
    found += problems_of(content)
    if loaded is None or found:
        raise wrong(path, found)
    return loaded


def read(path: Path, example: str) -> dict[str, Any]:
    """Return the content of a file, YAML or JSON, as plain keys and values.

    Repeated keys are refused: YAML would silently drop the first, which may be a legal ban. Anchors are refused: a few
    hundred bytes of nested anchors can expand to billions of values.

    Args:
        path: The file, UTF-8 with or without a byte-order mark.
        example: Path of a correct file, named in errors.

    Raises:
        ConfigurationError: In one line, naming file, line, value and rule of the first problem.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise ConfigurationError(f"{path} has more than {MAX_BYTES:,} bytes: shorten its lists")
        values = yaml.load(_json_as_yaml(content.decode("utf-8-sig")), _Loader)
    except FileNotFoundError as error:
        raise ConfigurationError(f"{path} does not exist: name a file such as {example}") from error
    except OSError as error:  # such as a folder
        raise ConfigurationError(f"{path} cannot be read ({error.strerror}): name a file such as {example}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigurationError(f"{path} is not readable as YAML: {_one_line(error)}") from error
    if not isinstance(values, dict):
        raise ConfigurationError(f"{path} holds {type(values).__name__}, must hold keys and values")
    return values


def wrong(path: Path, problems: list[str]) -> ConfigurationError:
    """Return the error that lists what is wrong with a file."""
    return ConfigurationError(f"{path}: {len(problems)} wrong:\n" + "\n".join(f"  {problem}" for problem in problems))


def problems(error: ValidationError) -> list[str]:
    """Return a line with key, value and rule for each problem."""
    return [
        f"{_dotted_key(each['loc'])} == (missing): {_rule_of_error(each)}"
        if each["type"] == "missing"
        else problem(_dotted_key(each["loc"]), each["input"], _rule_of_error(each))
        for each in error.errors()
    ]


def problem(key: str, value: object, rule: str) -> str:
    """Return a line with key, value and rule of a problem; long values are cut off."""
    shown = value.isoformat() if isinstance(value, date) else repr(value)
    return f"{key[:200]} == {shown[:200]}: {rule}"


def _json_as_yaml(text: str) -> str:
    """Return a text that is JSON as YAML, which has neither JSON's tabs nor its pairs of escapes; others unchanged."""
    try:
        values = json.loads(text, object_pairs_hook=_distinct_keys) if text.lstrip().startswith("{") else None
    except (json.JSONDecodeError, RecursionError):
        return text
    return text if values is None else json.dumps(values, ensure_ascii=False)


def _distinct_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in pairs:
        if key in values:
            raise ValueError(f"key {key[:80]!r} stands twice: keep one of them")
        values[key] = value
    return values


class _Loader(yaml.SafeLoader):
    """Refuses what is ambiguous or unbounded before it is built."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()
        if event.anchor is not None:
            _refuse(event, f"anchor {event.anchor[:80]!r} is not allowed: write the value out where it is needed")
        if self.depth == MAX_NESTING:
            _refuse(event, f"is nested in {MAX_NESTING} lists and mappings, must be in fewer: nest less")
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        lines: dict[str, int] = {}
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.tag == _MERGE_KEY:
                _refuse(key, f"merge key {key.value!r} is not allowed: write the keys out")
            if key.value in lines:
                _refuse(key, f"key {key.value[:80]!r} stands twice, first on line {lines[key.value]}: keep one of them")
            lines[key.value] = key.start_mark.line + 1
        return super().construct_mapping(node, deep)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        if isinstance(node, yaml.ScalarNode) and node.tag != _TEXT and len(node.value) > MAX_NUMBER:
            _refuse(node, f"a number of {len(node.value):,} characters, at most {MAX_NUMBER}: put a text in quotes")
        try:
            return super().construct_object(node, deep)
        except ValueError as error:  # such as month 13 of an instant
            _refuse(node, f"{error}: correct the value")


def _refuse(node: Any, rule: str) -> NoReturn:
    raise yaml.MarkedYAMLError(problem=rule, problem_mark=node.start_mark)


def _one_line(error: Exception) -> str:
    """Return line, text and rule of a YAML error, or the text of any other error, in one line."""
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return " ".join(str(error).split())
    mark = error.problem_mark
    text = (mark.get_snippet() or "").splitlines()[:1]
    return f"line {mark.line + 1}, {''.join(text).strip()!r}: {error.problem}"


def _dotted_key(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in location)


def _rule_of_error(error: Any) -> str:
    return str(error["msg"]).removeprefix("Value error, ")[:500]
