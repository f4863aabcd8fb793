"""The reference of the configuration, written from the settings themselves: `python -m recsys.config.reference`."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from recsys.config.settings import Settings

PAGE = Path("docs/configuration.md")
_HEAD = """# Configuration

Every key of a shop's configuration file, with its type, its default and what it means: to look up, not to read.
`recsys init` writes a file to begin with ([From your files to pages](own_shop.md)), `conf/production.yaml` is one for a
service. A file may begin with `extends: other.yaml`, and then holds only what differs. An unknown key, or a value that
breaks a rule, is an error that names it. `conf/base.yaml` holds what all shops share, `conf/demo.yaml` is an example.

This page is written from the code: `python -m recsys.config.reference`.
"""
_CONTAINERS: dict[Any, tuple[str, str]] = {tuple: ("list", "[]"), dict: ("mapping by name", ".NAME")}
"""By the type of a container of settings: its name, and what stands for each of them in a key."""
_RULES = ((Ge, "ge", "at least"), (Gt, "gt", "above"), (Le, "le", "at most"), (Lt, "lt", "below"))


def reference() -> str:
    """Return the page in Markdown: one section per key of the first level, one row per key below it."""
    sections = [_HEAD]
    top = [(name, field) for name, field in Settings.model_fields.items() if not _models(field.annotation)]
    sections += ["## The shop", "", *_table(top, "")]
    for name, field in Settings.model_fields.items():
        for model in _models(field.annotation):
            sections += ["", f"## {name}", "", _paragraph(field.description or model.__doc__ or ""), ""]
            sections += _table(model.model_fields.items(), f"{name}.")
    return "\n".join(sections) + "\n"


def _table(fields: Any, prefix: str) -> list[str]:
    head = ["| key | type | default | meaning |", "|---|---|---|---|"]
    return [*head, *(f"| {' | '.join(cells)} |" for cells in _rows(fields, prefix))]


def _rows(fields: Any, prefix: str, values: BaseModel | None = None) -> Iterator[tuple[str, str, str, str]]:
    """Yield a row for each field; one of settings is followed by theirs, those in a list by `[]`.

    Args:
        fields: Names and fields.
        prefix: The key before them.
        values: Settings that are the default of a key: their values are the defaults, not those of their class.
    """
    for name, field in fields:
        models = _models(field.annotation)
        key = f"{prefix}{field.alias or name}"
        meaning = _paragraph(field.description or "")
        default = getattr(values, name) if values else field.get_default(call_default_factory=True)
        if not models:
            yield f"`{key}`", _type(field), _default(default), meaning
            continue
        kind, each = _CONTAINERS.get(get_origin(field.annotation), ("settings or null", ""))
        if each or NoneType in get_args(field.annotation):
            yield f"`{key}`", kind, _default(default), meaning or _paragraph(models[0].__doc__ or "")
        for model in models:
            inner = default if isinstance(default, model) else None
            yield from _rows(model.model_fields.items(), f"{key}{each}.", inner)


def _models(annotation: Any) -> list[type[BaseModel]]:
    """Return the settings in a type: those of a union or a container too."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for each in get_args(annotation) for model in _models(each)]


def _type(field: FieldInfo) -> str:
    rules = [
        f"{words} {getattr(each, name):g}"
        for each in field.metadata
        for kind, name, words in _RULES
        if isinstance(each, kind)
    ]
    return _escaped(", ".join([_type_name(field.annotation), *rules]))


def _type_name(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " | ".join(map(str, arguments))
    if origin in (Union, UnionType):
        return " or ".join("null" if each is NoneType else _type_name(each) for each in arguments)
    if origin is tuple:
        return f"list of {_type_name(arguments[0])}"
    if origin is dict:
        return f"mapping of {_type_name(arguments[0])} to {_type_name(arguments[1])}"
    if origin is not None and hasattr(annotation, "__metadata__"):
        return _type_name(arguments[0])
    names = {str: "text", int: "whole number", float: "number", bool: "true | false", Any: "any"}
    return names.get(annotation, "instant")


def _default(value: Any) -> str:
    if value is PydanticUndefined:
        return "required"
    if value is None:
        return "null"
    if isinstance(value, tuple):
        value = [
            each.model_dump(mode="json", exclude_defaults=True) if isinstance(each, BaseModel) else each
            for each in value
        ]
    return f"`{_escaped(value if isinstance(value, str) and value else json.dumps(value, default=str))}`"


def _paragraph(text: str) -> str:
    return _escaped(" ".join(text.split()))


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    PAGE.write_text(reference(), "utf-8")
