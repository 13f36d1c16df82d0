"""Bases of the configuration: a section, and a contradiction between settings. PURE.

Guarantees: a section is immutable, and refuses unknown settings.
Not here: the sections (config.model, config.route_settings).
"""

from dataclasses import dataclass

from senderproxy.config.schema import BaseModel, ConfigDict
from senderproxy.config.toml_lines import SettingPath


@dataclass(frozen=True, slots=True)
class Conflict:
    """Settings that are valid alone, but not together. `path`: the one to change; `involved`: all of them."""

    path: SettingPath
    message: str
    hint: str
    involved: tuple[SettingPath, ...]


class Section(BaseModel):
    """Base of all sections: immutable, and without unknown settings."""

    # The input may contain a password in the wrong place: pydantic must not quote it.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
