"""A straight path that is open and takes nothing: the listener reads as with the real one, and its conversation does the rest."""

from senderproxy.mail.submission import Client


class OpenWay:
    """listener.aiosmtpd_adapter.StraightWay."""

    is_open = True

    def take(self, *_message: object) -> None:
        """The general path takes it."""


class OpenWays:
    """listener.aiosmtpd_adapter.StraightWays."""

    is_on = True

    def of_client(self, _listener: str, _client: Client) -> OpenWay:
        return OpenWay()
