"""Exit codes of senderproxy, as in sysexits(3), and the code of each error.

Guarantees: the only place that names an exit code. Errors raised below the command line are types without a code; an
error that is not listed here means that the service or a provider is unavailable.
"""

from typing import Final

EX_OK: Final = 0  # the command did what it was asked for
EX_FAILED: Final = 1  # the command ran, and what it checked, sent or looked for failed
EX_USAGE: Final = 64  # the command line is wrong
EX_DATAERR: Final = 65  # the vault or a record in it cannot be read
EX_NOINPUT: Final = 66  # a file that was named cannot be read
EX_UNAVAILABLE: Final = 69  # the service or a provider cannot be reached
EX_CANTCREAT: Final = 73  # a file is in the way
EX_IOERR: Final = 74  # the system refused to read or write
EX_TEMPFAIL: Final = 75  # the service should start again
EX_NOPERM: Final = 77  # the vault does not open with the unlock at hand
EX_CONFIG: Final = 78  # the configuration is refused
EX_INTERRUPTED: Final = 130  # Ctrl-C: 128 + SIGINT, as shells count


def exit_code(error: Exception) -> int:
    """The exit code of an error that reached the top of the program."""
    # Imported here: `--version` and `--help` raise no error, and these modules load pydantic and cryptography.
    from senderproxy.accounts.errors import (
        AccountsError,
        InvalidAccount,
        InvalidVaultRequest,
        UnknownAccount,
        VaultDiskError,
        VaultExists,
        VaultUnreadable,
    )
    from senderproxy.accounts.record import RecordError
    from senderproxy.cli.errors import FileInTheWay, InputError, LoginRejected, UsageError
    from senderproxy.config.problems import ConfigError
    from senderproxy.errors import InvalidFile, WouldOverwrite
    from senderproxy.listener.hidden_clients import HiddenClients
    from senderproxy.routing.fallback import FallbackError

    match error:
        case LoginRejected():
            return EX_FAILED
        case UsageError() | InvalidAccount() | InvalidVaultRequest() | FallbackError():
            return EX_USAGE
        case VaultUnreadable() | UnknownAccount() | RecordError() | InvalidFile():
            return EX_DATAERR
        case InputError() | EOFError():
            return EX_NOINPUT
        case FileInTheWay() | VaultExists() | WouldOverwrite():
            return EX_CANTCREAT
        case VaultDiskError() | OSError():
            return EX_IOERR
        case AccountsError():
            return EX_NOPERM
        case ConfigError() | HiddenClients():
            return EX_CONFIG
        case _:
            return EX_UNAVAILABLE
