"""Replies of submission servers, word for word, for each kind of provider.

Guarantees: IONOS has the replies that were recorded from the United Internet platform (IONOS, GMX, WEB.DE, mail.com).
Those marked "likely" were not recorded; they follow the other replies of the platform and RFC 5321.

Not here: the choice of a reply (simulator.session, simulator.mail_commands).

RFC 5321 section 4.2.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class ServerReply:
    """One reply: code and lines, as sent."""

    code: int
    lines: tuple[str, ...]

    def __post_init__(self) -> None:
        if not 200 <= self.code <= 599 or not self.lines:
            raise ValueError(f"not a reply: {self.code} with {len(self.lines)} lines")
        if any("\r" in line or "\n" in line for line in self.lines):
            raise ValueError("a line of a reply contains a line end; use faults.RawOctets to send one")

    @property
    def positive(self) -> bool:
        """True for 2xx and 3xx."""
        return self.code < 400

    def fill(self, **values: str) -> "ServerReply":
        """The same reply with `{names}` replaced."""
        return ServerReply(self.code, tuple(line.format(**values) for line in self.lines))

    def render(self) -> bytes:
        """The octets to send: all lines but the last have a hyphen after the code."""
        *first, last = self.lines
        text = "".join(f"{self.code}-{line}\r\n" for line in first) + f"{self.code} {last}\r\n"
        return text.encode("utf-8", "surrogateescape")

    def __str__(self) -> str:
        return " / ".join(f"{self.code} {line}" for line in self.lines)


def server_reply(code: int, *lines: str) -> ServerReply:
    """Shorthand for a ServerReply."""
    return ServerReply(code, lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderReplies:
    """Replies of one kind of provider. Placeholders: host, ehlo, peer, login, path, recipient, id.

    One attribute for each reply.
    """

    banner: ServerReply
    ehlo: ServerReply
    starttls_ready: ServerReply
    auth_accepted: ServerReply
    auth_rejected: ServerReply
    auth_required: ServerReply
    tls_required: ServerReply
    reverse_path_accepted: ServerReply
    reverse_path_refused: ServerReply
    header_from_refused: ServerReply
    recipient_accepted: ServerReply
    too_many_recipients: ServerReply
    send_limit: ServerReply
    session_limit: ServerReply
    data_ready: ServerReply
    policy_refused: ServerReply
    message_too_large: ServerReply
    message_accepted: ServerReply
    ok: ServerReply
    quit: ServerReply
    bad_sequence: ServerReply
    syntax_error: ServerReply
    unknown_parameter: ServerReply
    unknown_command: ServerReply
    idle_timeout: ServerReply


IONOS: Final = ProviderReplies(
    banner=server_reply(220, "{host} (mreue001) Nemesis ESMTP Service ready"),
    ehlo=server_reply(250, "{host} Hello {ehlo} [{peer}]"),
    starttls_ready=server_reply(220, "OK"),  # likely
    auth_accepted=server_reply(235, "Authentication succeeded"),  # likely
    auth_rejected=server_reply(535, "Authentication credentials invalid"),
    auth_required=server_reply(530, "Authentication required"),
    tls_required=server_reply(530, "Must issue a STARTTLS command first"),  # likely
    reverse_path_accepted=server_reply(250, "Requested mail action okay, completed"),
    reverse_path_refused=server_reply(
        550, "Requested action not taken: mailbox unavailable", "Sender address is not allowed."
    ),
    header_from_refused=server_reply(
        550, "Requested action not taken: mailbox unavailable", "Sender address is not allowed."
    ),
    recipient_accepted=server_reply(250, "OK"),
    too_many_recipients=server_reply(452, "Too many recipients"),  # likely; that 200 is the limit was recorded
    send_limit=server_reply(450, "Requested mail action not taken: mailbox unavailable", "Mail send limit exceeded."),
    session_limit=server_reply(451, "Requested action aborted", "Mails per session limit"),
    data_ready=server_reply(354, "Start mail input; end with <CRLF>.<CRLF>"),
    policy_refused=server_reply(
        554,
        "Transaction failed",
        "Reject due to policy restrictions.",
        "For explanation visit https://www.ionos.com/help/index.php?id=2425&ip={peer}&c=hd",
    ),
    message_too_large=server_reply(
        552, "Requested mail action aborted: exceeded storage allocation", "Message too large"
    ),  # likely
    message_accepted=server_reply(250, "Requested mail action okay, completed: id={id}"),
    ok=server_reply(250, "OK"),
    quit=server_reply(221, "{host} Service closing transmission channel"),
    bad_sequence=server_reply(503, "Bad sequence of commands"),
    syntax_error=server_reply(501, "Syntax error in parameters or arguments"),
    unknown_parameter=server_reply(555, "MAIL FROM/RCPT TO parameters not recognized or not implemented"),  # likely
    unknown_command=server_reply(500, "Syntax error, command unrecognized"),  # likely
    idle_timeout=server_reply(421, "{host} Service closing transmission channel"),  # likely
)

# Postfix with smtpd_sender_login_maps and the default smtpd_delay_reject=yes: refused at RCPT TO.
POSTFIX: Final = ProviderReplies(
    banner=server_reply(220, "{host} ESMTP Postfix"),
    ehlo=server_reply(250, "{host}"),
    starttls_ready=server_reply(220, "2.0.0 Ready to start TLS"),
    auth_accepted=server_reply(235, "2.7.0 Authentication successful"),
    auth_rejected=server_reply(535, "5.7.8 Error: authentication failed: (reason unavailable)"),
    auth_required=server_reply(554, "5.7.1 <{recipient}>: Relay access denied"),
    tls_required=server_reply(530, "5.7.0 Must issue a STARTTLS command first"),
    reverse_path_accepted=server_reply(250, "2.1.0 Ok"),
    reverse_path_refused=server_reply(553, "5.7.1 <{path}>: Sender address rejected: not owned by user {login}"),
    header_from_refused=server_reply(
        550, "5.7.0 Sender or From header address rejected: not owned by authorized user: {path}"
    ),
    recipient_accepted=server_reply(250, "2.1.5 Ok"),
    too_many_recipients=server_reply(452, "4.5.3 Error: too many recipients"),
    send_limit=server_reply(450, "4.7.1 Error: too many recipients from {login}"),
    session_limit=server_reply(421, "4.7.0 {host} Error: too many messages in one session"),
    data_ready=server_reply(354, "End data with <CR><LF>.<CR><LF>"),
    policy_refused=server_reply(550, "5.6.0 Message header refused"),
    message_too_large=server_reply(552, "5.3.4 Message size exceeds fixed limit"),
    message_accepted=server_reply(250, "2.0.0 Ok: queued as {id}"),
    ok=server_reply(250, "2.0.0 Ok"),
    quit=server_reply(221, "2.0.0 Bye"),
    bad_sequence=server_reply(503, "5.5.1 Error: command out of sequence"),
    syntax_error=server_reply(501, "5.5.4 Syntax error"),
    unknown_parameter=server_reply(555, "5.5.4 Unsupported option"),
    unknown_command=server_reply(502, "5.5.2 Error: command not recognized"),
    idle_timeout=server_reply(421, "4.4.2 {host} Error: timeout exceeded"),
)

# Microsoft 365: the header From is checked at the end of DATA.
EXCHANGE_ONLINE: Final = ProviderReplies(
    banner=server_reply(220, "{host} Microsoft ESMTP MAIL Service ready"),
    ehlo=server_reply(250, "{host} Hello [{peer}]"),
    starttls_ready=server_reply(220, "2.0.0 SMTP server ready"),
    auth_accepted=server_reply(235, "2.7.0 Authentication successful"),
    auth_rejected=server_reply(535, "5.7.3 Authentication unsuccessful"),
    auth_required=server_reply(530, "5.7.57 Client was not authenticated to send anonymous mail during MAIL FROM"),
    tls_required=server_reply(451, "5.7.3 STARTTLS is required to send mail"),
    reverse_path_accepted=server_reply(250, "2.1.0 Sender OK"),
    reverse_path_refused=server_reply(550, "5.7.60 SMTP; Client does not have permissions to send as this sender"),
    header_from_refused=server_reply(
        554,
        "5.2.252 SendAsDenied; {login} not allowed to send as {path};"
        " STOREDRV.Submission.Exception:SendAsDeniedException.MapiExceptionSendAsDenied",
    ),
    recipient_accepted=server_reply(250, "2.1.5 Recipient OK"),
    too_many_recipients=server_reply(452, "4.5.3 Too many recipients"),
    send_limit=server_reply(
        554, "5.2.0 STOREDRV.Submission.Exception:SubmissionQuotaExceededException.MapiExceptionSubmissionQuotaExceeded"
    ),
    session_limit=server_reply(432, "4.3.2 STOREDRV.ClientSubmit; sender thread limit exceeded"),
    data_ready=server_reply(354, "Start mail input; end with <CRLF>.<CRLF>"),
    policy_refused=server_reply(550, "5.6.0 Message header refused"),
    message_too_large=server_reply(552, "5.3.4 Message size exceeds fixed maximum message size"),
    message_accepted=server_reply(250, "2.0.0 OK <{id}@{host}> [Hostname={host}]"),
    ok=server_reply(250, "2.0.0 OK"),
    quit=server_reply(221, "2.0.0 Service closing transmission channel"),
    bad_sequence=server_reply(503, "5.5.1 Bad sequence of commands"),
    syntax_error=server_reply(501, "5.5.4 Invalid arguments"),
    unknown_parameter=server_reply(501, "5.5.4 Unrecognized parameter"),
    unknown_command=server_reply(500, "5.3.3 Unrecognized command"),
    idle_timeout=server_reply(421, "4.4.1 Connection timed out"),
)

# Replies of IONOS about recipients, for SimulatorSettings.recipient_replies.
UNKNOWN_USER: Final = server_reply(550, "Unknown User")
QUOTA_EXCEEDED: Final = server_reply(550, "Quota Exceeded")
NO_SUCH_MAIL_DOMAIN: Final = server_reply(
    550, "Requested action not taken: mailbox unavailable", "invalid DNS MX or A/AAAA resource record"
)
SEND_LIMIT: Final = IONOS.send_limit
LOCAL_ERROR: Final = server_reply(451, "Requested action aborted: local error in processing")
