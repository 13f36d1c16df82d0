"""Bounds of memory: each container of the program is listed here, and each one with remote keys is filled.

A container that is not listed fails the test of the syntax tree. Not searched: the command line, backups and the simulator,
which do not run for long, and the modules that read the configuration.
"""

import ast
import functools
import importlib
import itertools
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import senderproxy
from senderproxy import log_events
from senderproxy.clock import SystemClock
from senderproxy.control.protocol import LINE_LIMIT, encode
from senderproxy.delivery.resolver import Resolver
from senderproxy.listener import event_limiter, login_throttle, rates
from senderproxy.listener.login_throttle import LoginThrottle, ThrottleLimits
from senderproxy.listener.password_threads import LOGINS_LIMIT, LOGINS_OF_HOST, PasswordThreads
from senderproxy.listener.rates import ClientRates, RateLimits
from senderproxy.mail.address import parse_address
from senderproxy.mail.outcome import RefusedSenderField
from senderproxy.mail.reply import reply
from senderproxy.relay.learned_state import CHANGED_LIMIT, LearnedState
from senderproxy.relay.loop_guard import LIMITED_PAIRS, PAIRS_LIMIT, LoopGuard
from senderproxy.relay.sender_rejected import KNOWN_LIMIT, RejectedSender, RejectedSenders
from senderproxy.routing.account import Account
from senderproxy.routing.directory import MatchTier
from senderproxy.routing.provider import Provider
from senderproxy.routing.route import AddressSource, Route
from senderproxy.spool.sqlite import history
from senderproxy.spool.sqlite.history import History
from senderproxy.spool.sqlite.limits import SpoolLimits
from tests.fakes.arrivals import arrival

SOURCES = Path(senderproxy.__file__).parent
NOT_SEARCHED = {"backup", "cli", "config", "simulator"}
CONTAINERS = {
    *("dict", "set", "list", "deque", "Counter", "OrderedDict", "defaultdict", "bytearray"),
    *("WeakKeyDictionary", "WeakValueDictionary", "WeakSet"),
}

# Filled with hostile keys by a test below.
FILLED = {
    "delivery.resolver.Resolver._hosts",
    "listener.event_limiter.EventLimiter._counted",
    "listener.login_throttle.LoginThrottle._failures",
    "listener.login_throttle.LoginThrottle._trusted",
    "listener.password_threads.PasswordThreads._logins",
    "listener.rates.ClientRates._minutes",
    "relay.learned_state.LearnedState._changed",
    "relay.loop_guard.LoopGuard._limited",
    "relay.loop_guard.LoopGuard._sent",
    "relay.sender_rejected.RejectedSenders._known",
    "spool.sqlite.history.History._unwritten",
}
# Filled with hostile keys by the test of the module.
FILLED_ELSEWHERE = {
    "domain_records.lookups.Lookups._found": "domain_records/test_judgements.py",
    "alerts.policy.AlertPolicy._watched": "alerts/test_policy.py",
    "delivery.mx.courier.MxCourier._states": "delivery/mx/test_mx_courier.py",
    "straight.decisions.ClientDecisions.found": "straight/test_decisions.py",
    "straight.decisions.RememberedDecisions._clients": "straight/test_decisions.py",
    "delivery.mx.greylisting.Greylisting._learned": "delivery/mx/test_greylisting.py",
    "delivery.mx.greylisting.Greylisting._pending": "delivery/mx/test_greylisting.py",
    "delivery.mx.look_up.MailServerLookUp._known": "delivery/mx/test_mx_look_up.py",
    "delivery.mx.look_up.MailServerLookUp._running": "delivery/mx/test_mx_look_up.py",
    "delivery.mx.spf_gate.SpfGate._again": "delivery/mx/test_spf_gate.py",
    "delivery.mx.spf_gate.SpfGate._known": "delivery/mx/test_spf_gate.py",
    "delivery.mx.spf_gate.SpfGate._running": "delivery/mx/test_spf_gate.py",
    "listener.connection_table.ConnectionTable._connections": "listener/test_connection_table.py",
    "listener.connection_table.ConnectionTable._of_client": "listener/test_connection_table.py",
    "listener.connections.ListenerState._leaving": "listener/test_availability.py",
    "metrics.counts.Counts._messages": "metrics/test_counts.py",
    "metrics.counts.Counts._recipients": "metrics/test_counts.py",
    "spool.postgresql.history.SharedHistory._unwritten": "spool/postgresql/test_postgresql_store.py",
    "web.login_limits.LoginLimits._of_all": "web/test_login_limits.py",
    "web.login_limits.LoginLimits._of_name": "web/test_login_limits.py",
    "web.upload.FormReader._field": "web/test_upload.py",
    "web.upload.FormReader._file": "web/test_upload.py",
    "web.upload.FormReader._value": "web/test_upload.py",
    "web.upload.FormReader.fields": "web/test_upload.py",
    "metrics.counts.LabelNames._names": "metrics/test_counts.py",
    "service.metrics_server.MetricsServer._clients": "service/test_metrics_server.py",
    "recent_counts.RecentCount._parts": "test_recent_counts.py",
    "recent_counts.RecentCounts._counts": "test_recent_counts.py",
    "relay.repeated_refusals.RepeatedRefusals._periods": "relay/test_repeated_refusals.py",
    "listener.login_throttle.LoginThrottle._cleared": "listener/test_login_throttle.py",
    "relay.counts_of_others.CountsOfOthers._times": "relay/test_counts_of_others.py",
    "rewriting.mime_walker.MimeWalker._boundaries": "rewriting/test_transfer_encoding.py",
    "rewriting.mime_walker.MimeWalker._header": "rewriting/test_transfer_encoding.py",
    "rewriting.transfer_encoding._Undecided._kept": "rewriting/test_transfer_encoding.py",
    "wire.data_decoder.HeaderCollector._collected": "wire/test_data_decoder.py",
    "wire.dialogue._Transaction.recipients": "wire/test_dialogue.py",
}
# Keyed by the configuration or the vault: accounts, providers, users, networks, files, listeners.
CONFIGURED = {
    "alerts.mail.MailContext.names",  # addresses of accounts
    "alerts.policy.AlertPolicy._sent",  # max_per_hour
    "alerts.weekly.WeeklySums._totals",  # accounts
    "accounts.refresh_tokens.LocalRefreshTokens._unsaved",  # grants
    "accounts.vault_accounts._Snapshot.applications",
    "footer.footer.FooterTable._by_sender",  # senders of footers
    "metrics.counts.Counts._accept",  # listeners, NAMES_LIMIT
    "metrics.counts.Counts._last_success",  # accounts, ACCOUNTS_LIMIT
    "metrics.counts.Counts._reused",
    "metrics.counts.Counts._upstream",  # providers, NAMES_LIMIT
    "accounts.vault_accounts._Snapshot.credentials",
    "accounts.vault_accounts._Snapshot.grants",
    "accounts.vault_accounts._Snapshot.stored",
    "oauth.token_keeper.TokenKeeper._grants",
    "dkim.choice.KeyRing.known",
    "dkim.choice.KeyRing.signing",
    "service.dkim_watch.DkimWatch._signing",  # KEYS
    "service.dkim_watch.DkimWatch._watched",
    "sent_copy.runner.CopyRunner.lanes",  # accounts with copies
    "sent_copy.runner.CopyRunner._tasks",  # one for each of these
    "sent_copy.runner.CopyRunner._fresh",  # _FRESH
    "control.server.ControlServer._handlers",  # verbs
    "service.page.ServicePage._servers",  # roles
    "web.service_client.ServiceClient._statuses",  # languages
    "control.run_marker.RunMarker._crashes",  # _CRASHES
    "delivery.courier.SmtpCourier.certificates",  # of configured smarthosts
    "control.socket_store.SocketStore._of_units",
    "control.socket_store.SocketStore._stored",
    "control.socket_store.SocketStore._waiting",
    "delivery.courier.SmtpCourier._providers",
    "delivery.courier.SmtpCourier._states",
    "delivery.hops.courier.HopCourier._states",  # _HOPS
    "delivery.login_gate.LoginGates._gates",
    "delivery.opening.SessionOpener.accepted_mechanism",
    "delivery.opening.SessionOpener.cut_once",
    "delivery.server_sessions.ServerSessions._limits",
    "accounts.shared_refresh_tokens.SharedRefreshTokens._returning",  # grants
    "accounts.shared_refresh_tokens.SharedRefreshTokens._seen",
    "accounts.shared_refresh_tokens.SharedRefreshTokens._unsaved",
    "accounts.shared_refresh_tokens.SharedRefreshTokens._waiting",
    "delivery.shared_quota.SharedLimits._quotas",  # accounts
    "delivery.server_limits.ServerLimits._limits",  # of servers of the configuration
    "delivery.shared_connections.SharedConnections._accounts",
    "delivery.shared_connections.SharedConnections._answered_at",  # servers of accounts
    "delivery.shared_connections.SharedConnections._asked_until",
    "delivery.shared_connections.SharedConnections._turns",
    "delivery.shared_connections.SharedConnections.waiting",
    "delivery.server_sessions.ServerSessions._opening",
    "delivery.resolver.Resolver._of_provider",
    "delivery.tls_contexts.ContextCache._cached",
    "delivery.tls_contexts.ContextCache._checks",
    "listener.client_auth.ClientAuth._networks",
    "listener.client_auth.ClientAuth._users",
    "listener.client_auth.ClientAuth._verified",  # after a login that succeeded
    "relay.learned_state.LearnedState._adding",  # the kinds of facts
    "relay.learned_state.LearnedState._noticed",  # accounts, CHANGED_LIMIT
    "relay.learned_state.LearnedState._shared",
    "relay.learned_state.LearnedState._sources",
    "relay.account_availability.AccountAvailability._waiting",
    "relay.fallback.Outages._known",
    "relay.dispatch.LaneQueues._queues",  # and accounts that were removed, while they have messages
    "relay.runner.Runner._claim_loops",
    "routing.author_policy.AuthorMap.domains",
    "routing.author_policy.AuthorMap.exact",
    "routing.author_policy.AuthorMap.names",
    "routing.recipient_routes.RecipientRoutes._first",
    "routing.directory.AccountDirectory._addresses",
    "routing.directory.AccountDirectory._by_id",
    "routing.directory.AccountDirectory._domains",
    "routing.directory.AccountDirectory._own_domains",
    "service.alert_sender.AlertSender._failing",  # ways of alerts
    "service.alert_state.AlertStateFile._to_store",  # of a file of _SIZE
    "service.alerts.ServiceAlerts._own",  # accounts
    "service.alert_sender.AlertSender._recent",  # _RECENT_LIMIT
    "service.alert_sender.AlertSender._unsent",  # _UNSENT_LIMIT
    "service.condition_facts.FactCollector._on_disk",  # files of listeners
    "service.domain_watch.DomainWatch._restored",  # DOMAINS
    "service.domain_watch.DomainWatch._watched",  # DOMAINS
    "service.conditions.ServiceConditions._known",  # the list, which the configuration bounds
    "service.listeners.Listeners._open",
    "service.webhook.WebhookWay._waiting",  # _WAITING_LIMIT
    "spool.sqlite.file_identity.FileIdentity._opened",
    "spool.sqlite.file_identity.FileIdentity._paths",
    "worker_threads.WorkerThreads._threads",
}
# One entry for each thing in progress, removed at its end; the number of these is limited elsewhere.
IN_PROGRESS = {
    "log_output.LogOutput._lines": "a line of the log, up to _WAITING_LIMIT characters",
    "worker_threads.WorkerThreads._abandoned": "a call that hangs; `replacements`",
    "aio.FairShare._waiting": "a connection or session with a large message",
    "aio._FAIR_SHARES": "an event loop",
    "control.crash_journal.CrashJournalFile._free": "an attempt",
    "control.crash_journal.CrashJournalFile._further": "an attempt",
    "control.crash_journal.CrashJournalFile._slots": "an attempt",
    "delivery.login_mechanisms.LoginDialogue._steps": "a step of a login; two",
    "delivery.login_gate.LoginGate._waiters": "a login in progress; one for each account",
    "delivery.server_sessions.ServerSessions._waiting": "a login in progress; one for each account",
    "delivery.hops.sessions.HopSessions._busy": "a session; limits.connections",
    "delivery.hops.sessions.HopSessions._closing": "a session; limits.connections",
    "delivery.hops.sessions.HopSessions._idle": "a session; limits.connections",
    "delivery.courier.SmtpCourier._begun": "an attempt that goes on in a task",
    "straight.patience.PatienceSweeper._due": "a message on the straight path; one for each connection",
    "delivery.pool.Pool._closing": "a session; limits.connections",
    "delivery.pool.Pool._sessions": "a session; limits.connections",
    "delivery.pool.Pool._waiters": "an attempt",
    "delivery.portion.Portion._used": "a minute of use that is not reported; void when the leases are lost",
    "delivery.shared_connections.AccountConnections._tasks": "a report of the number of sessions",
    "delivery.shared_connections.SharedConnections.unreported": "an account whose report is due in a second",
    "accounts.shared_refresh_tokens.SharedRefreshTokens._tasks": "a lease given back for each request of a grant; seals for each key",
    "delivery.shared_quota.SharedQuota._tasks": "an exchange for a message, a report, or a request of another instance",
    "delivery.protocol.UpstreamProtocol._expected": "a command; max_recipients and two more",
    "listener.acceptor.Acceptor._waiting": "WAITING_LIMIT; listener/test_proxy_peers.py",
    "listener.acceptor.Acceptor._starting": "a connection of a proxy, until its header is there; WAITING_LIMIT",
    "listener.body.SpillDirectory._created": "a folder for large bodies that was deleted by hand",
    "listener.connections.ListenerState.transactions": "a message; max_connections, and cancelled ones until their end",
    "relay.decision_thread.DecisionThread._of_client": "a decision; a limit for each client and one for all",
    "relay.expensive_decisions.ExpensiveDecisions._clients": "a decision on the event loop, for a pass of it",
    "relay.runner.Runner._tasks": "an attempt; the connections of each account",
    "relay.settling.ResultWriter._unwritten": "an attempt whose result cannot be written",
    "service.measured_selector.MeasuredSelector._keys": "an open file that the event loop waits for",
    "service.listeners.Listeners._retiring": "a listener that was replaced; _MAX_RETIRING",
    "service.lease_guard.LeaseGuard._tasks": "a change of the state of the leases, one after another",
    "spool.postgresql.accept_groups.AcceptGroups._tasks": "a group; AT_ONCE",
    "spool.postgresql.accept_groups.AcceptGroups._waiting": "a call of accept; its callers",
    "spool.postgresql.connections.Connections._idle": "a connection; COUNT",
    "spool.postgresql.connections.Connections._tasks": "a transaction; its callers",
    "spool.postgresql.connections.Connections._used": "a connection; COUNT",
    "spool.postgresql.instance.Instance.others": "an instance that shares the database",
    "spool.postgresql.jobs.SharedJobs._numbers": "a job with a lease: its attempt",
    "spool.postgresql.leases.InstanceLeases._by_id": "a message with a lease: an attempt, or a change by the operator",
    "spool.postgresql.leases.InstanceLeases._returns": "a lease that is given back; as _by_id",
    "spool.postgresql.wakes.Wakes._lanes": "a lane with messages of the last 0.1 s",
    "spool.postgresql.wakes.Wakes._tasks": "one",
    "spool.sqlite.incoming.Incoming._files_without_row": "a message that is being received",
    "spool.sqlite.leases.Leases._by_lease": "a message with a lease: an attempt, or a change by the operator",
    "spool.sqlite.jobs._JobLeases._numbers": "a job with a lease: its attempt",
    "spool.sqlite.leases.Leases._lanes": "a message with a lease",
    "spool.sqlite.leases.Leases._cache": "a message, up to cache_size octets",
}
# Part of one connection, message, reply or query, and freed with it.
OF_ONE_OBJECT = {
    "wire.proxy_header.ProxyHeaderReader._received",  # V2_LIMIT; wire/test_proxy_header.py
    "alerts.record.AlertItem.translations",  # a language
    "domain_records.history.DomainHistory._records",  # four kinds
    "domain_records.judgement.Judgement.values",
    "domain_records.spf._Walk.networks",  # of an answer of the DNS: 64 KB
    "delivery.account_state.AccountState._counts",  # three kinds of outcomes
    "delivery.login_gate.LoginGate._failed_at",  # HOURLY
    "delivery.mx.courier._DomainAttempt.outcomes",  # a recipient
    "delivery.mx.domain_state.DomainState._set_back",  # HOSTS
    "delivery.mx.domain_state.DomainState._without_tls",  # HOSTS
    "delivery.mx.hosts.DomainServers.addresses",  # EXCHANGERS, KEPT
    "delivery.login_gate.LoginGate._streak",  # TOGETHER
    "delivery.protocol.ReplyReader._lines",  # LINES_LIMIT
    "delivery.protocol.ReplyReader._rest",  # LINE_LIMIT and one read
    "delivery.session.Completed.rejected",
    "delivery.session.Interrupted.rejected",
    "delivery.session._Progress.rejected",
    "delivery.session._Progress.sent",  # a command
    "delivery.direct_transaction.DirectTransaction._results",  # a command
    "footer.insertion._FooterWalk._open",  # _DEPTH_LIMIT
    "footer.html_scanner.HtmlScanner._steps",  # a constant
    "footer.line_search.LineSearch._waiting",  # _BLOCK and one piece
    "footer.part_editor.EditInPlace._held",  # a piece, and what may be behind an end tag
    "footer.part_editor.EditReencoded._held",  # _TEXT_PIECE and one piece
    "rewriting.mime_walker.ContentType.parameters",  # of a header section
    "http_client.message.Request.headers",
    "listener.body.BodyBuffer._memory",  # spill_bytes
    "listener.client_stream.ClientStream._output",  # _BATCH replies
    "listener.event_limiter._Counted.fields",
    "metrics.exposition._Samples._by_series",  # a scrape
    "service.metrics.Figures._values",  # a scrape
    "service.metrics_server._Answer.headers",
    "sent_copy.connection.ImapConnection._received",  # _LINE_LIMIT and one read
    "listener.read_buffer.ReadBuffer.octets",  # HIGH and one read
    "monitoring.mail_gaps.MailGaps._weeks",  # the hours of a week
    "relay.content_changes.ChangedBody._memory",  # _MEMORY_LIMIT and one piece
    "relay.ports.Arrival.lanes",  # a recipient
    "relay.ports.SpoolUpdate.lanes",  # a recipient
    "relay.ports.Totals.reasons",
    "spool.postgresql.search.SearchText.of_message",
    "spool.postgresql.search.SearchText.of_recipient",
    "spool.postgresql.search.SearchText.values",
    "spool.postgresql.search._AccountSum.ages",
    "spool.postgresql.search._AccountSum.reasons",
    "spool.sqlite.rebuild.SpoolRebuild._inserts",  # a table
    "spool.sqlite.rebuild._Body._body",  # _ROW_BODY_LIMIT
    "spool.sqlite.rebuild._Body._header",  # _HEADER_LIMIT
    "spool.sqlite.rebuild._Body._missing",  # two numbers
    "spool.sqlite.new_messages.GeneralRows.events",
    "spool.sqlite.new_messages.GeneralRows.recipients",
    "spool.sqlite.rows.ArrivalRows.events",
    "spool.sqlite.rows.ArrivalRows.recipients",
    "spool.sqlite.search.SearchStatement.of_message",
    "spool.sqlite.search.SearchStatement.of_recipient",
    "spool.sqlite.snapshot.SnapshotCounts.unreadable",  # _NAMED
    "tracking.record.MessageRecord.blocked_lanes",  # a recipient
    "tracking.record.MessageRecord.lanes",  # a recipient
    "relay.ways._Planner._accounts",  # a route
    "relay.ways._Planner._plans",  # two
    "spool.sqlite.search.SearchStatement.values",
    "spool.sqlite.search._Sum.ages",
    "spool.sqlite.search._Sum.reasons",
    "tracking.record.Event.facts",
    "wire.dialogue.Dialogue._HANDLERS",  # a constant
}


# ---- the syntax tree ----


def name_of(node: ast.AST) -> str:
    """The last name of a type or a call; that of a quoted type too; else empty."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case ast.Subscript(value=inner) | ast.Call(func=inner):
            return name_of(inner)
        case ast.Constant(value=str() as quoted):
            return name_of(ast.parse(quoted, mode="eval").body)
        case _:
            return ""


def makes_container(node: ast.AST | None) -> bool:
    match node:
        case ast.Dict() | ast.List() | ast.Set() | ast.DictComp() | ast.ListComp() | ast.SetComp():
            return True
        case ast.Call(func=function, keywords=keywords):
            factories = [name_of(keyword.value) for keyword in keywords if keyword.arg == "default_factory"]
            return not CONTAINERS.isdisjoint([name_of(function), *factories])
        case _:
            return False


def assignments(body: list[ast.stmt]) -> Iterator[tuple[ast.expr, ast.expr | None, ast.expr | None]]:
    """Each target with its annotation and value."""
    for node in body:
        match node:
            case ast.Assign(targets=targets, value=value):
                yield from ((target, None, value) for target in targets)
            case ast.AnnAssign(target=target, annotation=annotation, value=value):
                yield target, annotation, value
            case _:
                pass


def is_container(annotation: ast.expr | None, value: ast.expr | None) -> bool:
    return makes_container(value) or (annotation is not None and name_of(annotation) in CONTAINERS)


def containers(source: str) -> set[str]:
    """The containers of a module: attributes of its classes, and variables that it fills."""
    tree, found = ast.parse(source), set[str]()
    for target, _annotation, value in assignments(tree.body):
        if isinstance(target, ast.Name) and isinstance(value, ast.Call) and name_of(value) in CONTAINERS:
            found.add(target.id)
    for cls in (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)):
        for target, annotation, value in assignments(cls.body):
            if isinstance(target, ast.Name) and is_container(annotation, value):
                found.add(f"{cls.name}.{target.id}")
        statements = [node for node in ast.walk(cls) if isinstance(node, ast.stmt)]
        for target, annotation, value in assignments(statements):
            match target:
                case ast.Attribute(value=ast.Name(id="self"), attr=name) if is_container(annotation, value):
                    found.add(f"{cls.name}.{name}")
    return found


def modules() -> Iterator[tuple[str, str]]:
    """The searched modules: name and source."""
    for path in sorted(SOURCES.rglob("*.py")):
        parts = path.relative_to(SOURCES).with_suffix("").parts
        if parts[0] not in NOT_SEARCHED:
            yield ".".join(parts), path.read_text(encoding="utf-8")


def test_each_container_is_listed() -> None:
    found = {f"{module}.{name}" for module, source in modules() for name in containers(source)}
    lists = [FILLED, set(FILLED_ELSEWHERE), CONFIGURED, set(IN_PROGRESS), OF_ONE_OBJECT]
    assert sum(map(len, lists)) == len(set().union(*lists)), "one is listed twice"
    assert found == set().union(*lists)
    assert all((Path(__file__).parent / test).is_file() for test in FILLED_ELSEWHERE.values())


@pytest.mark.parametrize(
    "statement",
    [
        "self.seen = {}",
        "self.seen: set[str] = set()",
        "self.seen: 'dict[str, int]' = load()",
        "self.seen = collections.defaultdict(list)",
        "self.seen = [item for item in other]",
    ],
)
def test_a_new_container_is_found(statement: str) -> None:
    assert containers(f"class New:\n    def __init__(self):\n        {statement}\n") == {"New.seen"}
    assert containers("class New:\n    seen: dict[str, int] = field(default_factory=dict)\n") == {"New.seen"}
    assert containers("seen = WeakKeyDictionary()\n") == {"seen"}


def test_each_cache_of_a_function_has_a_bound() -> None:
    caches = 0
    for module, source in modules():
        if "cache" not in source:
            continue
        for value in vars(importlib.import_module(f"senderproxy.{module}")).values():
            if isinstance(value, functools._lru_cache_wrapper):
                caches += 1
                bound = value.cache_info().maxsize
                assert bound is not None, module
                assert bound <= 4096, module
    assert caches > 10


# ---- hostile keys ----

ANNA = parse_address("anna@firma.example")
PROVIDER = Provider("simulator", ())
ROUTE = Route(Account("anna", "anna", "simulator", ANNA, ()), PROVIDER, ANNA, AddressSource.FROM, MatchTier.EXACT)


def test_refused_senders_are_bounded_and_the_latest_stay() -> None:
    known = RejectedSenders()
    text = reply(550, "5.7.1", "x" * 2000)
    for number in range(KNOWN_LIMIT + 50):
        address = parse_address(f"forged{number}@elsewhere.example")
        known.note(RejectedSender(ROUTE, RefusedSenderField.FROM, address, text), datetime.now(UTC))
    entries = {entry.address for entry in known.entries()}
    assert len(entries) == KNOWN_LIMIT
    assert f"forged{KNOWN_LIMIT + 49}@elsewhere.example" in entries
    assert "forged0@elsewhere.example" not in entries


def test_the_longest_list_of_refused_senders_fits_into_a_quarter_of_an_answer() -> None:
    """A status has it beside the accounts: too long an answer would be an error in place of the status."""
    known = RejectedSenders()
    text = reply(550, "5.7.1", *["\x7f" + "x" * 2000] * 50)
    for number in range(KNOWN_LIMIT):
        address = parse_address(f"{'y' * 56}{number:05}@{'.'.join(['z' * 60] * 3)}.example")
        known.note(RejectedSender(ROUTE, RefusedSenderField.FROM, address, text), datetime.now(UTC))
    entries = [asdict(entry) for entry in known.entries()]
    assert len(entries) == KNOWN_LIMIT
    assert len(encode({"sender_rules": entries})) < LINE_LIMIT / 4


def test_a_sender_that_is_refused_again_stays_with_its_first_time() -> None:
    known = RejectedSenders()
    first = datetime(2026, 1, 1, tzinfo=UTC)
    for number in range(2 * KNOWN_LIMIT):
        for address in (ANNA, parse_address(f"forged{number}@elsewhere.example")):
            rejected = RejectedSender(ROUTE, RefusedSenderField.FROM, address, reply(550, "5.7.1", "no"))
            known.note(rejected, first.replace(hour=number % 24, day=1 + number // 24))
    [entry] = [entry for entry in known.entries() if entry.address == str(ANNA)]
    assert entry.since == first.isoformat(timespec="seconds")


def test_pairs_of_the_loop_guard_are_bounded_and_forgotten_after_the_hour() -> None:
    guard = LoopGuard()
    for number in range(PAIRS_LIMIT + 50):
        assert guard.check(ANNA, [parse_address(f"r{number}@x.example")], 5, 0.0) is None
    assert len(guard._sent) == PAIRS_LIMIT
    guard.expire(3599.0)
    assert len(guard._sent) == PAIRS_LIMIT
    for number in range(PAIRS_LIMIT):
        assert guard.check(ANNA, [parse_address(f"r{number + 50}@x.example")], 1, 10.0) is not None
    assert len(guard._limited) == LIMITED_PAIRS
    guard.expire(3600.0)
    assert not guard._sent
    guard.expire(3610.0)
    assert not guard._limited


def test_failed_logins_are_bounded() -> None:
    throttle = LoginThrottle(ThrottleLimits())
    for number in range(login_throttle._MAX_ENTRIES + 50):
        throttle.failed(f"2001:db8::{number:x}", f"user{number}" * 100, float(number) / 1000)
        throttle.succeeded(f"2001:db8::{number:x}", "anna", float(number) / 1000)
    assert len(throttle._trusted) == login_throttle._MAX_ENTRIES
    assert len(throttle._failures) <= login_throttle._MAX_ENTRIES
    assert {len(digest) for digest in throttle._failures} == {2 * login_throttle._DIGEST}


def test_changes_of_learned_facts_are_bounded_while_the_spool_is_closed() -> None:
    state = LearnedState(SystemClock())
    for number in range(CHANGED_LIMIT + 50):
        state.note_change("loop", str(number))
    assert len(state._changed) == CHANGED_LIMIT
    assert ("loop", str(CHANGED_LIMIT + 49)) in state._changed


def test_clients_with_a_rate_are_bounded() -> None:
    counted = ClientRates(RateLimits(1, 1, 1))
    for number in range(rates._MAX_CLIENTS + 50):
        counted.message(f"2001:db8:{number:x}::/64", 0.0)
    assert len(counted) == rates._MAX_CLIENTS


async def test_counted_events_are_bounded() -> None:
    limiter = event_limiter.EventLimiter()
    for number in range(event_limiter._MAX_EVENTS + 50):
        limiter.log(log_events.CLIENT_EVICTED, client=f"2001:db8::{number:x}")
    assert len(limiter) == event_limiter._MAX_EVENTS
    limiter.flush()


async def test_logins_at_once_are_bounded() -> None:
    threads = PasswordThreads()
    entered = [host for number in range(1000) if threads.enter(host := f"192.0.2.{number % 50}")]
    assert len(entered) == LOGINS_LIMIT
    for host in entered:
        threads.leave(host)
    assert sum(threads.enter("192.0.2.1") for _ in range(100)) == LOGINS_OF_HOST
    for _ in range(LOGINS_OF_HOST):
        threads.leave("192.0.2.1")
    assert not threads._logins


async def test_looked_up_hosts_are_bounded() -> None:
    resolver = Resolver(SystemClock(), lambda _host, port: [(2, 1, 6, "", ("127.0.0.1", port))])
    for number in range(300):
        await resolver.resolve(f"host{number}.example", 465, "simulator")
    assert len(resolver._hosts) <= 257


@pytest.mark.parametrize("keep_subjects", [False, True])
async def test_the_history_that_is_not_written_yet_is_bounded(keep_subjects: bool) -> None:
    numbers = itertools.count(1)
    nothing: Any = None  # the writer: nothing is written here
    limits = SpoolLimits(timedelta(days=1), keep_subjects=keep_subjects)
    unwritten = History(nothing, SystemClock(), lambda: next(numbers), limits)
    refused = arrival("1")
    for _ in range(13_000):
        unwritten.note(refused)
    assert sum(message.rows.octets for message in unwritten._unwritten) == pytest.approx(history._LIMIT, abs=2000)
    assert unwritten._timer is not None
    unwritten._timer.cancel()
