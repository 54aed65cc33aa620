"""`Config`: the base of every part of a manifest."""

from pydantic import BaseModel, ConfigDict


class Config(BaseModel):
    """Frozen, no unknown fields, and the docstring under a field is its description."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
