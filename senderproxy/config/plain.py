"""Stand-ins for the parts of pydantic that describe the configuration: they hold values and check nothing. PURE.

For the running service, whose configuration is read and checked by a process of its own (config.reader): pydantic with
its models takes 12 MB. Guarantees: a section equals another one as with pydantic, and cannot be changed.
Not here: the choice between both (config.schema).
"""

from collections.abc import Callable, Mapping
from typing import Any, NoReturn, Self

_wanted = False


def use_plain_sections() -> None:
    """Describe the configuration without pydantic, in this process. Without effect once config.schema is loaded."""
    global _wanted
    _wanted = True


def are_wanted() -> bool:
    """True after `use_plain_sections`."""
    return _wanted


class PlainModel:
    """In place of pydantic.BaseModel. Only a pickle of a checked section makes an instance with other than defaults."""

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        """Take the values of a section from pydantic's state, or from that of a copy of this class."""
        vars(self).update(state.get("__dict__", state))

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"{type(self).__name__}.{name}: a section cannot be changed")

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and vars(other) == vars(self)

    def __hash__(self) -> int:
        return hash((type(self), *vars(self).values()))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in vars(self).items())})"

    def model_copy(self, *, update: Mapping[str, Any]) -> Self:
        """A copy with other values, which are not checked; as pydantic's."""
        copy = object.__new__(type(self))
        vars(copy).update({**vars(self), **update})
        return copy


class NotValid(ValueError):
    """In place of pydantic_core.PydanticCustomError."""

    def __init__(self, kind: str, template: str, context: Mapping[str, Any] | None = None) -> None:
        super().__init__(template.format(**(context or {})))
        self.type = kind
        self.context = context


class NothingValidated(ValueError):
    """In place of pydantic.ValidationError, which nothing raises here."""


def default_of(default: object = ..., **_described: object) -> object:
    """In place of pydantic.Field: the default is the attribute of the class."""
    return default


def unused(*_arguments: object, **_settings: object) -> Callable[[Any], Any]:
    """In place of a validator: leaves what it decorates as it is."""
    return lambda decorated: decorated
