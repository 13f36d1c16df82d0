"""The parts of pydantic that describe the configuration.

In a process that has called `config.plain.use_plain_sections` before, stand-ins that check nothing: the same sections
with the same methods, for values that another process has checked.
Not here: the sections (config.model), the reading (config.load, config.reader).
"""

from typing import TYPE_CHECKING

from senderproxy.config import plain

if not TYPE_CHECKING and plain.are_wanted():
    BaseModel = plain.PlainModel
    BeforeValidator = model_validator = plain.unused
    ConfigDict = dict
    Field = plain.default_of
    PydanticCustomError = plain.NotValid
    ValidationError = plain.NothingValidated
else:
    from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
    from pydantic_core import PydanticCustomError

__all__ = [
    "BaseModel",
    "BeforeValidator",
    "ConfigDict",
    "Field",
    "PydanticCustomError",
    "ValidationError",
    "are_plain",
    "model_validator",
]


def are_plain() -> bool:
    """True if the sections of this process check nothing."""
    return BaseModel.__module__ == plain.__name__
