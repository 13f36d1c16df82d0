"""Programs and devices that log in to us."""

import tomllib

from senderproxy.listener.client_auth import verify_password
from tests.senderproxy.cli.conftest import Office


def test_what_is_printed_can_stand_in_the_configuration_and_fits_the_password(office: Office) -> None:
    ended = office.bare("client", "hash-password", "--password-stdin", stdin="geheim-scanner\n")
    assert ended.code == 0
    password = tomllib.loads(ended.out)["password"]
    assert verify_password("geheim-scanner", password)
    listener = (
        'address = "127.0.0.1:0"\nauth = "required"\n[[clients]]\nuser = "scanner"\nsenders = ["anna@firma.example"]\n'
    )
    office.write_config(listener=listener + ended.out)
    assert office.type("account", "list").code == 0
