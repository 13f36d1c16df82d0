"""Replies of Microsoft and Google to an account that logs in with a token: its state, the fix, and the number of logins."""

from dataclasses import replace

import pytest

from senderproxy.mail.outcome import Deferred, Delivered, Failed
from senderproxy.routing.account import AccessToken
from senderproxy.simulator.faults import Fault, FaultScript, FaultStage, ReplyWith
from senderproxy.simulator.provider_replies import server_reply
from senderproxy.simulator.rules import SimulatedMailbox
from senderproxy.simulator.server import Simulator
from tests.senderproxy.delivery.messages import ANNA, smarthost_of
from tests.senderproxy.delivery.office import office
from tests.senderproxy.delivery.test_access_tokens import TOKENS

ACCEPTED = replace(TOKENS, mailboxes={ANNA: SimulatedMailbox("geheim-token-1")})
SWITCH = "Authenticated SMTP for the mailbox"
VERIFY = "senderproxy account verify anna"

# preset; code and words; logins, the second one with a new token; state and cause; parts of the fix
AT_LOGIN = [
    ("m365", 535, "5.7.3 Authentication unsuccessful", 2, "suspended", "password", ("Add-MailboxPermission", VERIFY)),
    (
        "m365",
        535,
        "5.7.3 Authentication unsuccessful [SN4PR0601CA0002.namprd06.prod.outlook.com]",
        2,
        "suspended",
        "password",
        ("Add-MailboxPermission", f"-Identity {ANNA}", VERIFY),
    ),
    (
        "m365",
        535,
        (
            "5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Tenant. Visit "
            "https://aka.ms/smtp_auth_disabled for more information."
        ),
        1,
        "suspended",
        "smtp-off",
        (SWITCH, "Set-TransportConfig -SmtpClientAuthenticationDisabled $false", VERIFY),
    ),
    (
        "m365",
        535,
        "5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Mailbox.",
        1,
        "suspended",
        "smtp-off",
        (SWITCH, VERIFY),
    ),
    (
        "m365",
        535,
        (
            "5.7.139 Authentication unsuccessful, user is locked by your organization's security defaults policy. Contact "
            "your administrator."
        ),
        1,
        "suspended",
        "smtp-off",
        ("security defaults", VERIFY),
    ),
    (
        "m365",
        535,
        "5.7.139 Authentication unsuccessful, the user credentials were incorrect.",
        2,
        "suspended",
        "password",
        ("Add-MailboxPermission",),
    ),
    ("m365", 501, "5.5.127 Access token is about to expire", 2, "suspended", "password", (VERIFY,)),
    ("m365", 454, "4.7.0 Temporary authentication failure", 1, "paused", "login-server", (VERIFY,)),
    (
        "m365",
        432,
        "4.3.2 Concurrent connections limit exceeded. Visit https://aka.ms/concurrent_sending for more information.",
        1,
        "paused",
        "login-limit",
        (VERIFY,),
    ),
    (
        "gmail",
        535,
        (
            "5.7.8 Username and Password not accepted. For more information, go to 5.7.8 "
            "https://support.google.com/mail/?p=BadCredentials"
        ),
        2,
        "suspended",
        "password",
        ("senderproxy account consent anna",),
    ),
    ("", 535, "5.7.8 Error: authentication failed:", 2, "suspended", "password", ("account consent anna",)),
]


@pytest.mark.parametrize(("preset", "code", "words", "logins", "state", "cause", "fix"), AT_LOGIN)
async def test_a_refused_login_with_a_token(
    preset: str, code: int, words: str, logins: int, state: str, cause: str, fix: tuple[str, ...]
) -> None:
    refusals = Fault(FaultStage.AUTH, ReplyWith(server_reply(code, words)), times=logins)
    async with Simulator(ACCEPTED, FaultScript(refusals)) as simulator, office(smarthost_of(simulator)) as o:
        o.provider = replace(o.provider, preset=preset)
        o.accounts.set_grant("anna", "grant-1")
        o.accounts.tokens["anna"] = o.accounts.renewed["anna"] = AccessToken("geheim-token-1")
        outcome = await o.send_one()
        assert isinstance(outcome, Deferred)
        assert outcome.reply.is_transient
        assert words.split("[")[0].strip(" .") in outcome.reply.text
        assert len(simulator.logins()) == logins
        (entry,) = [entry for entry in o.courier.status({}) if entry.account == "anna"]
        assert (entry.state, entry.cause) == (state, cause)
        for part in fix:
            assert part in entry.hint
            assert part in outcome.reply.text
        assert "set-password" not in entry.hint
        assert isinstance(await o.send_one(), Deferred)
        assert len(simulator.logins()) == logins  # no hammering
        o.courier.resume("anna")
        assert isinstance(await o.send_one(), Delivered)


async def test_microsoft_without_passwords_names_the_way_to_tokens() -> None:
    """The account still has a password."""
    words = "5.7.30 Basic authentication is not supported for Client Submission."
    refusal = Fault(FaultStage.AUTH, ReplyWith(server_reply(550, words)))
    async with (
        Simulator(replace(TOKENS, mechanisms=("LOGIN",)), FaultScript(refusal)) as simulator,
        office(smarthost_of(simulator)) as o,
    ):
        o.provider = replace(o.provider, preset="m365")
        assert isinstance(await o.send_one(), Deferred)
        (entry,) = [entry for entry in o.courier.status({}) if entry.account == "anna"]
        assert (entry.state, entry.cause) == ("suspended", "passwords-off")
        assert "senderproxy oauth add microsoft" in entry.hint
        assert "senderproxy account consent anna --oauth microsoft" in entry.hint


async def test_a_sender_that_the_token_may_not_use_is_refused_at_the_end_and_the_account_goes_on() -> None:
    words = (
        f"5.2.252 SendAsDenied; {ANNA} not allowed to send as office@firma.example; STOREDRV.Submission.Exception:"
        "SendAsDeniedException.MapiExceptionSendAsDenied"
    )
    denied = Fault(FaultStage.DOT, ReplyWith(server_reply(554, words)), times=1)
    async with Simulator(ACCEPTED, FaultScript(denied)) as simulator, office(smarthost_of(simulator)) as o:
        o.provider = replace(o.provider, preset="m365")
        o.accounts.set_grant("anna", "grant-1")
        o.accounts.tokens["anna"] = AccessToken("geheim-token-1")
        outcome = await o.send_one()
        assert isinstance(outcome, Failed)
        assert outcome.refused_sender is not None
        assert "5.2.252 SendAsDenied" in str(outcome.reply)
        assert isinstance(await o.send_one(), Delivered)
        assert len(simulator.logins()) == 1  # on the same session
