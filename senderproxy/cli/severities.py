"""Labels and styles of the severities of conditions, as `status` and `check` print them."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from senderproxy.cli.screen import Style
from senderproxy.log_events import Severity
from senderproxy.translation import N_, _

LABEL_WIDTH: Final = 8  # columns

_LABELS: Final = {
    Severity.INFO: N_("info"),
    Severity.WARNING: N_("warning"),
    Severity.ERROR: N_("ERROR"),
    Severity.CRITICAL: N_("CRITICAL"),
}


STYLES: Final[Mapping[Severity, Style | None]] = MappingProxyType(
    {
        Severity.INFO: None,
        Severity.WARNING: Style.YELLOW,
        Severity.ERROR: Style.RED,
        Severity.CRITICAL: Style.BOLD_RED,
    }
)


def label(severity: Severity) -> str:
    """The word for a severity."""
    return _(_LABELS[severity])
