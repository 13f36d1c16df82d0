"""`senderproxy client`: passwords of programs and devices."""

import re
import tomllib

from senderproxy.listener.client_auth import verify_password
from tests.senderproxy.cli.conftest import Office


def test_the_printed_line_is_valid_in_the_configuration_and_matches_the_password(office: Office) -> None:
    ended = office.bare("client", "hash-password", "--password-stdin", stdin="geheim-scanner\n")
    assert ended.code == 0
    password = tomllib.loads(ended.out)["password"]
    assert verify_password("geheim-scanner", password)
    listener = (
        'address = "127.0.0.1:0"\nauth = "required"\n[[clients]]\nuser = "scanner"\nsenders = ["anna@firma.example"]\n'
    )
    office.write_config(listener=listener + ended.out)
    assert office.type("account", "list").code == 0


def test_a_generated_password_is_short_and_has_no_ambiguous_characters(office: Office) -> None:
    made = [office.bare("client", "hash-password", "--generate") for _ in range(2)]
    passwords = set()
    for ended in made:
        assert ended.code == 0
        for_device, _, for_configuration = ended.out.splitlines()
        password = for_device.rpartition(" ")[2]
        assert re.fullmatch("[a-km-zA-HJ-NP-Z2-9]{16}", password)
        assert verify_password(password, tomllib.loads(for_configuration)["password"])
        passwords.add(password)
    assert len(passwords) == 2
    assert office.bare("client", "hash-password", "--generate", "--password-stdin", stdin="geheim-x\n").code != 0
