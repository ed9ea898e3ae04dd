"""What every section is made of: a strict, frozen base, and numbers within bounds."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Share = Annotated[float, Field(gt=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
Weight = Annotated[float, Field(ge=0.0)]
Count = Annotated[int, Field(ge=0)]
AtLeastOne = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def default_type(name: str, formerly: str) -> BeforeValidator:
    """For sections told apart by `type`: one that has no `type` is `name`. The key was called `formerly` once."""

    def with_type(content: object) -> object:
        if not isinstance(content, dict):
            return content
        if formerly in content:
            raise ValueError(f"the key {formerly} is called type now: {{type: {content[formerly]}}}")
        return {"type": name, **content}

    return BeforeValidator(with_type)
