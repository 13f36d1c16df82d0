"""Conditions of the service itself: certificates, configuration, event loop, clock, program, crashes. PURE.

Not here: the reading of certificates (monitoring.certificate_times), the measurement of the event loop
(service.loop_monitor).
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final

from senderproxy.log_events import Severity
from senderproxy.monitoring.facts import CertificateFacts, CertificateOwner, Facts, MailGapFacts
from senderproxy.monitoring.record import EVERYBODY, Affected, AffectedKind, Condition, ConditionKey
from senderproxy.tracking.timeline import format_time
from senderproxy.translation import _, joined, ngettext, translated

# The remaining time of a certificate, and the part of its lifetime if that is less: one of 90 days is usually renewed
# when 30 are left, and one of 6 days later still.
_EXPIRY: Final = (
    (timedelta(days=1), 1 / 50, Severity.ERROR),
    (timedelta(days=7), 1 / 12, Severity.WARNING),
    (timedelta(days=30), 1 / 4, Severity.INFO),
)
_RECENT: Final = timedelta(hours=1)  # for that long a step of the clock or a crash is worth a look
_CRASH_SHOWN: Final = timedelta(days=1)  # from a crash to the end of its condition
_CRASHES: Final = 3  # within an hour: the service does not stay up
_DRAIN_TIME: Final = timedelta(
    hours=1
)  # an upgrade or a restart of the machine takes less; a longer drain is forgotten
_BLOCKS: Final = 10  # within an hour; fewer of them happen on any busy machine


# ---- certificates ----


_CERTIFICATE_KEYS: Final = {
    CertificateOwner.LISTENER: ConditionKey.LISTENER_CERTIFICATE,
    CertificateOwner.SMARTHOST: ConditionKey.SMARTHOST_CERTIFICATE,
    CertificateOwner.CLIENT: ConditionKey.CLIENT_CERTIFICATE,
}
_CERTIFICATE_USERS: Final = {
    CertificateOwner.LISTENER: Affected(AffectedKind.CLIENTS),
    CertificateOwner.SMARTHOST: Affected(AffectedKind.ACCOUNTS),
    CertificateOwner.CLIENT: EVERYBODY,
}


def certificate_conditions(facts: Facts) -> Iterator[Condition]:
    """Certificates that expire soon, or that cannot be used."""
    for certificate in facts.certificates:
        text, severity = _problem(certificate, facts.now)
        if severity is None:
            continue
        key = _CERTIFICATE_KEYS[certificate.owner]
        affected = _CERTIFICATE_USERS[certificate.owner]
        yield Condition(key, certificate.name, severity, facts.now, text, _certificate_hint(certificate), affected)


def _problem(certificate: CertificateFacts, now: datetime) -> tuple[str, Severity | None]:
    """The sentence and the severity; no severity if there is no problem."""
    owner = {
        CertificateOwner.LISTENER: _("The certificate of listener {name}"),
        CertificateOwner.SMARTHOST: _("The certificate of {name}"),
        CertificateOwner.CLIENT: _("The client certificate for smarthost {name}"),
    }[certificate.owner].format(name=certificate.name)
    if certificate.problem:
        return _("{certificate} cannot be used: {why}").format(
            certificate=owner, why=certificate.problem
        ), Severity.ERROR
    start, end = certificate.valid_from, certificate.valid_until
    if start is not None and now < start:
        text = _("{certificate} is not valid before {time}.")
        return text.format(certificate=owner, time=format_time(start, None)), Severity.ERROR
    if end is None:
        return "", None
    if now >= end:
        text = _("{certificate} expired at {time}.")
        return text.format(certificate=owner, time=format_time(end, None)), Severity.CRITICAL
    for remaining, share, severity in _EXPIRY:
        limit = remaining if start is None else min(remaining, (end - start) * share)
        if end - now <= limit:
            text = _("{certificate} expires at {time}.")
            return text.format(certificate=owner, time=format_time(end, None)), severity
    return "", None


def _certificate_hint(certificate: CertificateFacts) -> str:
    if certificate.owner is CertificateOwner.SMARTHOST:
        return _("Its owner has to renew it: the provider, or you if {name} is your own server.").format(
            name=certificate.name
        )
    if certificate.owner is CertificateOwner.CLIENT:
        return _("Renew {file}; the next session uses the new one.").format(file=certificate.file)
    if certificate.renewed:
        return _("{file} has a newer one: systemctl reload senderproxy").format(file=certificate.file)
    return _("Renew {file}, then: systemctl reload senderproxy").format(file=certificate.file)


def application_conditions(facts: Facts) -> Iterator[Condition]:
    """Expiring secrets and certificates of OAuth applications in use."""
    for one in facts.applications:
        severity = next((level for limit, _share, level in _EXPIRY if one.valid_until - facts.now <= limit), None)
        if severity is None or not one.accounts:
            continue
        if one.valid_until <= facts.now:
            text, severity = _("The secret of the application {name} expired at {time}."), Severity.CRITICAL
        else:
            text = _("The secret of the application {name} expires at {time}; then its accounts cannot send.")
        yield Condition(
            ConditionKey.APPLICATION_EXPIRES,
            one.application,
            severity,
            facts.now,
            text.format(name=one.application, time=format_time(one.valid_until, None)),
            _(
                "Make a new secret in the application's registration, and store it: senderproxy oauth set-secret {name}"
            ).format(name=one.application),
            Affected(AffectedKind.ACCOUNTS, tuple(one.accounts)),
        )


# ---- configuration, loop, clock, crashes ----


def service_conditions(facts: Facts) -> Iterator[Condition]:
    """A refused configuration, a blocked loop, a step of the clock, alerts that fail, a long drain, a crash."""
    if (refused := facts.configuration) is not None:
        text = _("The configuration file is refused, the old configuration is in force: {why}")
        hint = translated(refused.hint) or _("Correct it, then: systemctl reload senderproxy")
        yield Condition(
            ConditionKey.CONFIGURATION_REFUSED, "", Severity.ERROR, refused.at, text.format(why=refused.why), hint
        )
    if (loop := facts.loop) is not None and loop.blocks:
        text = ngettext(
            "All clients waited for the service {count} time within an hour, at most {seconds} s since its start.",
            "All clients waited for the service {count} times within an hour, at most {seconds} s since its start.",
            loop.blocks,
        )
        yield Condition(
            ConditionKey.LOOP_BLOCKED,
            "",
            Severity.WARNING if loop.blocks >= _BLOCKS else Severity.INFO,
            loop.since,
            text.format(count=loop.blocks, seconds=f"{loop.longest_seconds:.1f}"),
            _("The cause is a busy machine, or it is in the log: journalctl -u senderproxy -g 'event loop blocked'"),
        )
    if (clock := facts.clock) is not None and facts.now - clock.at < _RECENT:
        text = _("The clock of this machine was set by {seconds} s; due times were moved with it.")
        yield Condition(
            ConditionKey.CLOCK_STEPPED,
            "",
            Severity.INFO,
            clock.at,
            text.format(seconds=f"{clock.seconds:+.0f}"),
            _("Check that time is synchronised: timedatectl"),
        )
    for way in facts.alert_ways:
        yield Condition(
            ConditionKey.ALERTS_FAILING,
            way.way,
            Severity.WARNING,
            way.since,
            _("Alerts cannot be sent by {way}: {why}").format(way=way.way, why=way.why),
            translated(way.hint) or _("When it is fixed: senderproxy alert test"),
        )
    if (metrics := facts.metrics) is not None:
        text = _("No metrics can be read on {address}: {why}")
        yield Condition(
            ConditionKey.METRICS_UNAVAILABLE,
            "",
            Severity.INFO,
            facts.now,
            text.format(address=metrics.address, why=metrics.why),
            translated(metrics.hint),
        )
    if (drain := facts.drain) is not None and facts.now - drain.since >= _DRAIN_TIME:
        text = _(
            "The service has been draining since {time}: health checks fail, so the other machines have all the mail."
        )
        yield Condition(
            ConditionKey.DRAINING,
            "",
            Severity.WARNING,
            drain.since,
            text.format(time=format_time(drain.since, None)),
            _("Put it back: senderproxy drain --undo"),
        )
    if (program := facts.program) is not None:
        text = (
            _("The service runs version {running}, and version {installed} is installed.")
            if program.running != program.installed
            else _("The service runs another build of version {running} than the one that is installed.")
        )
        yield Condition(
            ConditionKey.PROGRAM_OUTDATED,
            "",
            Severity.INFO,
            facts.now,
            text.format(running=program.running, installed=program.installed),
            "systemctl restart senderproxy",
        )
    if (gap := facts.mail_gap) is not None:
        yield _no_mail(gap, facts.now)
    yield from _crashes(facts)


def _no_mail(gap: MailGapFacts, now: datetime) -> Condition:
    last = format_time(now - timedelta(seconds=gap.seconds), None)
    text = _("No message was accepted since {time}, which is unusually long.")
    hint = _("Send a test message: senderproxy send --to ADDRESS; then look at your mail server's queue.")
    return Condition(ConditionKey.NO_MAIL, "", Severity.WARNING, now, text.format(time=last), hint)


def _crashes(facts: Facts) -> Iterator[Condition]:
    crash = facts.crash
    if crash is None or facts.now - crash.times[-1] >= _CRASH_SHOWN:
        return
    times = [at for at in crash.times if facts.now - at < _CRASH_SHOWN]
    recent = sum(facts.now - at < _RECENT for at in times)
    text = ngettext(
        "The service ended without a stop {count} time within a day, and runs again; last at {time}.",
        "The service ended without a stop {count} times within a day, and runs again; last at {time}.",
        len(times),
    ).format(count=len(times), time=format_time(times[-1], None))
    severity = Severity.ERROR if recent >= _CRASHES else Severity.WARNING if recent else Severity.INFO
    yield Condition(
        ConditionKey.SERVICE_CRASHED,
        "",
        severity,
        times[0],
        joined(" ", (text, crash.cause)) if crash.cause else text,
        _("The log before that time has the cause: journalctl -u senderproxy"),
    )
