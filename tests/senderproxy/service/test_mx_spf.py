"""A start with `via = "mx"`: a wrong SPF record refuses it, a name server that is away does not."""

import pytest

from senderproxy.errors import SenderproxyError
from senderproxy.mail.address import parse_address, parse_pattern
from senderproxy.routing.account import Account
from senderproxy.service.mx_spf import require_spf, sender_domains
from tests.senderproxy.delivery.mx.test_spf_gate import gate_at


async def test_records_that_name_us_let_it_start() -> None:
    async with gate_at() as (gate, _, _clock):
        await require_spf(gate, ())
        await require_spf(gate, ("firma.example",))
        assert not gate.stopped()


async def test_one_wrong_record_refuses_it_with_the_fix() -> None:
    async with gate_at() as (gate, _, _clock):
        with pytest.raises(SenderproxyError) as caught:
            await require_spf(gate, ("firma.example", "falsch.example"))
        assert caught.value.message == (
            'The SPF record of falsch.example does not name 203.0.113.7, so no mail may leave by via = "mx".'
        )
        assert caught.value.hint.startswith("add ip4:203.0.113.7 to the record")


async def test_several_wrong_records_are_named() -> None:
    async with gate_at() as (gate, names, _):
        names.records[("kaputt.example", "TXT")] = ["v=spf1 ip4:nonsense -all"]  # type: ignore[index]
        with pytest.raises(SenderproxyError, match=r"The same holds for (?:\w+\.example(?:, )?){2}\."):
            await require_spf(gate, ("falsch.example", "ohne.example", "kaputt.example"))
        with pytest.raises(SenderproxyError, match=r"kaputt\.example is invalid \(ip4:nonsense\)"):
            await require_spf(gate, ("kaputt.example",))


async def test_a_name_server_that_fails_or_is_silent_does_not_refuse_it() -> None:
    async with gate_at() as (gate, names, _):
        names.failing.add("firma.example")
        await require_spf(gate, ("firma.example",))
        assert list(gate.stopped()) == ["firma.example"]
        names.is_silent = True
        await require_spf(gate, ("falsch.example",), seconds=0.1)


def test_the_sender_domains_are_those_of_all_addresses() -> None:
    def account(name: str, *carries: str) -> Account:
        address = parse_address(f"{name}@firma.example")
        return Account(name, name, "ionos", address, tuple(map(parse_pattern, (str(address), *carries))))

    accounts = [account("anna", "@shop.example"), account("bert", "bert@shop.example", "b@third.example")]
    assert sender_domains(accounts) == ("firma.example", "shop.example", "third.example")
