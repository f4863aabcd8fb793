"""The base class of settings: typed, frozen and strict."""

import hashlib
import json
from typing import Any

from pydantic import BaseModel, ConfigDict


class StepSettings(BaseModel):
    """Settings of one step; an unknown key or a value of the wrong type is an error."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


def digest(value: Any) -> str:
    """Return the SHA-256, in hex, of a value made of plain values and settings, nested in lists and mappings."""
    text = json.dumps(value, sort_keys=True, default=_to_plain_value)
    return hashlib.sha256(text.encode()).hexdigest()


def _to_plain_value(value: Any) -> Any:
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else str(value)
