"""Texts and hints of the vault's errors."""

from pathlib import Path

from vault import Damage, Damaged, UnsafeFile, VaultError


def test_a_hint_can_be_typed_as_it_stands_even_where_the_path_has_blanks() -> None:
    error = UnsafeFile("open to all", hint="chmod 600 PATH", path=Path("/srv/our office/mail.vault"))
    assert error.hint == "chmod 600 '/srv/our office/mail.vault'"
    assert str(error) == "/srv/our office/mail.vault: open to all"


def test_damage_leads_to_the_generation_before() -> None:
    error = Damaged("altered", damage=Damage.ALTERED)
    error.set_path(Path("/srv/mail.vault"))
    assert error.hint.endswith(
        "mv /srv/mail.vault /srv/mail.vault.damaged && cp -p /srv/mail.vault.bak /srv/mail.vault"
    )


def test_an_error_goes_on_speaking_of_the_file_it_named_first() -> None:
    error = VaultError("unreadable", hint="look", path=Path("/a.key"))
    error.set_path(Path("/b.vault"))
    assert str(error) == "/a.key: unreadable"
