"""The courier against a provider made of Postfix and Dovecot: pipelining, real TLS, real logins."""

import asyncio
from collections import Counter

import pytest

from senderproxy.mail.outcome import Deferred, Delivered, Failed
from senderproxy.routing.provider import Security, Smarthost
from tests.peers.bench import Bench
from tests.peers.packages import DOVECOT, POSTFIX
from tests.peers.process import why_not_here
from tests.peers.provider import Mailbox, PostfixProvider, Rule
from tests.senderproxy.delivery.messages import HEADER, make_message, to
from tests.senderproxy.delivery.office import office

reason = why_not_here(POSTFIX, DOVECOT, root=True)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(reason is not None, reason=str(reason))]

PEOPLE = [Mailbox(f"p{number}@firma{number % 3}.test", f"geheim-{number}") for number in range(6)]


def smarthost_of(provider: PostfixProvider, security: Security) -> Smarthost:
    port = provider.tls_port if security is Security.IMPLICIT_TLS else provider.starttls_port
    return Smarthost("localhost", port, security, str(provider.authority.ca_file))


@pytest.mark.parametrize("security", [Security.IMPLICIT_TLS, Security.STARTTLS])
async def test_every_message_arrives_once_with_the_right_login(bench: Bench, security: Security) -> None:
    provider = bench.start(PostfixProvider(PEOPLE, Rule.ADDRESS))
    async with office(smarthost_of(provider, security), connections=2) as o:
        for person in PEOPLE:
            o.accounts.add(person.login, person.login, person.password)
        messages = [person.login for _ in range(10) for person in PEOPLE]
        outcomes = await asyncio.gather(
            *(
                o.send_one(login, f"Brief {number}\r\n.\r\n..\r\nEnde".replace("\r\n.", "\r\n.."))
                for number, login in enumerate(messages)
            )
        )
        assert all(isinstance(outcome, Delivered) for outcome in outcomes)
    await asyncio.to_thread(provider.wait_until, lambda: len(provider.received()) == len(messages), "all messages")
    arrived = provider.received()
    assert Counter(each.login for each in arrived) == dict.fromkeys(messages, 10)
    assert all(each.login == each.reverse_path for each in arrived)
    expected = {HEADER + f"Brief {number}\r\n.\r\n..\r\nEnde\r\n".encode() for number in range(len(messages))}
    assert {each.content for each in arrived} == expected


async def test_refusals_are_distinguished_and_affect_no_other_recipient(bench: Bench) -> None:
    provider = bench.start(PostfixProvider(PEOPLE, Rule.ADDRESS))
    person, other = PEOPLE[:2]
    async with office(smarthost_of(provider, Security.STARTTLS)) as o:
        o.accounts.add("p", person.login, person.password)
        mixed = to("a@kunde.test", "unknown-b@kunde.test", "busy-c@kunde.test", sender=person.login)
        taken, unknown, busy = await o.send("p", mixed)
        assert isinstance(taken, Delivered)
        assert isinstance(unknown, Failed)
        assert isinstance(busy, Deferred)
        (foreign,) = await o.send("p", to("a@kunde.test", sender=other.login))
        assert isinstance(foreign, Failed)
        assert "not owned by user" in foreign.reply.text
        body = (b"x" * 76 + b"\r\n",) * 64
        (large,) = await o.send("p", to("a@kunde.test", sender=person.login), make_message(*(body * 80)))
        assert isinstance(large, Delivered)
    await asyncio.to_thread(provider.wait_until, lambda: len(provider.received()) == 2, "the two messages")
    (arrived,) = [each for each in provider.received() if each.content != HEADER + b"Guten Tag,\r\nhier ist es.\r\n"]
    assert arrived.content == HEADER + b"".join(body * 80)


async def test_a_wrong_password_is_one_failed_login_in_the_providers_log(bench: Bench) -> None:
    provider = bench.start(PostfixProvider(PEOPLE, Rule.DOMAIN))
    person = PEOPLE[0]
    async with office(smarthost_of(provider, Security.IMPLICIT_TLS), connections=3) as o:
        o.accounts.add("p", person.login, "geheim-falsch")
        assert all(
            isinstance(outcome, Deferred) for outcome in await asyncio.gather(*(o.send_one("p") for _ in range(5)))
        )
        o.accounts.set_password("p", person.password)
        assert isinstance(await o.send_one("p"), Delivered)
        await asyncio.to_thread(provider.wait_until, lambda: len(provider.failed_logins()) > 0, "Dovecot's log")
        assert provider.failed_logins() == [person.login]


async def test_a_certificate_for_another_name_gets_no_login(bench: Bench) -> None:
    provider = bench.start(PostfixProvider(PEOPLE, Rule.DOMAIN, host_name="elsewhere.test"))
    async with office(smarthost_of(provider, Security.STARTTLS)) as o:
        o.accounts.add("p", PEOPLE[0].login, PEOPLE[0].password)
        outcome = await o.send_one("p")
        assert isinstance(outcome, Deferred)
        assert "is for another name" in outcome.reply.text
    assert provider.failed_logins() == []
    assert provider.received() == []
