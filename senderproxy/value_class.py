"""Classes of values of which every message makes some dozens.

Guarantees: mypy refuses an assignment to a field, as for a frozen dataclass. At runtime nothing does: a frozen
dataclass of six fields takes 1.2 us to make, this one 0.2 us, and together they were a twentieth of the CPU time of a
message. For all other values: `dataclass(frozen=True, slots=True)`.
"""

from dataclasses import dataclass, field
from typing import TypeVar, dataclass_transform

_T = TypeVar("_T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def value_class(cls: type[_T]) -> type[_T]:
    """Make a dataclass with slots, compared and hashed by its fields."""
    return dataclass(slots=True, unsafe_hash=True)(cls)
