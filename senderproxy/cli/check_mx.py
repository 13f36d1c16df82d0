"""Delivery to mail servers of recipients, as findings: the public addresses, the name in EHLO, port 25, SPF.

Guarantees: sends no mail: of a server on port 25 only the greeting is read. Ends in bounded time, each look-up and the
connection.
Not here: the delivery itself (delivery.mx), SPF for mail through a provider (cli.check_dns).
"""

import re
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from ipaddress import ip_address
from typing import Final

from senderproxy.cli.findings import Finding, Level
from senderproxy.delivery.mx.hosts import DomainServers, Ourselves, choose
from senderproxy.delivery.mx.look_up import look_up
from senderproxy.dns_client.client import DnsClient
from senderproxy.dns_client.errors import LookupFailed
from senderproxy.domain_records.lookups import Lookups
from senderproxy.domain_records.spf_address import AddressVerdict, SpfResult, judge_addresses
from senderproxy.translation import _

SMTP_PORT: Final = 25  # RFC 5321 section 4.5.4.2
_CONNECT: Final = 10.0  # seconds for the connection, and again for the greeting; servers that delay it take five
_GREETING: Final = 512  # octets, RFC 5321 section 4.5.3.1.5
_DOMAINS: Final = 100  # sender domains whose SPF record is looked up
# Names that providers give to addresses of private customers and of addresses that change.
_DYNAMIC: Final = re.compile(
    r"(?:^|[.-])(?:dyn(?:amic)?|dsl|adsl|vdsl|dip\d?|dial(?:in|up)?|pool|ppp|cable|cust(?:omer)?|home|residential|dhcp"
    r"|broadband)(?:[.-]|\d)",
    re.IGNORECASE,
)

NewClient = Callable[[], DnsClient]


def check_mx(
    addresses: Sequence[str],
    hostname: str,
    domains: Sequence[str],
    *,
    spf_is_needed: bool,
    new_client: NewClient = DnsClient,
    port: int = SMTP_PORT,
    ourselves: Ourselves | None = None,
) -> Iterator[Finding]:
    """Check the addresses and the name of this machine, port 25, and SPF of the sender domains.

    `spf_is_needed`: mail waits without it (`via = "mx"`); else it goes by its account.
    """
    try:
        for address in addresses:
            yield from _check_address(new_client(), address, hostname)
        yield _check_name(new_client(), hostname, addresses)
    except LookupFailed as error:
        yield _no_reply(_("public address"), error)
    yield _check_port(domains, addresses, new_client, port, ourselves)
    for domain in domains[:_DOMAINS]:
        try:
            verdict = judge_addresses(Lookups(new_client().records), domain, addresses)
        except LookupFailed as error:
            yield _no_reply(_("SPF of {domain} for this machine").format(domain=domain), error)
            return
        yield _spf_finding(domain, verdict, is_needed=spf_is_needed)


# ---- addresses and name ----


def _check_address(client: DnsClient, address: str, hostname: str) -> Iterator[Finding]:
    subject = _("public address {address}").format(address=address)
    names = client.host_names(address)
    if not names:
        hint = _("Have the provider of the address set its name (PTR) to {name}.").format(name=hostname)
        yield Finding(Level.WRONG, subject, _("it has no name (PTR), and many servers refuse such clients"), hint)
        return
    confirmed = [name for name in names if _is_at(client, name, address)]
    if not confirmed:
        text = _("its name {name} does not lead back to it").format(name=names[0])
        hint = _("Add an address record (A, AAAA) for {name}, or have the name (PTR) changed.").format(name=names[0])
        yield Finding(Level.WRONG, subject, text, hint)
        return
    if looks_dynamic(confirmed[0], address):
        text = _("its name {name} is that of a private or changing address: many servers refuse its mail")
        hint = _('Use a server with an address for mail: via = "smarthost NAME". docs/mx.md says more.')
        yield Finding(Level.WRONG, subject, text.format(name=confirmed[0]), hint)
        return
    if hostname not in confirmed:
        text = _("its name is {name}, and this server calls itself {hostname}")
        hint = _("Set [identity] hostname to {name}, or have the name (PTR) changed.").format(name=confirmed[0])
        yield Finding(Level.ADVICE, subject, text.format(name=confirmed[0], hostname=hostname), hint)
        return
    yield Finding(Level.OK, subject, _("its name is {name}, which leads back to it").format(name=hostname))


def looks_dynamic(name: str, address: str) -> bool:
    """True if a name contains the address, or a word for addresses of private customers."""
    if _DYNAMIC.search(name):
        return True
    parts = address.split(".")
    return len(parts) == 4 and all(part in re.split(r"[^0-9]+", name) for part in parts)


def _is_at(client: DnsClient, name: str, address: str) -> bool:
    return ip_address(address) in {ip_address(found) for found in client.addresses(name).addresses}


def _check_name(client: DnsClient, hostname: str, addresses: Sequence[str]) -> Finding:
    subject = _("name of this server, {hostname}").format(hostname=hostname)
    found = {ip_address(text) for text in client.addresses(hostname).addresses}
    missing = [address for address in addresses if ip_address(address) not in found]
    if not found:
        hint = _("Add an address record (A, AAAA) for {name}.").format(name=hostname)
        return Finding(Level.WRONG, subject, _("it has no address, and many servers refuse such clients"), hint)
    if missing:
        text = _("it does not lead to {address}").format(address=missing[0])
        hint = _("Add an address record (A, AAAA) for {name}.").format(name=hostname)
        return Finding(Level.ADVICE, subject, text, hint)
    return Finding(Level.OK, subject, _("it leads to {addresses}").format(addresses=", ".join(addresses)))


# ---- port 25 ----


def _check_port(
    domains: Sequence[str], addresses: Sequence[str], new_client: NewClient, port: int, ourselves: Ourselves | None
) -> Finding:
    """Connect to a mail server of an own domain, and read its greeting: such a server takes mail from everywhere."""
    subject = _("port 25")
    ours = ourselves or Ourselves(addresses=frozenset(map(ip_address, addresses)))
    failure = ""
    for domain in domains[:3]:
        servers, _seconds = look_up(domain, new_client)
        hosts = choose(domain, servers, ours, lambda: 0.5) if isinstance(servers, DomainServers) else servers
        if not isinstance(hosts, tuple):
            continue
        host = hosts[0]
        failure = _greeting_problem(host.addresses[0], port)
        if not failure:
            return Finding(Level.OK, subject, _("{server} answers").format(server=host.name))
        failure = _("no connection to {server}: {error}").format(server=host.name, error=failure)
    if failure:
        hint = _("Many providers block port 25: ask yours to open it, or use another way (docs/mx.md).")
        return Finding(Level.WRONG, subject, failure, hint)
    text = _("not tried: no mail server of an own domain is known")
    return Finding(Level.UNKNOWN, subject, text)


def _greeting_problem(address: str, port: int) -> str:
    """The reason for a missing greeting; empty if there was one."""
    try:
        with closing(socket.create_connection((address, port), _CONNECT)) as connection:
            greeting = connection.recv(_GREETING)
    except OSError as error:
        return error.strerror or _("no answer in time")
    return "" if greeting[:1] in (b"2", b"4", b"5") else _("no greeting")


# ---- SPF ----


def _spf_finding(domain: str, verdict: AddressVerdict, *, is_needed: bool) -> Finding:
    subject = _("SPF of {domain} for this machine").format(domain=domain)
    address = verdict.address
    kind = "ip6" if ":" in address else "ip4"
    match verdict.result:
        case SpfResult.NAMED:
            return Finding(Level.OK, subject, _("names {address}").format(address=address))
        case SpfResult.UNKNOWN:
            text = _("it is not known whether it names {address}: {why}").format(address=address, why=verdict.why)
            return Finding(Level.UNKNOWN, subject, text)
        case SpfResult.INVALID:
            text = _("the record is invalid: {why}").format(why=verdict.why)
            return Finding(Level.WRONG, subject, text, _("Correct the record."))
        case SpfResult.NOT_NAMED:
            effect = _("its mail waits") if is_needed else _("its mail goes by its account")
            text = _("does not name {address}: {effect}").format(address=address, effect=effect)
            hint = _("Add {term} to the record, before its end.").format(term=f"{kind}:{address}")
            return Finding(Level.WRONG, subject, text, hint)


def _no_reply(subject: str, error: LookupFailed) -> Finding:
    return Finding(
        Level.UNKNOWN,
        subject,
        _("DNS lookup failed: {error}").format(error=error),
        _("Check the network and the name servers of this machine."),
    )
