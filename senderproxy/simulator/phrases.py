"""What a provider's submission server says, word for word, by kind of provider.

Guarantees: IONOS holds the replies that were recorded from the United Internet platform (IONOS, GMX, WEB.DE, mail.com);
the lines marked "likely" below were not, and are what the platform's other lines and RFC 5321 suggest.
Not here: when which is said (simulator.rules, simulator.dialogue).
RFC 5321 section 4.2.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Answer:
    """One reply: its code and its lines, as they go over the wire."""

    code: int
    lines: tuple[str, ...]

    def __post_init__(self) -> None:
        if not 200 <= self.code <= 599 or not self.lines:
            raise ValueError(f"not a reply: {self.code} with {len(self.lines)} lines")
        if any("\r" in line or "\n" in line for line in self.lines):
            raise ValueError("a reply's line holds a line end; say it with script.Raw if it is meant")

    @property
    def positive(self) -> bool:
        """Whether the command was taken, or the next step is awaited."""
        return self.code < 400

    def fill(self, **values: str) -> "Answer":
        """The same reply with `{names}` replaced."""
        return Answer(self.code, tuple(line.format(**values) for line in self.lines))

    def render(self) -> bytes:
        """The octets: every line but the last with a hyphen after the code."""
        *first, last = self.lines
        text = "".join(f"{self.code}-{line}\r\n" for line in first) + f"{self.code} {last}\r\n"
        return text.encode("utf-8", "surrogateescape")

    def __str__(self) -> str:
        return " / ".join(f"{self.code} {line}" for line in self.lines)


def answer(code: int, *lines: str) -> Answer:
    """Shorthand, for scripts and tables."""
    return Answer(code, lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class Phrases:
    """One kind of provider's words. In braces: host, ehlo, peer, login, path, recipient, id."""

    banner: Answer
    hello: Answer
    go_ahead_with_tls: Answer
    logged_in: Answer
    bad_credentials: Answer
    login_needed: Answer
    tls_needed: Answer
    path_taken: Answer
    path_refused: Answer
    header_from_refused: Answer
    recipient_taken: Answer
    too_many_recipients: Answer
    send_limit: Answer
    session_limit: Answer
    start_input: Answer
    policy: Answer
    too_large: Answer
    taken: Answer
    fine: Answer
    bye: Answer
    bad_sequence: Answer
    bad_syntax: Answer
    unknown_parameter: Answer
    unknown_command: Answer
    idle: Answer


IONOS: Final = Phrases(
    banner=answer(220, "{host} (mreue001) Nemesis ESMTP Service ready"),
    hello=answer(250, "{host} Hello {ehlo} [{peer}]"),
    go_ahead_with_tls=answer(220, "OK"),  # likely
    logged_in=answer(235, "Authentication succeeded"),  # likely
    bad_credentials=answer(535, "Authentication credentials invalid"),
    login_needed=answer(530, "Authentication required"),
    tls_needed=answer(530, "Must issue a STARTTLS command first"),  # likely
    path_taken=answer(250, "Requested mail action okay, completed"),
    path_refused=answer(550, "Requested action not taken: mailbox unavailable", "Sender address is not allowed."),
    header_from_refused=answer(
        550, "Requested action not taken: mailbox unavailable", "Sender address is not allowed."
    ),
    recipient_taken=answer(250, "OK"),
    too_many_recipients=answer(452, "Too many recipients"),  # likely; that 200 is the limit was recorded
    send_limit=answer(450, "Requested mail action not taken: mailbox unavailable", "Mail send limit exceeded."),
    session_limit=answer(451, "Requested action aborted", "Mails per session limit"),
    start_input=answer(354, "Start mail input; end with <CRLF>.<CRLF>"),
    policy=answer(
        554,
        "Transaction failed",
        "Reject due to policy restrictions.",
        "For explanation visit https://www.ionos.com/help/index.php?id=2425&ip={peer}&c=hd",
    ),
    too_large=answer(552, "Requested mail action aborted: exceeded storage allocation", "Message too large"),  # likely
    taken=answer(250, "Requested mail action okay, completed: id={id}"),
    fine=answer(250, "OK"),
    bye=answer(221, "{host} Service closing transmission channel"),
    bad_sequence=answer(503, "Bad sequence of commands"),
    bad_syntax=answer(501, "Syntax error in parameters or arguments"),
    unknown_parameter=answer(555, "MAIL FROM/RCPT TO parameters not recognized or not implemented"),  # likely
    unknown_command=answer(500, "Syntax error, command unrecognized"),  # likely
    idle=answer(421, "{host} Service closing transmission channel"),  # likely
)

# A hoster's Postfix with smtpd_sender_login_maps, smtpd_delay_reject left at "yes": refused at RCPT TO.
POSTFIX: Final = Phrases(
    banner=answer(220, "{host} ESMTP Postfix"),
    hello=answer(250, "{host}"),
    go_ahead_with_tls=answer(220, "2.0.0 Ready to start TLS"),
    logged_in=answer(235, "2.7.0 Authentication successful"),
    bad_credentials=answer(535, "5.7.8 Error: authentication failed: (reason unavailable)"),
    login_needed=answer(554, "5.7.1 <{recipient}>: Relay access denied"),
    tls_needed=answer(530, "5.7.0 Must issue a STARTTLS command first"),
    path_taken=answer(250, "2.1.0 Ok"),
    path_refused=answer(553, "5.7.1 <{path}>: Sender address rejected: not owned by user {login}"),
    header_from_refused=answer(
        550, "5.7.0 Sender or From header address rejected: not owned by authorized user: {path}"
    ),
    recipient_taken=answer(250, "2.1.5 Ok"),
    too_many_recipients=answer(452, "4.5.3 Error: too many recipients"),
    send_limit=answer(450, "4.7.1 Error: too many recipients from {login}"),
    session_limit=answer(421, "4.7.0 {host} Error: too many messages in one session"),
    start_input=answer(354, "End data with <CR><LF>.<CR><LF>"),
    policy=answer(550, "5.6.0 Message header refused"),
    too_large=answer(552, "5.3.4 Message size exceeds fixed limit"),
    taken=answer(250, "2.0.0 Ok: queued as {id}"),
    fine=answer(250, "2.0.0 Ok"),
    bye=answer(221, "2.0.0 Bye"),
    bad_sequence=answer(503, "5.5.1 Error: command out of sequence"),
    bad_syntax=answer(501, "5.5.4 Syntax error"),
    unknown_parameter=answer(555, "5.5.4 Unsupported option"),
    unknown_command=answer(502, "5.5.2 Error: command not recognized"),
    idle=answer(421, "4.4.2 {host} Error: timeout exceeded"),
)

# Microsoft 365: the header From is checked, at the end of DATA.
EXCHANGE_ONLINE: Final = Phrases(
    banner=answer(220, "{host} Microsoft ESMTP MAIL Service ready"),
    hello=answer(250, "{host} Hello [{peer}]"),
    go_ahead_with_tls=answer(220, "2.0.0 SMTP server ready"),
    logged_in=answer(235, "2.7.0 Authentication successful"),
    bad_credentials=answer(535, "5.7.3 Authentication unsuccessful"),
    login_needed=answer(530, "5.7.57 Client was not authenticated to send anonymous mail during MAIL FROM"),
    tls_needed=answer(451, "5.7.3 STARTTLS is required to send mail"),
    path_taken=answer(250, "2.1.0 Sender OK"),
    path_refused=answer(550, "5.7.60 SMTP; Client does not have permissions to send as this sender"),
    header_from_refused=answer(
        554,
        "5.2.252 SendAsDenied; {login} not allowed to send as {path};"
        " STOREDRV.Submission.Exception:SendAsDeniedException.MapiExceptionSendAsDenied",
    ),
    recipient_taken=answer(250, "2.1.5 Recipient OK"),
    too_many_recipients=answer(452, "4.5.3 Too many recipients"),
    send_limit=answer(
        554, "5.2.0 STOREDRV.Submission.Exception:SubmissionQuotaExceededException.MapiExceptionSubmissionQuotaExceeded"
    ),
    session_limit=answer(432, "4.3.2 STOREDRV.ClientSubmit; sender thread limit exceeded"),
    start_input=answer(354, "Start mail input; end with <CRLF>.<CRLF>"),
    policy=answer(550, "5.6.0 Message header refused"),
    too_large=answer(552, "5.3.4 Message size exceeds fixed maximum message size"),
    taken=answer(250, "2.0.0 OK <{id}@{host}> [Hostname={host}]"),
    fine=answer(250, "2.0.0 OK"),
    bye=answer(221, "2.0.0 Service closing transmission channel"),
    bad_sequence=answer(503, "5.5.1 Bad sequence of commands"),
    bad_syntax=answer(501, "5.5.4 Invalid arguments"),
    unknown_parameter=answer(501, "5.5.4 Unrecognized parameter"),
    unknown_command=answer(500, "5.3.3 Unrecognized command"),
    idle=answer(421, "4.4.1 Connection timed out"),
)

# What IONOS says about recipients; for SimulatorSettings.recipient_answers.
UNKNOWN_USER: Final = answer(550, "Unknown User")
QUOTA_EXCEEDED: Final = answer(550, "Quota Exceeded")
NO_SUCH_MAIL_DOMAIN: Final = answer(
    550, "Requested action not taken: mailbox unavailable", "invalid DNS MX or A/AAAA resource record"
)
SEND_LIMIT: Final = IONOS.send_limit
LOCAL_ERROR: Final = answer(451, "Requested action aborted: local error in processing")
