"""Protocol of the control socket: one JSON object on a line, one JSON object on a line back. PURE.

A request has the key `do` with a `Verb` and the verb's fields: `{"do": "resume", "account": "anna"}`. The answer has
`"ok": true`, or `"ok": false` with `"error"` and `"hint"` for the operator. Two kinds of secrets are sent: the access
token in the answer to `token` and in the request `token.refused`, which lives for an hour; the password of a mailbox in
the requests that WITH_PASSWORD lists, whose faults are logged without their text.
Guarantees: the server and all clients use this table of verbs; an answer has at most LINE_LIMIT octets, a request
REQUEST_LIMIT octets and NESTING_LIMIT levels.
Not here: the answers' fields (the module named beside each verb), the socket (control.server, control.client).
"""

import json
from collections.abc import Iterable, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final, TypeAlias

from senderproxy.translation import LANGUAGES, SOURCE, current_language, translated

LINE_LIMIT: Final = 4 * 1024 * 1024  # octets; the longest answers are lists, and have pages
REQUEST_LIMIT: Final = 64 * 1024  # octets; a change of two hundred messages has 4 KiB, parsing all takes under 1 ms
NESTING_LIMIT: Final = 8  # levels of a request; the longest, a query, has three

Request: TypeAlias = dict[str, Any]
Answer: TypeAlias = dict[str, Any]


class Verb(StrEnum):
    """The requests, each with its fields and the module that answers it."""

    STATUS = "status"  # language; with the first accounts; service.status
    ACCOUNTS = "accounts"  # after: the next accounts; language; service.status
    CONDITIONS = "conditions"  # service.status; docs/conditions.md
    ALERTS = "alerts"  # service.alert_sender
    ALERT_TEST = "alert.test"  # service.alert_sender
    RESUME = "resume"  # account; app
    RELOAD = "reload"  # app
    DRAIN = "drain"  # on: true, false, or absent for the state alone; service.drain
    READ_VAULT = "vault.read"  # answers when the accounts are in force; app
    TOKEN = "token"  # account; app
    TOKEN_REFUSED = "token.refused"  # account, token; app
    DKIM = "dkim"  # domain: look at its records first; service.dkim_watch
    AUTOMATIC = "automatic"  # author, recipients; service.status
    QUEUE_TOTALS = "queue.totals"  # relay.queue_admin
    QUEUE_LIST = "queue.list"  # query, limit, after; relay.queue_admin
    QUEUE_SHOW = "queue.show"  # id; relay.queue_admin
    QUEUE_CHANGE = "queue.change"  # act, ids, by, report; relay.queue_admin
    TRACK = "track"  # query, limit, after; relay.queue_admin
    COUNTS = "counts"  # hours; relay.queue_admin
    EXPLAIN = "explain"  # address or header (base64), language; service.page
    PAGE = "page"  # settings of the page; service.page
    ACCOUNT_PROPOSE = "account.propose"  # address, language; service.page_accounts
    ACCOUNT_ADD = "account.add"  # address, provider, login, others, name, password, by, language; service.page_accounts
    ACCOUNT_PASSWORD = "account.password"  # account, password, by, language; service.page_accounts


class Role(StrEnum):
    """The roles of the page. Each has a control socket of its own, for the verbs of that role alone."""

    READ = "read"
    OPERATE = "operate"
    ACCOUNTS = "accounts"


# A verb without a role is answered on the operator's control socket alone.
ROLES: Final[Mapping[Verb, Role]] = MappingProxyType(
    {
        Verb.STATUS: Role.READ,
        Verb.ACCOUNTS: Role.READ,
        Verb.CONDITIONS: Role.READ,
        Verb.QUEUE_TOTALS: Role.READ,
        Verb.QUEUE_LIST: Role.READ,
        Verb.QUEUE_SHOW: Role.READ,
        Verb.TRACK: Role.READ,
        Verb.COUNTS: Role.READ,
        Verb.EXPLAIN: Role.READ,
        Verb.PAGE: Role.READ,
        Verb.QUEUE_CHANGE: Role.OPERATE,
        Verb.RESUME: Role.OPERATE,
        Verb.DRAIN: Role.OPERATE,
        Verb.ACCOUNT_PROPOSE: Role.ACCOUNTS,
        Verb.ACCOUNT_ADD: Role.ACCOUNTS,
        Verb.ACCOUNT_PASSWORD: Role.ACCOUNTS,
    }
)

WITH_PASSWORD: Final = frozenset((Verb.ACCOUNT_ADD, Verb.ACCOUNT_PASSWORD))


def new_request(verb: Verb, **fields: object) -> Request:
    """The request with that verb and its fields, to be answered in the language in force."""
    return {"do": verb.value, "language": current_language(), **fields}


def language_of(entry: Request) -> str:
    """The language of the texts in the answer; English for a client of another version."""
    code = entry.get("language")
    return code if isinstance(code, str) and code in LANGUAGES else SOURCE


def in_force(answer: Answer) -> Answer:
    """The answer with its texts in the language in force."""
    return {name: _in_force(value) for name, value in answer.items()}


def _in_force(value: object) -> object:
    match value:
        case str():
            return translated(value)
        case dict():
            return {name: _in_force(one) for name, one in value.items()}
        case list() | tuple():
            return [_in_force(one) for one in value]
        case _:
            return value


def verb_of(entry: Request) -> Verb | None:
    """The verb of a request; None if it is unknown, as from a client of another version."""
    name = entry.get("do")
    try:
        return Verb(name) if isinstance(name, str) else None
    except ValueError:
        return None


def encode(entry: Request | Answer) -> bytes:
    """The object as one line."""
    return json.dumps(entry, ensure_ascii=True, default=str).encode("ascii") + b"\n"


def decode(line: bytes) -> dict[str, Any]:
    """The object on a line. Raises ValueError if the line is not a JSON object."""
    try:
        entry = json.loads(line)
    except RecursionError:
        raise ValueError("the JSON is nested too deeply") from None
    if not isinstance(entry, dict):
        raise ValueError("not a JSON object")
    return entry


def decode_request(line: bytes) -> Request:
    """The request on a line. Raises ValueError if the line is not a JSON object, or is nested too deeply."""
    entry = decode(line)
    level: list[Any] = [entry]
    for _level in range(NESTING_LIMIT):
        level = [part for whole in level for part in _parts(whole)]
    if level:
        raise ValueError("the JSON is nested too deeply")
    return entry


def _parts(value: object) -> Iterable[object]:
    match value:
        case dict():
            return value.values()
        case list():
            return value
        case _:
            return ()
