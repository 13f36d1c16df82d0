"""Presets by the words of an operator and by MX records."""

import pytest

from senderproxy.routing.provider_names import (
    preset_named,
    preset_names,
    preset_of_mail_servers,
    preset_of_server,
    similar_presets,
)


@pytest.mark.parametrize(
    ("text", "preset"),
    [
        ("ionos", "ionos-de"),
        ("IONOS", "ionos-de"),
        ("ionos-UK", "ionos-uk"),
        ("1&1", "1und1"),
        ("1 und 1", "1und1"),
        ("Web.de", "web.de"),
        ("webde", "web.de"),
        ("GMX", "gmx"),
        ("T-Online", "t-online"),
        ("Telekom", "t-online"),
        ("Microsoft 365", "m365"),
        ("Office 365", "m365"),
        ("Google Workspace", "gmail"),
        ("generic", None),
        ("hoster", None),
        ("", None),
    ],
)
def test_a_name_may_be_written_in_any_way(text: str, preset: str | None) -> None:
    assert preset_named(text) == preset


@pytest.mark.parametrize(
    ("domain", "proposed", "preset"),
    [
        ("firma.co.uk", None, "ionos-uk"),
        ("firma.fr", None, "ionos-fr"),
        ("firma.com", None, "ionos-de"),
        ("firma.com", "ionos-com", "ionos-com"),
        ("firma.fr", "gmx", "ionos-fr"),
    ],
)
def test_ionos_has_a_server_for_each_country(domain: str, proposed: str | None, preset: str) -> None:
    assert preset_named("ionos", domain, proposed) == preset


@pytest.mark.parametrize(
    ("hosts", "preset"),
    [
        (["mx00.ionos.de", "mx01.ionos.de"], "ionos-de"),
        (["mx00.kundenserver.de."], "ionos-de"),
        (["mx00.ionos.co.uk"], "ionos-uk"),
        (["smtpin.rzone.de"], "strato"),
        (["firma-de.mail.protection.outlook.com"], "m365"),
        (["ASPMX.L.Google.com"], "gmail"),
        (["gmx.de"], "gmx"),
        (["mail.firma.example"], None),
        (["notgmx.de"], None),
        ([""], None),
        ([], None),
    ],
)
def test_mail_servers_belong_to_a_provider(hosts: list[str], preset: str | None) -> None:
    assert preset_of_mail_servers(hosts) == preset


def test_each_preset_is_found_by_its_name_and_by_its_server() -> None:
    assert "generic" not in preset_names()
    for name in preset_names():
        assert preset_named(name) == name
    assert preset_of_server("SMTP.ionos.de.") == "ionos-de"
    assert preset_of_server("smtp.hoster.example") is None


def test_a_misspelt_name_has_similar_ones() -> None:
    assert "gmail" in similar_presets("gmial")
    assert "strato" in similar_presets("stra")
    assert similar_presets("xyzzy") == []
