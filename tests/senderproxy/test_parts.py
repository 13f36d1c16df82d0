"""Parts of the program that are loaded when a setting, or something in the vault, first needs them: memory of the others.

A running service writes each of its imports to its log (`-X importtime`).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import pytest

import senderproxy
from senderproxy.errors import SenderproxyError
from senderproxy.late_import import ProgramReplaced, late_import
from tests.peers.process import wait_until
from tests.peers.senderproxy import Senderproxy, VaultAccount

pytestmark = pytest.mark.slow

ACCOUNT = VaultAccount("anna@firma.example", "geheim")
PROVIDER = 'host = "localhost"\nport = 465\nsecurity = "tls"\nsender_rule = "address"\nimap_host = "localhost"\n'
ADD_APPLICATION = ("oauth", "add", "firma", "--client-id", "senderproxy", "--flow", "application", "--token-url",
                   "https://localhost:1/token", "--scopes", "smtp", "--password-stdin")  # fmt: skip
NEVER = {
    "pydantic", "pydantic_core", "senderproxy.config.load",  # in the process that reads the configuration
    "zipfile",  # loaded by importlib.resources
}  # fmt: skip
OFF = "[watch]\ndns = false\n"


class ServiceWithImportTimes(Senderproxy):
    """A service whose log has a line for each import."""

    def __init__(self, more_settings: str = OFF, accounts: tuple[VaultAccount, ...] = (ACCOUNT,)) -> None:
        super().__init__(accounts, PROVIDER, more_settings=more_settings)

    def _service_words(self) -> list[str]:
        program, *words = super()._service_words()
        return [program, "-X", "importtime", *words]

    def _import_accounts(self) -> None:
        if self._accounts:
            super()._import_accounts()

    def modules(self) -> set[str]:
        """The modules that it has loaded."""
        return set(re.findall(r"^import time:[^|]*\|[^|]*\| *(\S+)$", self.log(), re.MULTILINE))

    def has_loaded(self, name: str) -> bool:
        """True if it has loaded the module, or one of the package."""
        return any(f"{module}.".startswith(f"{name}.") for module in self.modules())


@dataclass(frozen=True)
class Part:
    """Modules, and what brings them: settings, or a command before the start."""

    modules: tuple[str, ...]
    settings: str = ""
    prepare: Callable[[Senderproxy], object] = bool
    accounts: tuple[VaultAccount, ...] = (ACCOUNT,)


PARTS = {
    "look-ups": Part(
        ("dns", "senderproxy.dns_client.dnspython"),
        OFF + '[mx]\npublic_address = ["192.0.2.1"]\n[[routes]]\nrecipients = ["@kunde.example"]\nvia = "mx"\n',
        accounts=(),  # no domain is looked at
    ),
    "keys that sign": Part(
        ("cryptography.x509", "cryptography.hazmat.primitives.asymmetric.rsa", "senderproxy.signing.rsa_key"),
        OFF,
        lambda service: service.command("dkim", "setup", "firma.example"),
    ),
    "footers": Part(
        ("senderproxy.footer.insertion", "html"), OFF + '[[footers]]\nsenders = ["@firma.example"]\ntext = "Firma"\n'
    ),
    "requests": Part(
        ("http.client", "senderproxy.http_client.exchange"),
        OFF + '[alerts]\nping = "file:ping.url"\n',
        lambda service: (service.folder / "ping.url").write_text("http://127.0.0.1:9/ping"),
    ),
    "OAuth": Part(
        ("senderproxy.oauth", "senderproxy.accounts.access_tokens", "senderproxy.accounts.usable_application"),
        OFF,
        lambda service: service.command(*ADD_APPLICATION, standard_input="geheim\n"),
    ),
    "metrics": Part(
        ("prometheus_client", "senderproxy.metrics.exposition", "senderproxy.service.metrics"), OFF + '[metrics]\nlisten = "127.0.0.1:0"\n'
    ),
    "database server": Part(
        ("asyncpg", "senderproxy.service.postgresql", "senderproxy.spool.postgresql.store", "senderproxy.delivery.shared_quota",
         "senderproxy.delivery.server_limits", "senderproxy.accounts.shared_refresh_tokens"),
        OFF + '[spool]\nengine = "postgresql://senderproxy@localhost:1/mail"\n',  # the start waits for no database
    ),
    "page": Part(
        ("senderproxy.service.page",), OFF + '[web]\nrole = "read"\nsockets = "page"\n'
    ),
    "copies of sent mail": Part(
        ("imapclient", "imaplib", "senderproxy.sent_copy.imap", "senderproxy.sent_copy.runner"),
        OFF,
        lambda service: service.command("account", "edit", ACCOUNT.id, "--sent-copy", "--sent-copy-folder", "Sent"),
    ),
}  # fmt: skip


def test_a_service_with_everything_off_loads_no_part() -> None:
    with ServiceWithImportTimes() as service:
        loaded = service.modules()
        parts = {name for part in PARTS.values() for name in part.modules}
        found = {name for name in parts | NEVER if service.has_loaded(name)}
    assert "senderproxy.app" in loaded
    assert found == set()


@pytest.mark.parametrize("name", PARTS)
def test_what_needs_a_part_brings_all_of_it_before_the_service_is_ready(name: str) -> None:
    part = PARTS[name]
    with ServiceWithImportTimes(part.settings, part.accounts) as service:
        part.prepare(service)
        service.restart()
        assert [module for module in part.modules if not service.has_loaded(module)] == []


def test_a_key_that_comes_later_brings_its_part_to_the_running_service() -> None:
    with ServiceWithImportTimes() as service:
        assert not service.has_loaded("senderproxy.signing.rsa_key")
        service.command("dkim", "setup", "firma.example")
        wait_until(lambda: service.has_loaded("senderproxy.signing.rsa_key"), "the key is read", peer=service)
        assert "firma.example" in service.command("dkim", "show", "firma.example")


def test_an_application_of_oauth_that_comes_later_brings_its_part_to_the_running_service() -> None:
    with ServiceWithImportTimes() as service:
        assert not service.has_loaded("senderproxy.oauth")
        service.command(*ADD_APPLICATION, standard_input="geheim\n")
        wait_until(lambda: service.has_loaded("senderproxy.accounts.access_tokens"), "it is read", peer=service)


def test_a_late_import_after_an_upgrade_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    upgraded = tmp_path / "__init__.py"
    upgraded.write_bytes(Path(senderproxy.__file__).read_bytes())
    with late_import():
        import string
    assert string.digits
    monkeypatch.setattr(senderproxy, "__file__", str(upgraded))
    with pytest.raises(ProgramReplaced) as refused, late_import():
        pytest.fail("the body is not executed")
    assert refused.value.hint == "systemctl restart senderproxy"


def test_an_upgrade_during_a_late_import_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ProgramReplaced), late_import():
        monkeypatch.setattr(senderproxy, "__file__", str(tmp_path / "missing"))
    monkeypatch.undo()
    with pytest.raises(SenderproxyError, match="cannot be loaded: No module named"), late_import():
        import_module("senderproxy.not_there")
