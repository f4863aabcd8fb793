"""The base of every step's settings: typed, frozen and strict."""

from pydantic import BaseModel, ConfigDict


class StepSettings(BaseModel):
    """Settings of one step; an unknown key or a value of another type is an error."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )
