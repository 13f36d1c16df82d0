"""TLS towards upstreams is verified, and there is no way to ask for less."""

import ssl
from pathlib import Path

import pytest
import trustme

from senderproxy.delivery.tls import Contexts


def test_every_context_verifies_chain_and_name_and_is_new_enough(tmp_path: Path) -> None:
    ca_file = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(ca_file)
    for context in (Contexts().context(None), Contexts().context(str(ca_file))):
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.check_hostname
        assert context.minimum_version is ssl.TLSVersion.TLSv1_2


def test_a_context_is_made_once_and_again_when_its_file_changes(tmp_path: Path) -> None:
    ca_file = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(ca_file)
    contexts = Contexts()
    first = contexts.context(str(ca_file))
    assert contexts.context(str(ca_file)) is first
    ca_file.write_bytes(trustme.CA().cert_pem.bytes() + b"\n# renewed\n")
    assert contexts.context(str(ca_file)) is not first
    assert contexts.context(None) is contexts.context(None)


def test_only_the_authorities_of_the_file_are_trusted(tmp_path: Path) -> None:
    ca_file = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(ca_file)
    assert Contexts().context(str(ca_file)).cert_store_stats()["x509_ca"] == 1


def test_a_file_that_is_gone_is_an_error_also_when_it_was_read_before(tmp_path: Path) -> None:
    ca_file = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(ca_file)
    contexts = Contexts()
    contexts.context(str(ca_file))
    ca_file.unlink()
    with pytest.raises(FileNotFoundError):
        contexts.context(str(ca_file))
