"""A blocking connection to the first address that accepts one, for worker threads.

Not here: the look-up of addresses and which of them are permitted, TLS, time limits after the connection (the callers).
"""

import socket
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

Found: TypeAlias = tuple[socket.AddressFamily, socket.SocketKind, int, str, Any]  # as socket.getaddrinfo returns it


def connect_first(addresses: Sequence[Found], seconds: Callable[[], float]) -> socket.socket:
    """Connect. `seconds`: called before each address for its time limit, which stays set on the socket.

    Raises the OSError of the last address.
    """
    failure: OSError = OSError()
    for family, kind, protocol, _name, address in addresses:
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(seconds())
            sock.connect(address)
            return sock
        except OSError as error:
            sock.close()
            failure = error
    raise failure
