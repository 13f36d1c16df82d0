"""`senderproxy check` looks at the servers of routes: one session each, without a login and without mail."""

import socket
from datetime import UTC, datetime

from senderproxy.log_events import Severity
from senderproxy.monitoring.record import Condition, ConditionKey, condition_entry
from tests.peers.process import free_port
from tests.senderproxy.cli.conftest import Office, service_status

SINCE = datetime(2026, 9, 24, 6, 0, tzinfo=UTC)


def internal(office: Office, port: int) -> str:
    """Configure a route to an internal server; its name in a finding."""
    office.write_config(f'[[routes]]\nrecipients = ["@intern.example"]\nvia = "internal 127.0.0.1:{port}"')
    return f"internal 127.0.0.1:{port}"


def relay(office: Office, port: int, *, more: str = "") -> None:
    """Configure a route to a smarthost that takes mail without a login."""
    office.write_config(
        '[[routes]]\nrecipients = ["@kunde.example"]\nvia = "smarthost relay"\n[smarthosts.relay]\n'
        f'host = "127.0.0.1"\nport = {port}\nsecurity = "tls"\n{more}'
    )


def finding(office: Office, subject: str, *words: str) -> dict[str, str]:
    """The one finding about this subject."""
    (found,) = (one for one in office.type("check", "--json", *words).json if one["what"] == subject)
    return dict(found)


def test_servers_that_answer_are_right_and_got_neither_a_login_nor_mail(office: Office) -> None:
    name = internal(office, office.simulator.port_starttls)
    assert finding(office, name)["level"] == "ok"
    relay(office, office.simulator.port_tls, more=f'ca_file = "{office.simulator.ca_file}"')
    assert finding(office, "smarthost relay")["level"] == "ok"
    assert office.simulator.connections == 2
    assert office.simulator.logins() == []
    assert office.simulator.received == []


def test_a_server_that_does_not_run_is_wrong_with_a_hint(office: Office) -> None:
    port = free_port()
    found = finding(office, internal(office, port))
    assert found["level"] == "wrong"
    assert "refused the connection" in found["words"]
    assert f"127.0.0.1:{port}" in found["hint"]


def test_a_certificate_of_an_unknown_authority_is_wrong(office: Office) -> None:
    relay(office, office.simulator.port_tls)
    found = finding(office, "smarthost relay")
    assert found["level"] == "wrong"
    assert "certificate" in found["words"]
    assert "ca_file" in found["hint"]


def test_a_server_that_leads_back_to_this_service_is_wrong(office: Office) -> None:
    port = free_port()
    office.write_config(
        '[[routes]]\nrecipients = ["@kunde.example"]\nvia = "smarthost relay"\n[smarthosts.relay]\n'
        f'host = "localhost"\nport = {port}\nsecurity = "none"\n',
        listener=f'address = "127.0.0.1:{port}"',
    )
    with socket.create_server(("127.0.0.1", port)):
        found = finding(office, "smarthost relay")
    assert found["level"] == "wrong"
    assert "this service" in found["words"] or "own listener" in found["words"]


def test_offline_no_server_is_contacted(office: Office) -> None:
    internal(office, office.simulator.port_starttls)
    office.type("check", "--offline")
    assert office.simulator.connections == 0


def test_a_server_that_service_and_check_both_see_is_one_finding(office: Office) -> None:
    name = internal(office, free_port())
    condition = Condition(ConditionKey.ROUTE_UNREACHABLE, name, Severity.ERROR, SINCE, "No mail can go.", "look")
    of_mx = Condition(ConditionKey.ROUTE_UNREACHABLE, "mx", Severity.ERROR, SINCE, "Port 25 is blocked.", "ask")
    with service_status(office, conditions=[condition_entry(condition), condition_entry(of_mx)]):
        found = office.type("check", "--json").json
        offline = office.type("check", "--json", "--offline").json
    assert [one["what"] for one in found if name in one["what"]] == [name]
    assert [one["what"] for one in found if one["what"].endswith(" mx")] == ["route_unreachable mx"]
    assert [one["what"] for one in offline if name in one["what"]] == [f"route_unreachable {name}"]
