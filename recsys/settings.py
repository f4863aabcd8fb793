"""The base class of settings: typed, frozen and strict."""

import hashlib
import json
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, model_validator


class StepSettings(BaseModel):
    """Settings of one step; an unknown key or a value of the wrong type is an error."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )
    renamed_keys: ClassVar[dict[str, str]] = {}
    """Former keys, and what they are called now."""

    @model_validator(mode="before")
    @classmethod
    def _refuse_former_keys(cls, values: Any) -> Any:
        for former, present in cls.renamed_keys.items():
            if isinstance(values, dict) and former in values:
                raise ValueError(f"'{former}' is called '{present}' now: rename the key")
        return values


def digest(value: Any) -> str:
    """Return the SHA-256, in hex, of a value made of plain values and settings, nested in lists and mappings."""
    text = json.dumps(value, sort_keys=True, default=_to_plain_value)
    return hashlib.sha256(text.encode()).hexdigest()


def _to_plain_value(value: Any) -> Any:
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else str(value)
