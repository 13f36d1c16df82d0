"""Comparison of the running service with the installed program: an update takes effect with a restart.

Not here: the condition (monitoring.service_conditions).
"""

from collections.abc import Mapping
from typing import Any

from senderproxy import __version__
from senderproxy.build import build_id
from senderproxy.monitoring.facts import OutdatedProgram


def outdated_program(status: Mapping[str, Any]) -> OutdatedProgram | None:
    """The fact that the service, whose status this is, runs another program; None if it runs the installed one.

    A service of before this comparison has a version and no build.
    """
    version, build = status.get("version", __version__), status.get("build", "")
    if version != __version__ or (build and build != build_id()):
        return OutdatedProgram(str(version), __version__)
    return None
