"""Mapping from the configuration to the objects of the packages.

Guarantees: each object is derived from the settings here and nowhere else, so the service, `explain` and `send`
decide by the same rules.
Not here: start, stop and reload (app); the settings and their defaults (config.model).
"""

from collections.abc import Mapping
from dataclasses import fields

from senderproxy.config.model import Config
from senderproxy.config.values import split_address
from senderproxy.delivery.session import SessionTimeouts
from senderproxy.relay.decide import Rules
from senderproxy.relay.intake import Handling, Mode
from senderproxy.relay.recipient_updates import OnDeferral
from senderproxy.routing.provider import Security, Smarthost


def rules_of(config: Config) -> Rules:
    """The settings by which relay.decide decides about a message."""
    return Rules(
        config.identity.hostname,
        config.provider_table(),
        config.routing_policy(),
        config.senders.policy(),
        internal_server_of(config),
        config.spool.returned_size,
    )


def internal_server_of(config: Config) -> Smarthost | None:
    """The server that takes the reports on undelivered mail; None: each report goes through its author's account."""
    if config.spool.reports_to is None:
        return None
    host, port = split_address(config.spool.reports_to)
    return Smarthost(str(host), port, Security.NONE)


def handling_of(config: Config) -> Mapping[str, Handling]:
    """The handling of messages at each listener, by the listener's name."""
    return {
        settings.name: Handling(Mode(settings.mode), OnDeferral(settings.on_deferral), settings.patience_seconds)
        for settings in config.listeners
    }


def session_timeouts_of(config: Config) -> SessionTimeouts:
    """The timeouts of a session with a smarthost, in seconds for each stage."""
    settings = config.delivery
    return SessionTimeouts(
        **{stage.name: getattr(settings, f"{stage.name}_seconds") for stage in fields(SessionTimeouts)}
    )


def same_listener_environment(old: Config, new: Config) -> bool:
    """True if a listener whose own settings are unchanged can stay open: it also depends on these sections."""
    return old.clients == new.clients and old.identity == new.identity
