"""What people copy into their mail server."""

from senderproxy.cli.instructions import mail_server_instructions


def test_the_listeners_address_stands_wherever_it_is_needed() -> None:
    text = mail_server_instructions("192.168.1.10:2525")
    assert text.count('-SmartHosts "[192.168.1.10]" -Port 2525') == 2
    assert "relayhost = [192.168.1.10]:2525" in text
    assert "on this machine only" not in text


def test_an_address_of_ipv6_is_in_brackets_once() -> None:
    assert "relayhost = [fd00::10]:2525" in mail_server_instructions("[fd00::10]:2525")


def test_every_address_of_this_machine_is_none_that_a_mail_server_could_use() -> None:
    assert "ADDRESS-OF-THIS-MACHINE" in mail_server_instructions("0.0.0.0:2525")


def test_on_loopback_it_is_said_that_nobody_else_gets_in() -> None:
    assert "only networks named under `allow` may connect" in mail_server_instructions("127.0.0.1:2525")
