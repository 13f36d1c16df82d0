"""A throw-away certificate authority for the peers, with the extensions that Python 3.13 insists on."""

from dataclasses import dataclass
from pathlib import Path

import trustme


@dataclass(frozen=True)
class Certificate:
    """A server's own certificate and key, as files."""

    chain: Path
    key: Path


class Authority:
    """An authority in a folder: `ca_file` is what a client must trust, `issue` is what a server shows."""

    def __init__(self, folder: Path) -> None:
        self._authority = trustme.CA()
        self._folder = folder
        self.ca_file = folder / "ca.pem"
        self._authority.cert_pem.write_to_path(self.ca_file)

    def issue(self, *names: str) -> Certificate:
        """Make a certificate for these host names or addresses."""
        issued = self._authority.issue_cert(*names)
        chain = self._folder / f"{names[0]}.pem"
        key = self._folder / f"{names[0]}.key"
        for number, part in enumerate(issued.cert_chain_pems):
            part.write_to_path(chain, append=number > 0)
        issued.private_key_pem.write_to_path(key)
        key.chmod(0o600)
        return Certificate(chain, key)
