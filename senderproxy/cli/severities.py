"""Width and styles of the severities of conditions, as `status` and `check` print them."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from senderproxy.cli.screen import Style
from senderproxy.log_events import Severity

LABEL_WIDTH: Final = 8  # columns

STYLES: Final[Mapping[Severity, Style | None]] = MappingProxyType(
    {
        Severity.INFO: None,
        Severity.WARNING: Style.YELLOW,
        Severity.ERROR: Style.RED,
        Severity.CRITICAL: Style.BOLD_RED,
    }
)
