"""Limit of file descriptors: raised as far as the system allows, and compared with what the listeners may need.

Guarantees: with the configured connections all in use, no accept, no file and no session fails for lack of a
descriptor; otherwise the service does not start with this configuration.
Not here: the reaction where a descriptor is lacking nevertheless (listener.acceptor).
getrlimit(2) RLIMIT_NOFILE.
"""

import resource
from contextlib import suppress
from typing import Final

from senderproxy.config.model import Config
from senderproxy.errors import SenderproxyError
from senderproxy.listener.acceptor import WAITING_LIMIT
from senderproxy.listener.connections import LEAVING_LIMIT
from senderproxy.translation import _

_OF_CONNECTION: Final = 3  # its socket, a file for a large message, a session with the provider
_OF_SERVICE: Final = 200  # spool, log, vault, control socket and its clients, look-ups, idle sessions


def descriptors_needed(config: Config) -> int:
    """The most descriptors that the service may need with this configuration."""
    listeners = sum(_OF_CONNECTION * listener.max_connections + LEAVING_LIMIT for listener in config.listeners)
    proxied = sum(WAITING_LIMIT for listener in config.listeners if listener.proxy_from)
    return listeners + proxied + _OF_SERVICE


def provide_descriptors(config: Config) -> None:
    """Raise the soft limit to the hard limit. Raises SenderproxyError where the configuration needs more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(ValueError, OSError):  # more than the kernel allows a process
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    limit, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = descriptors_needed(config)
    if limit != resource.RLIM_INFINITY and needed > limit:
        raise SenderproxyError(
            _("The listeners may need {needed} file descriptors, but this process may have {limit}.").format(
                needed=needed, limit=limit
            ),
            hint=_("Lower max_connections, or raise LimitNOFILE= of the unit: systemctl edit senderproxy"),
        )
