"""Settings for the mail server."""

from senderproxy.cli.instructions import mail_server_instructions


def test_the_address_of_the_listener_is_filled_in_everywhere() -> None:
    text = mail_server_instructions("192.168.1.10:2525")
    assert text.count('-SmartHosts "[192.168.1.10]" -Port 2525') == 2
    assert "relayhost = [192.168.1.10]:2525" in text
    assert "on this machine only" not in text


def test_an_ipv6_address_has_one_pair_of_brackets() -> None:
    assert "relayhost = [fd00::10]:2525" in mail_server_instructions("[fd00::10]:2525")


def test_the_unspecified_address_is_replaced_by_a_placeholder() -> None:
    assert "ADDRESS-OF-THIS-MACHINE" in mail_server_instructions("0.0.0.0:2525")


def test_the_unspecified_address_is_replaced_by_the_one_that_the_mail_server_reaches() -> None:
    assert "relayhost = [192.168.1.10]:2525" in mail_server_instructions("0.0.0.0:2525", "192.168.1.10")


def test_for_loopback_the_text_says_how_others_may_connect() -> None:
    assert "run senderproxy setup again and name its IP address" in mail_server_instructions("127.0.0.1:2525")


def test_no_line_is_wider_than_a_terminal() -> None:
    text = mail_server_instructions("192.168.100.100:2525") + mail_server_instructions("127.0.0.1:2525")
    assert max(len(line) for line in text.splitlines()) < 80
