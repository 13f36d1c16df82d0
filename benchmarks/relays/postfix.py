"""Postfix in three configurations: as in its manual, optimised, and with the connection cache.

`postfix`: SASL_README, "Configuring Sender-Dependent SASL authentication"; each message connects, does TLS and logs in.

`postfix-best`: one smtp(8) transport for each account, so that a cached connection belongs to the account; the
connection cache for the smarthost; TLS connections kept by tlsproxy(8); TLS session resumption; raised limits.
"""

import subprocess
from collections.abc import Iterable, Mapping
from typing import ClassVar, Final

from benchmarks.relays.port import Job
from tests.peers.packages import POSTFIX
from tests.peers.postfix import Postfix, write_map

_POSTCONF: Final = POSTFIX.with_name("postconf")
_LIBRARIES: Final = POSTFIX.parents[1] / "lib" / "postfix"


class PlainPostfix(Postfix):
    """The configuration of the manual."""

    name: str = "postfix"
    answers_first: ClassVar[bool] = True

    def __init__(self, job: Job) -> None:
        super().__init__(type(self).name, ports=1)
        self._job = job

    @staticmethod
    def version() -> str | None:
        """Ask postconf."""
        try:
            done = subprocess.run(
                [_POSTCONF, "-dh", "mail_version"],
                capture_output=True,
                text=True,
                check=True,
                env={"LD_LIBRARY_PATH": str(_LIBRARIES)},
            )
        except FileNotFoundError:
            return None
        return f"Postfix {done.stdout.strip()}"

    @property
    def port(self) -> int:
        """The port for submissions."""
        return self.ports[0]

    @property
    def smarthost(self) -> str:
        """The destination, as Postfix writes it; TLS from the first octet."""
        return f"[localhost]:{self._job.tls_port}"

    def listeners(self) -> Iterable[tuple[int, Mapping[str, str]]]:
        """One port for all clients."""
        return [(self.port, {})]

    def settings(self) -> Mapping[str, str]:
        """Return main.cf."""
        etc = self.folder / "etc"
        logins = self._job.logins
        return {
            **self.common_settings(),
            "smtp_sasl_auth_enable": "yes",
            "smtp_sender_dependent_authentication": "yes",
            "smtp_sasl_password_maps": write_map(
                etc / "passwords", {login: f"{login}:{self._job.password}" for login in logins}
            ),
            "sender_dependent_relayhost_maps": write_map(etc / "relayhosts", dict.fromkeys(logins, self.smarthost)),
            "smtp_destination_concurrency_limit": str(self._job.per_account * self._job.senders),
        }

    def common_settings(self) -> Mapping[str, str]:
        """Return the common settings: verified TLS, and limits for these clients and message sizes."""
        return {
            "relayhost": self.smarthost,
            "smtpd_relay_restrictions": "permit_mynetworks, reject",
            "smtp_sasl_security_options": "noanonymous",
            "smtp_tls_wrappermode": "yes",
            "smtp_tls_security_level": "secure",
            "smtp_tls_CAfile": str(self._job.ca_file),
            "message_size_limit": str(self._job.message_size),
            "mailbox_size_limit": "0",
            "virtual_mailbox_domains": "",
            "virtual_mailbox_maps": "",
            "default_process_limit": str(max(200, self._job.clients + 100)),
            "initial_destination_concurrency": "20",
            "smtpd_client_connection_count_limit": "0",
            "minimal_backoff_time": "600s",
            "maximal_backoff_time": "600s",
        }

    def kill_and_start(self) -> None:
        """Kill it with its children and start it; the queue is on the disk."""
        assert self._program is not None
        self._program.kill()
        (self.queue_folder / "pid" / "master.pid").unlink(missing_ok=True)
        self.start()

    def push(self) -> None:
        """Run the queue, as `postqueue -f` does."""
        self.flush()


class BestPostfix(PlainPostfix):
    """The configuration of an expert."""

    name: str = "postfix-best"

    def settings(self) -> Mapping[str, str]:
        """Return main.cf; the logins belong to the transports."""
        transports = {login: f"account{number}:{self.smarthost}" for number, login in enumerate(self._job.logins)}
        limits = {
            f"account{number}_destination_concurrency_limit": str(self._job.per_account)
            for number in range(self._job.senders)
        }
        return {
            **self.common_settings(),
            **limits,
            "sender_dependent_default_transport_maps": write_map(self.folder / "etc" / "transports", transports),
            "relayhost": "",
            "smtp_tls_connection_reuse": "yes",
            "smtp_connection_cache_destinations": self.smarthost,
            "smtp_connection_cache_time_limit": "60s",
            "connection_cache_ttl_limit": "60s",
            "smtp_tls_session_cache_database": f"btree:{self.folder}/data/smtp_scache",
            "initial_destination_concurrency": str(self._job.per_account),
            "smtpd_peername_lookup": "no",
            "smtpd_client_event_limit_exceptions": "static:all",
        }

    def more_services(self) -> str:
        """One transport for each account, and the cache of TLS connections."""
        lines = [
            f"account{number} unix - - n - {max(self._job.per_account, 2)} smtp\n"
            f"  -o {{ smtp_sasl_auth_enable = yes }}\n"
            f"  -o {{ smtp_sasl_password_maps = static:{login}:{self._job.password} }}\n"
            for number, login in enumerate(self._job.logins)
        ]
        return "tlsproxy unix - - n - 0 tlsproxy\n" + "".join(lines)


class CachedPostfix(PlainPostfix):
    """Sender-dependent logins on one transport, with the cache that its manual says they disable."""

    name: str = "postfix-cached"

    def settings(self) -> Mapping[str, str]:
        """Return main.cf: the plain one with the cache."""
        return {
            **super().settings(),
            "smtp_tls_connection_reuse": "yes",
            "smtp_connection_cache_destinations": self.smarthost,
            "smtp_tls_session_cache_database": f"btree:{self.folder}/data/smtp_scache",
        }

    def more_services(self) -> str:
        """The keeper of TLS connections."""
        return "tlsproxy unix - - n - 0 tlsproxy\n"
