"""The base class of settings: typed, frozen and strict."""

import hashlib
import json
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ModelWrapValidatorHandler, ValidationError, model_validator
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from recsys.wording import did_you_mean


class StepSettings(BaseModel):
    """Settings of one step; an unknown key or a value of the wrong type is an error."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )
    renamed_keys: ClassVar[dict[str, str]] = {}
    """Former keys, and what they are called now."""

    @model_validator(mode="wrap")
    @classmethod
    def _say_what_an_unknown_key_might_be(cls, values: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return handler(values)
        except ValidationError as error:
            details = [cls._explained(each) for each in error.errors()]
            raise ValidationError.from_exception_data(cls.__name__, details) from None

    @classmethod
    def _explained(cls, error: ErrorDetails) -> InitErrorDetails:
        rule = error["msg"]
        if error["type"] == "extra_forbidden" and len(error["loc"]) == 1:
            rule = cls._rule_of_unknown_key(str(error["loc"][0]))
        explained = PydanticCustomError(error["type"], "{rule}", {"rule": rule})
        return InitErrorDetails(type=explained, loc=error["loc"], input=error["input"])

    @classmethod
    def _rule_of_unknown_key(cls, key: str) -> str:
        if key in cls.renamed_keys:
            return f"is called '{cls.renamed_keys[key]}' now: rename the key"
        known = [field.alias or name for name, field in cls.model_fields.items()]
        return f"unknown key{did_you_mean(key, known)}"


def digest(value: Any) -> str:
    """Return the SHA-256, in hex, of a value made of plain values and settings, nested in lists and mappings."""
    text = json.dumps(value, sort_keys=True, default=_to_plain_value)
    return hashlib.sha256(text.encode()).hexdigest()


def _to_plain_value(value: Any) -> Any:
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else str(value)
