"""Words of alerts by mail, in German and English. PURE.

Guarantees: each kind of condition has a short title in both languages. A title names the account, provider or file, and
has no line end.
Not here: the cause and the fix of a condition, which it has itself (monitoring), the layout of a mail (alerts.mail).
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from senderproxy.alerts.record import AlertKind
from senderproxy.dsn.wording import Bilingual
from senderproxy.monitoring.record import AffectedKind, Condition, ConditionKey

_SUBJECT_LIMIT: Final = 80  # characters of a name in a title

# {name}: the condition's subject, or the number of accounts.
TITLES: Final[Mapping[str, Bilingual]] = MappingProxyType(
    {
        ConditionKey.ACCOUNT_SUSPENDED: Bilingual(
            "{name}: kein Versand möglich, Kennwort abgelehnt", "{name} cannot send: password refused"
        ),
        ConditionKey.ACCOUNT_PAUSED: Bilingual(
            "{name}: kein Versand im Moment, der Anbieter bremst",
            "{name} cannot send now: the provider reports a limit",
        ),
        ConditionKey.NO_SESSION: Bilingual(
            "{name}: kein Versand möglich, keine Verbindung zum Anbieter",
            "{name} cannot send: no connection to the provider",
        ),
        ConditionKey.HOURLY_LIMIT: Bilingual("{name}: Limit der Stunde erreicht", "{name}: hourly limit reached"),
        ConditionKey.SENDER_RULE_STRICTER: Bilingual(
            "{name}: der Anbieter lehnt Absender ab", "{name}: the provider refuses senders"
        ),
        ConditionKey.LOOK_UP_FAILING: Bilingual(
            "{name}: Namensauflösung schlägt fehl", "{name}: address look-ups fail"
        ),
        ConditionKey.SMARTHOST_CERTIFICATE: Bilingual(
            "{name}: Zertifikat des Anbieters ungültig", "{name}: invalid certificate of the provider"
        ),
        ConditionKey.ROUTE_UNREACHABLE: Bilingual(
            "{name}: der Weg ist nicht erreichbar", "{name}: the route cannot be reached"
        ),
        ConditionKey.MX_STOPPED: Bilingual("{name}: Direktversand angehalten", "{name}: direct delivery is stopped"),
        ConditionKey.CLIENT_CERTIFICATE: Bilingual(
            "{name}: das Client-Zertifikat läuft ab", "{name}: the client certificate expires"
        ),
        ConditionKey.LISTENER_CERTIFICATE: Bilingual(
            "{name}: eigenes Zertifikat läuft ab oder ist ungültig", "{name}: own certificate expires or is invalid"
        ),
        ConditionKey.APPLICATION_EXPIRES: Bilingual(
            "{name}: das Geheimnis der OAuth-Anwendung läuft ab", "{name}: the secret of the OAuth application expires"
        ),
        ConditionKey.QUEUE_LATE: Bilingual("Nachrichten warten zu lange", "messages wait too long"),
        ConditionKey.MESSAGE_HELD: Bilingual("Nachrichten sind angehalten", "messages are held"),
        ConditionKey.DISK_LOW: Bilingual("der Platz auf der Platte wird knapp", "disk space is low"),
        ConditionKey.DISK_FULL: Bilingual("die Platte ist voll", "the disk is full"),
        ConditionKey.DISK_SILENT: Bilingual("die Platte antwortet nicht", "the disk does not respond"),
        ConditionKey.DISK_BROKEN: Bilingual("die Platte meldet Fehler", "the disk reports errors"),
        ConditionKey.SPOOL_CLOSED: Bilingual("die Warteschlange ist nicht verfügbar", "the queue is unavailable"),
        ConditionKey.SPOOL_FILE_LOST: Bilingual("eine Datei der Warteschlange fehlt", "a file of the queue is missing"),
        ConditionKey.VAULT_UNREADABLE: Bilingual("der Tresor ist nicht lesbar", "the vault cannot be read"),
        ConditionKey.VAULT_ROLLED_BACK: Bilingual(
            "der Tresor ist älter als der vorige", "the vault is older than the one before"
        ),
        ConditionKey.VAULT_RECORD_UNUSABLE: Bilingual(
            "Einträge im Tresor sind unbrauchbar", "records of the vault cannot be used"
        ),
        ConditionKey.NO_ACCOUNT: Bilingual("es gibt noch kein Konto", "there is no account yet"),
        ConditionKey.UNKNOWN_PROVIDER: Bilingual(
            "der Anbieter {name} ist nicht konfiguriert", "provider {name} is not configured"
        ),
        ConditionKey.UNKNOWN_ACCOUNT: Bilingual(
            "{name} nennt ein unbekanntes Konto", "{name} names an unknown account"
        ),
        ConditionKey.CONFIGURATION_REFUSED: Bilingual(
            "die neue Konfiguration wurde abgelehnt", "the new configuration was refused"
        ),
        ConditionKey.CLIENT_TURNED_AWAY: Bilingual("{name}: Client abgewiesen", "{name}: client turned away"),
        ConditionKey.MESSAGES_REFUSED: Bilingual("{name}: Nachrichten abgelehnt", "{name}: messages refused"),
        ConditionKey.MAIL_LOOP: Bilingual("{name}: Mailschleife", "{name}: mail loop"),
        ConditionKey.LOOP_BLOCKED: Bilingual("der Dienst antwortet langsam", "the service responds slowly"),
        ConditionKey.CLOCK_STEPPED: Bilingual("die Uhr wurde verstellt", "the clock was changed"),
        ConditionKey.SERVICE_CRASHED: Bilingual("der Dienst ist abgestürzt", "the service crashed"),
        ConditionKey.PROGRAM_OUTDATED: Bilingual(
            "der Dienst ist älter als das Programm", "the service is older than the program"
        ),
        ConditionKey.NO_MAIL: Bilingual("es kommt keine Mail mehr", "no mail for longer than usual"),
        ConditionKey.SPF_WRONG: Bilingual("{name}: SPF ist falsch", "{name}: SPF is wrong"),
        ConditionKey.DKIM_WRONG: Bilingual("{name}: DKIM ist falsch", "{name}: DKIM is wrong"),
        ConditionKey.DKIM_RECORD: Bilingual("{name}: eigener DKIM-Schlüssel", "{name}: own DKIM key"),
        ConditionKey.DMARC_WRONG: Bilingual("{name}: DMARC ist falsch", "{name}: DMARC is wrong"),
        ConditionKey.MX_WRONG: Bilingual("{name}: kann keine Mail empfangen", "{name}: can receive no mail"),
        ConditionKey.SENT_COPY_WAITING: Bilingual(
            "{name}: Kopien für den Ordner „Gesendet“ warten", "{name}: copies for the Sent folder wait"
        ),
        ConditionKey.SENT_COPY_GIVEN_UP: Bilingual(
            "{name}: Kopien für den Ordner „Gesendet“ fehlen", "{name}: copies for the Sent folder are missing"
        ),
        ConditionKey.DRAINING: Bilingual("der Dienst ist noch entlastet", "the service is still draining"),
        ConditionKey.METRICS_UNAVAILABLE: Bilingual("keine Metriken", "no metrics"),
        ConditionKey.ALERTS_FAILING: Bilingual("Meldungen kommen nicht an: {name}", "alerts cannot be sent by {name}"),
    }
)

_ACCOUNTS: Final = Bilingual("{count} Konten", "{count} accounts")
_ACCOUNTS_AT: Final = Bilingual("{count} Konten bei {name}", "{count} accounts at {name}")

# Before the title, in the subject and in the list of a digest.
PREFIXES: Final[Mapping[AlertKind, Bilingual]] = MappingProxyType(
    {
        AlertKind.BEGUN: Bilingual("", ""),
        AlertKind.WORSE: Bilingual("schlimmer: ", "worse: "),
        AlertKind.REMINDER: Bilingual("weiterhin: ", "still: "),
        AlertKind.OVER: Bilingual("vorbei: ", "over: "),
    }
)

DIGEST_TITLE: Final = Bilingual("{count} Meldungen", "{count} alerts")
WEEKLY_TITLE: Final = Bilingual(
    "Wochenbericht: {delivered} gesendet, {refused} abgelehnt", "weekly report: {delivered} sent, {refused} refused"
)
WELL_TITLE: Final = Bilingual(
    "alles in Ordnung: {delivered} gesendet, {refused} abgelehnt", "all is well: {delivered} sent, {refused} refused"
)
TEST_TITLE: Final = Bilingual("Testmeldung", "test alert")

OPENINGS: Final[Mapping[AlertKind, Bilingual]] = MappingProxyType(
    {
        AlertKind.BEGUN: Bilingual(
            "senderproxy auf {host} meldet einen Zustand, um den sich jemand kümmern sollte.",
            "senderproxy on {host} reports a condition that somebody should look at.",
        ),
        AlertKind.WORSE: Bilingual(
            "Ein Zustand auf {host}, der schon gemeldet wurde, ist schlimmer geworden.",
            "A condition on {host} that was reported before has got worse.",
        ),
        AlertKind.REMINDER: Bilingual(
            "Ein Zustand auf {host}, der schon gemeldet wurde, dauert an.",
            "A condition on {host} that was reported before goes on.",
        ),
        AlertKind.OVER: Bilingual(
            "Ein Zustand auf {host} ist vorbei. Sie brauchen nichts zu tun.",
            "A condition on {host} is over. You need to do nothing.",
        ),
        AlertKind.DIGEST: Bilingual(
            "Auf {host} hat sich vieles auf einmal geändert; diese Mail fasst es zusammen.",
            "Many conditions on {host} have changed at once; this mail has all of them.",
        ),
        AlertKind.WEEKLY: Bilingual(
            "Die Zahlen von {host} seit {since}: {delivered} Empfänger beliefert, {refused} vom Anbieter abgelehnt,"
            " {alerts} Meldungen.",
            "The numbers of {host} since {since}: {delivered} recipients served, {refused} refused by the provider,"
            " {alerts} alerts.",
        ),
        AlertKind.TEST: Bilingual(
            "Dies ist ein Test von `senderproxy alert test` auf {host}. Wenn Sie ihn lesen, kommen Meldungen an.",
            "This is a test by `senderproxy alert test` on {host}. If you read it, alerts by mail arrive.",
        ),
    }
)

SINCE: Final = Bilingual("Seit:      ", "Since:     ")
UNTIL: Final = Bilingual("Bis:       ", "Until:     ")
CAUSE: Final = Bilingual("Ursache:   ", "Cause:     ")
AFFECTED: Final = Bilingual("Betroffen: ", "Affected:  ")
FIX: Final = Bilingual("Abhilfe:   ", "To fix:    ")
WAITING: Final = Bilingual("Wartend:   ", "Waiting:   ")

BY_ITSELF: Final = Bilingual("Es endet von selbst.", "It ends by itself.")
ONE_MESSAGE: Final = Bilingual("eine Nachricht in der Warteschlange", "one message in the queue")
MESSAGES: Final = Bilingual("{count} Nachrichten in der Warteschlange", "{count} messages in the queue")
TIMES: Final = Bilingual(
    "Der Zustand kam und ging: {count}-mal seit der letzten Meldung.",
    "The condition came and went: {count} times since the last alert about it.",
)
MORE: Final = Bilingual("... und {count} weitere", "... and {count} more")
OPEN: Final = Bilingual(
    "Offen sind {count} gemeldete Zustände. Die Liste: senderproxy status",
    "{count} reported conditions are open. The list: senderproxy status",
)
ONE_OPEN: Final = Bilingual(
    "Offen ist ein gemeldeter Zustand. Die Liste: senderproxy status",
    "One reported condition is open. The list: senderproxy status",
)
NOTHING_OPEN: Final = Bilingual("Kein gemeldeter Zustand ist offen.", "No reported condition is open.")
CLOSING: Final = Bilingual(
    "Diese Mails verschickt senderproxy auf {host}, weil seine Konfiguration {to} nennt: [alerts] to. Um sie"
    " abzustellen, entfernen Sie die Adresse dort, dann: systemctl reload senderproxy",
    "senderproxy on {host} sends these mails because its configuration names {to}: [alerts] to. To stop them, remove"
    " the address there, then: systemctl reload senderproxy",
)
FROM: Final = "senderproxy"


def title(condition: Condition, names: Mapping[str, str]) -> Bilingual:
    """The condition in a few words. `names`: addresses of accounts by their ids, in place of which they are shown."""
    text = TITLES.get(condition.key) or _fallback(condition.key.value)
    name = _name(condition, names)
    return Bilingual(text.german.format(name=name.german), text.english.format(name=name.english))


def _name(condition: Condition, names: Mapping[str, str]) -> Bilingual:
    subject = " ".join(condition.subject.split())[:_SUBJECT_LIMIT]
    affected = condition.affected
    if affected.kind is AffectedKind.ACCOUNTS and len(affected.names) > 1:
        text = _ACCOUNTS_AT if subject else _ACCOUNTS
        values = {"count": len(affected.names), "name": subject}
        return Bilingual(text.german.format(**values), text.english.format(**values))
    if affected.kind is AffectedKind.ACCOUNTS:
        subject = names.get(subject, subject)
    return Bilingual(subject, subject)


def _fallback(key: str) -> Bilingual:
    words = key.replace("_", " ")
    return Bilingual(f"{{name}} {words}", f"{{name}} {words}")
