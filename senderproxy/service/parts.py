"""Parts of the program that are loaded because the configuration uses them.

Called at the start before the service is ready, and at a reload on a thread before the new configuration is in force:
no message waits for an import, and an upgrade of the files is noticed here (late_import).
Not here: what the vault needs (signing.keys, sent_copy.copies), what is fixed at the start (metrics, page: app).
docs/decisions/0205 has the list of all parts.
"""

from senderproxy.config.model import Config
from senderproxy.config.values import SQLITE_ENGINE
from senderproxy.dns_client.client import load as load_look_ups
from senderproxy.http_client.client import load as load_requests
from senderproxy.late_import import late_import


def load_parts(config: Config) -> None:
    """Load what this configuration uses. May take 0.2 s. Raises ProgramReplaced."""
    if "mx" in config.mx_vias:
        load_look_ups()
    if config.alerts.webhook is not None or config.alerts.ping is not None:
        load_requests()
    if config.spool.engine != SQLITE_ENGINE:
        with late_import():
            import senderproxy.service.postgresql
    if config.footers:
        with late_import():
            import senderproxy.footer.insertion  # noqa: F401
