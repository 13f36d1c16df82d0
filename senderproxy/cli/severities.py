"""Labels of the severities of conditions, as `status` and `check` print them."""

from typing import Final

from senderproxy.log_events import Severity
from senderproxy.translation import N_, _

LABEL_WIDTH: Final = 8  # columns

_LABELS: Final = {
    Severity.INFO: N_("info"),
    Severity.WARNING: N_("warning"),
    Severity.ERROR: N_("ERROR"),
    Severity.CRITICAL: N_("CRITICAL"),
}


def label(severity: Severity) -> str:
    """The word for a severity."""
    return _(_LABELS[severity])
