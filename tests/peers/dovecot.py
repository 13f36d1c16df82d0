"""Dovecot: what all its servers have in common, and its answers to Postfix's question whether a password is right (SASL).

Guarantees: logins and passwords are exactly those given; every refused attempt is counted, none is delayed or forgotten.
Not here: its servers for mailboxes (imap, mailbox, catch_all), who may use which sender (provider).
Written for Dovecot 2.3 and 2.4, as Debian 12 and 13 have them: their configurations have different languages.
"""

import functools
import re
import shutil
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.peers.packages import DOVECOT
from tests.peers.process import LOOPBACK, Program, listens
from tests.peers.unpacked import GROUPS, USERS, Unpacked

INSTALLED: Final = "/usr/sbin/dovecot"
# 2.3 names the login after the driver, 2.4 before it.
_REFUSED: Final = re.compile(
    r"(?:passwd-file|auth)\(([^,)]+)[^)]*\): (?:Info: passwd-file: )?(?:Password mismatch|unknown user)"
)


@functools.cache
def is_dovecot_2_4() -> bool:
    """True with the language of Dovecot 2.4 and later."""
    libraries = DOVECOT.parents[1] / "lib" / "dovecot"
    printed = subprocess.run(
        [DOVECOT, "--version"], capture_output=True, text=True, check=True, env={"LD_LIBRARY_PATH": str(libraries)}
    ).stdout
    major, minor = printed.split(".")[:2]
    return (int(major), int(minor)) >= (2, 4)


def version_settings() -> str:
    """Return the lines that each configuration begins with."""
    if is_dovecot_2_4():
        return "dovecot_config_version = 2.4.0\ndovecot_storage_version = 2.4.0"
    return ""


def login_settings(users: Path, *, home: Path, user: str, group: str) -> str:
    """Return the settings for logins from a file `login:password::::::`, in plain text, all with this user and home."""
    if is_dovecot_2_4():
        return f"""
auth_allow_cleartext = yes
passdb passwd-file {{
  passwd_file_path = {users}
  default_password_scheme = PLAIN
  auth_username_format = %{{user}}
}}
userdb static {{
  fields {{
    uid = {user}
    gid = {group}
    home = {home}
  }}
}}
"""
    return f"""
disable_plaintext_auth = no
passdb {{
  driver = passwd-file
  args = scheme=PLAIN username_format=%u {users}
}}
userdb {{
  driver = static
  args = uid={user} gid={group} home={home}
}}
"""


def token_settings(folder: Path, introspection_url: str) -> str:
    """Return the settings for logins with access tokens, which the server at this address knows.

    2.3 has them in a file of its own, which is written into the folder.
    """
    settings = f"""
introspection_mode = post
introspection_url = {introspection_url}
username_attribute = email
active_attribute = active
active_value = true
"""
    if is_dovecot_2_4():
        return f"""
oauth2 {{
{settings}
}}
passdb oauth2 {{
  mechanisms_filter = xoauth2 oauthbearer
}}
"""
    file = folder / "oauth2.conf"
    file.write_text(settings, encoding="utf-8")
    return f"""
passdb {{
  driver = oauth2
  mechanisms = xoauth2 oauthbearer
  args = {file}
}}
"""


def maildir_settings(maildir: Path) -> str:
    """Return the settings for one mailbox."""
    if is_dovecot_2_4():
        return f"mail_driver = maildir\nmail_path = {maildir}"
    return f"mail_location = maildir:{maildir}"


class Dovecot:
    """A Dovecot in a folder of its own. Its kinds have a configuration and a sign that they are ready."""

    name = "dovecot"

    def __init__(self, folder: Path, port: int = 0) -> None:
        self._folder = folder
        self._port = port
        self._program: Program | None = None

    def __enter__(self) -> Self:
        self._folder.mkdir(exist_ok=True)
        self._folder.chmod(0o755)
        self._prepare()
        self._write_configuration()
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start the program, and wait until it is ready."""
        command = Unpacked("dovecot", self._folder).command(INSTALLED, "-F", "-c", self._configuration_file)
        self._program = program = Program(self.name, command, self._folder / "dovecot.out")
        try:
            program.wait_until(self._is_ready, f"Dovecot ({self.name}) is ready")
        except BaseException:
            program.kill()
            raise

    def stop(self) -> None:
        """Kill the program: it keeps nothing in memory, and would take a second to say goodbye."""
        if self._program is not None:
            self._program.kill()
            self._program = None

    def log(self) -> str:
        """Return what Dovecot has printed and logged."""
        files = (self._folder / "dovecot.out", self._folder / "dovecot.log")
        return "".join(file.read_text(encoding="utf-8", errors="replace") for file in files if file.exists())

    @property
    def _configuration_file(self) -> Path:
        return self._folder / "dovecot.conf"

    def _write_configuration(self) -> None:
        self._configuration_file.write_text(f"{self._common_settings()}{self._configuration()}", encoding="utf-8")

    def _common_settings(self) -> str:
        return f"""
{version_settings()}
base_dir = {self._folder}/run
state_dir = {self._folder}/state
log_path = {self._folder}/dovecot.log
ssl = no
"""

    # ---- of each kind ----

    def _prepare(self) -> None:
        """Write the files beside the configuration."""

    def _configuration(self) -> str:
        raise NotImplementedError

    def _is_ready(self) -> bool:
        return listens(self._port)


def listener_settings(protocol: str, port: int) -> str:
    """Return the settings of a server without TLS on this port of loopback alone."""
    return f"""
protocols = {protocol}
listen = {LOOPBACK}
service {protocol}-login {{
  inet_listener {protocol} {{
    port = {port}
  }}
  inet_listener {protocol}s {{
    port = 0
  }}
}}
"""


class DovecotSasl(Dovecot):
    """An authentication service on a Unix socket, in a folder of its own.

    `mechanisms`: those that it offers. `introspection_url`: of an OAuth server that it asks about each token; the login is
    the token's `email`.
    """

    def __init__(
        self,
        folder: Path,
        socket_path: Path,
        passwords: Mapping[str, str],
        *,
        mechanisms: str = "plain login",
        introspection_url: str = "",
    ) -> None:
        super().__init__(folder)
        self._socket_path = socket_path
        self._passwords = dict(passwords)
        self._mechanisms = mechanisms
        self._introspection_url = introspection_url

    def change_password(self, login: str, password: str) -> None:
        """Give a login another password; the next attempt is held to it.

        Dovecot looks at its file once a second at most, which a test would outrun; so it starts again.
        """
        self._passwords[login] = password
        self.stop()
        self._prepare()
        self.start()

    def failed_logins(self) -> list[str]:
        """Return the login of each refused attempt, in order."""
        return _REFUSED.findall(self.log())

    def _is_ready(self) -> bool:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(5)
            try:
                client.connect(str(self._socket_path))
                return client.recv(1024).startswith(b"VERSION")
            except OSError:  # not yet; on a busy machine the answer may take long, too
                return False

    def _prepare(self) -> None:
        users = self._folder / "users"
        beside = self._folder / "users.new"
        beside.write_text("".join(f"{login}:{secret}::::::\n" for login, secret in self._passwords.items()), "utf-8")
        shutil.chown(beside, USERS["dovecot"], GROUPS["dovecot"])
        beside.chmod(0o400)
        beside.rename(users)

    def _configuration(self) -> str:
        return f"""
protocols =
auth_mechanisms = {self._mechanisms}
auth_verbose = yes
auth_verbose_passwords = no
auth_failure_delay = 0
auth_cache_size = 0
{token_settings(self._folder, self._introspection_url) if self._introspection_url else ""}
{login_settings(self._folder / "users", home=Path("/nonexistent"), user="nobody", group="nogroup")}
service auth {{
  unix_listener {self._socket_path} {{
    mode = 0666
  }}
}}
service anvil {{
  chroot =
  # no listener, no waiting time that grows with every refused attempt
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service stats {{
  chroot =
}}
"""
