"""Reads YAML files that people write: strictly, and with all that is wrong in one error."""

from collections.abc import Callable, Hashable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from recsys.errors import ConfigurationError

_Model = TypeVar("_Model", bound=BaseModel)


def load(
    path: Path, model: type[_Model], example: str, problems_of: Callable[[dict[str, Any]], Iterable[str]] = lambda _: ()
) -> _Model:
    """Read a file as a model.

    Args:
        path: The file.
        model: What it must hold.
        example: A file such as it should be, for errors.
        problems_of: Says what is wrong with the content beyond what the model tells.

    Raises:
        ConfigurationError: Naming file, key, value and rule of everything that is wrong.
    """
    content = _read(path, example)
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


def wrong(path: Path, problems: list[str]) -> ConfigurationError:
    """Return the error that lists what is wrong with a file."""
    return ConfigurationError(f"{path}: {len(problems)} wrong:\n" + "\n".join(f"  {problem}" for problem in problems))


def problems(error: ValidationError) -> list[str]:
    """Return key, value and rule of everything that is wrong."""
    return [f"{_key(each['loc'])} == {_shown(each)}: {_rule(each)}" for each in error.errors()]


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice: YAML would forget the first one, be it a legal ban."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key.value!r} stands twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _read(path: Path, example: str) -> dict[str, Any]:
    try:
        content = yaml.load(path.read_text("utf-8"), _Loader)
    except FileNotFoundError as error:
        raise ConfigurationError(f"{path} does not exist: name a file such as {example}") from error
    except (yaml.YAMLError, OSError, ValueError) as error:
        raise ConfigurationError(f"{path} is not readable as YAML: {error}") from error
    if not isinstance(content, dict):
        raise ConfigurationError(f"{path} holds {type(content).__name__}, must hold keys and values")
    return content


def _key(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in location)


def _shown(problem: Any) -> str:
    return "(missing)" if problem["type"] == "missing" else repr(problem["input"])[:200]


def _rule(problem: Any) -> str:
    return str(problem["msg"]).removeprefix("Value error, ")
