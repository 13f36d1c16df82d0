"""The questions of `senderproxy setup` on a terminal.

Guarantees: a question is asked only if no option answers it. An answer that cannot be used is explained and asked for
again; no answer ends the dialogue. Nothing is written here; each login is tried while its password is asked for.
Not here: the asking (cli.questions), passwords and logins (cli.setup_logins), single values (cli.setup_values), the
changes that follow (cli.setup_plan).
"""

from dataclasses import replace
from pathlib import Path

from senderproxy.cli.account_table import print_rows, read_accounts
from senderproxy.cli.common import typed_address
from senderproxy.cli.errors import UsageError
from senderproxy.cli.questions import ask, existing_file, explain, not_empty, yes_or_no
from senderproxy.cli.setup_answers import (
    NO_TEST_MESSAGE,
    Answers,
    MailboxAnswer,
    require_single_mailboxes,
)
from senderproxy.cli.setup_files import SetupPaths
from senderproxy.cli.setup_logins import ask_password, try_or_choose
from senderproxy.cli.setup_plan import (
    Existing,
    account_of,
    accounts_of_rows,
    config_text,
    current_clients,
    provider_of_answers,
    require_consistent,
    usual_listen_address,
)
from senderproxy.cli.setup_service import is_running
from senderproxy.cli.setup_values import (
    DEFAULT_PORT,
    ProviderChoice,
    choose_provider,
    clients_of,
    listen_address,
    own_address_for,
    proposed_preset,
    require_free,
)
from senderproxy.cli.terminal import (
    print_paragraph,
)
from senderproxy.config.load import parse_config
from senderproxy.config.model import Config
from senderproxy.config.values import split_address
from senderproxy.errors import SenderproxyError
from senderproxy.mail.address import Address, AddressPattern
from senderproxy.routing.provider import SenderRule
from senderproxy.routing.provider_names import preset_names, preset_of_mail_servers
from senderproxy.translation import _


def ask_missing(given: Answers, existing: Existing, paths: SetupPaths) -> Answers:
    """Ask for all missing answers; returns complete ones, with logins tried."""
    dialogue = _Dialogue(given, existing, paths)
    dialogue.require_valid_options()
    dialogue.ask_mailboxes()
    dialogue.ask_provider()
    dialogue.ask_passwords()
    dialogue.ask_whole_domains()
    dialogue.ask_network()
    dialogue.ask_test_message()
    dialogue.ask_alerts()
    return dialogue.answers


class _Dialogue:
    """The answers so far. One attribute for each part of the dialogue, one method for each question."""

    def __init__(self, given: Answers, existing: Existing, paths: SetupPaths) -> None:
        self.answers = self._given = given
        self._existing = existing
        self._paths = paths
        self._untested = not given.verify  # True: the operator goes on although the provider cannot be reached

    def require_valid_options(self) -> None:
        """Raise SenderproxyError for options that are wrong in any dialogue: a question could not correct them."""
        clients_of(self._given.allow or ())
        if self._given.listen is not None:
            self._free_address(self._given.listen)
        self._parsed(replace(self._given, allow=None, listen=None))

    # ---- mailboxes ----

    def ask_mailboxes(self) -> None:
        """One mailbox, several, or a table; those of the installation need no new answer."""
        if self.answers.mailboxes or self.answers.table:
            return
        there = ", ".join(str(stored.account.address) for stored in self._existing.stored.values())
        print_paragraph(
            _(
                "1. The mailboxes at your provider that send mail. Type one address, several with blanks between them,"
                " or the path of a table (CSV) with login and password of each."
            )
        )
        if there:
            print_paragraph(_("There are already: {addresses}. Press Enter to add none.").format(addresses=there))
        self.answers = ask(_("Mailboxes"), self._with_mailboxes, default="" if there else None)

    def _with_mailboxes(self, text: str) -> Answers:
        if not text:
            return self.answers
        words = text.replace(",", " ").replace(";", " ").split()
        path = Path(text.strip().strip("\"'")).expanduser()
        if path.is_file() or not any("@" in word for word in words):
            self._require_table(path)
            return replace(self.answers, table=path)
        mailboxes = tuple(MailboxAnswer(typed_address(word)) for word in words)
        require_single_mailboxes(mailboxes)
        return replace(self.answers, mailboxes=mailboxes)

    @staticmethod
    def _require_table(path: Path) -> None:
        if not path.is_file():
            raise UsageError(
                _("{text} is no mail address, and there is no such file.").format(text=path),
                hint=_("Type an address such as info@firma.example, or the path of a table."),
            )

    # ---- provider ----

    def ask_provider(self) -> None:
        """The provider of the mailboxes, proposed by the MX records of their domain."""
        answers = self.answers
        if answers.provider or answers.host or not (answers.mailboxes or answers.table):
            return
        if answers.mailboxes and all(self._existing.find(mailbox.address) for mailbox in answers.mailboxes):
            return
        domain = answers.mailboxes[0].address.domain if answers.mailboxes else ""
        proposed = proposed_preset(domain) if domain else None
        print()
        print_paragraph(
            _(
                "2. Your mail provider. Type its name ({names}), or for any other the name of its submission server"
                " (SMTP server), such as smtp.hoster.example."
            ).format(names=", ".join(["ionos", *(name for name in preset_names() if "ionos" not in name)]))
        )
        if proposed:
            known = preset_of_mail_servers([domain]) is not None
            text = _("{domain} belongs to {provider}.") if known else _("The MX records of {domain} say: {provider}.")
            print_paragraph(text.format(domain=domain, provider=proposed))
        self.answers = ask(
            _("Provider"), lambda text: self._with_provider(choose_provider(text, domain, lambda: proposed)), proposed
        )

    def _with_provider(self, choice: ProviderChoice) -> Answers:
        return replace(
            self.answers,
            provider=choice.name,
            host=choice.host,
            port=choice.port or self._given.port,
            security=choice.security or self._given.security,
        )

    # ---- passwords and logins ----

    def ask_passwords(self) -> None:
        """The password of each mailbox, tried at once; of a table, the logins of its rows."""
        if self.answers.table is not None:
            self._ask_for_valid_table()
        if self.answers.mailboxes:
            print()
            print_paragraph(_("The passwords of the mailboxes. They are not shown, and are stored encrypted."))
        tested = [self._with_password(mailbox) for mailbox in self.answers.mailboxes]
        self.answers = replace(self.answers, mailboxes=tuple(tested))

    def _with_password(self, mailbox: MailboxAnswer) -> MailboxAnswer:
        """The mailbox with a working password, or as the operator keeps it without one."""
        before = self._existing.find(mailbox.address)
        if mailbox.secret is None and before is not None:
            print_paragraph(_("{address}: the stored password stays.").format(address=mailbox.address))
            print_paragraph(_("To change it: senderproxy account set-password {id}").format(id=before.account.id))
        while True:
            if mailbox.secret is None and before is None:
                mailbox = replace(mailbox, secret=ask_password(mailbox, tested=not self._untested))
            config = self._config()
            stored = account_of(mailbox, config, provider_of_answers(self.answers, self._existing), self._existing)
            if self._untested or stored == before:
                return mailbox
            action, unreachable = try_or_choose(config, stored)
            match action:
                case "" | "k":
                    self._untested = action == "k" and unreachable
                    return mailbox
                case "u":
                    mailbox = replace(mailbox, login=ask(_("User name"), not_empty, default=stored.account.login))
                case "s":
                    self._ask_for_other_server(mailbox.address.domain)
                case "r":
                    pass
                case _password:
                    mailbox = replace(mailbox, secret=ask_password(mailbox, tested=not self._untested))

    def _ask_for_other_server(self, domain: str) -> None:
        def with_choice(text: str) -> Answers:
            return self._with_provider(choose_provider(text, domain, lambda: proposed_preset(domain)))

        current = provider_of_answers(self.answers, self._existing)
        print_paragraph(_("A name such as gmx, or a server such as smtp.hoster.example:587 starttls."))
        shown = None if current is None else current.host or current.name
        self.answers = ask(_("Provider"), with_choice, default=shown)

    def _ask_for_valid_table(self) -> None:
        """The table, until all of its rows are valid and their logins work."""
        while True:
            path = self.answers.table
            assert path is not None
            try:
                choice = provider_of_answers(self.answers, self._existing)
                rows = read_accounts(
                    self._config(),
                    path,
                    choice.name if choice else None,
                    self._existing.accounts,
                    verify=not self._untested,
                )
                print_rows(rows)
                require_consistent(accounts_of_rows(rows, path), self._existing)
            except SenderproxyError as error:
                explain(error.message, error.hint)
            else:
                return
            print_paragraph(_("Correct the table, then press Enter; or type the path of another one."))
            self.answers = replace(self.answers, table=ask(_("Table"), existing_file, default=str(path)))

    def _config(self) -> Config:
        """The configuration with the provider's settings, for logins."""
        return self._parsed(replace(self.answers, allow=None, listen=None))

    def _parsed(self, answers: Answers) -> Config:
        choice = provider_of_answers(answers, self._existing)
        return parse_config(self._paths.config, config_text(answers, choice, self._existing, self._paths))

    def ask_whole_domains(self) -> None:
        """Let the first mailbox of each domain carry all its addresses, where the provider accepts them."""
        asked: set[str] = set()
        config = self._config()
        choice = provider_of_answers(self.answers, self._existing)
        mailboxes: list[MailboxAnswer] = []
        for mailbox in self.answers.mailboxes:
            mailboxes.append(mailbox)
            domain = mailbox.address.domain
            stored = account_of(mailbox, config, choice, self._existing)
            provider = config.provider_table()[stored.account.provider]
            taken = any(
                AddressPattern(None, domain) in other.account.carries for other in self._existing.stored.values()
            )
            if (
                mailbox.catch_all is not None
                or provider.sender_rule is not SenderRule.DOMAIN
                or domain in asked
                or taken
            ):
                continue
            asked.add(domain)
            print()
            text = _("{provider} lets {address} send as every address of {domain}.")
            print_paragraph(text.format(provider=provider.name, address=mailbox.address, domain=domain))
            yes = ask(
                _("Send all mail of {domain} with it?").format(domain=domain) + " [Y/n]",
                yes_or_no,
                default="",
                show=False,
            )
            mailboxes[-1] = replace(mailbox, catch_all=yes)
        self.answers = replace(self.answers, mailboxes=tuple(mailboxes))

    # ---- network ----

    def ask_network(self) -> None:
        """Mail server and scanners, and the address to listen on, until both fit together."""
        ask_clients, ask_listen = self.answers.allow is None, self.answers.listen is None
        while True:
            if ask_clients:
                self._ask_clients()
            if ask_listen:
                self._ask_listen()
            try:
                self._parsed(self.answers)
            except SenderproxyError as error:
                explain(error.message, error.hint)
                ask_clients = ask_listen = True
                self.answers = replace(self.answers, allow=None, listen=None)
            else:
                return

    def _ask_clients(self) -> None:
        print()
        print_paragraph(
            _(
                "3. Where your mail server and your scanners are: their IP addresses with blanks between them; a whole"
                " network as 192.168.1.0/24. Press Enter if all mail comes from this machine itself."
            )
        )
        config = self._existing.config
        current = " ".join(current_clients(config)) if config else ""
        if current:
            print_paragraph(_("Until now: {addresses}. Press Enter to keep them.").format(addresses=current))
        allow = ask(_("IP addresses"), lambda text: clients_of(text.replace(",", " ").split()), default=current)
        self.answers = replace(self.answers, allow=allow)

    def _ask_listen(self) -> None:
        default = usual_listen_address(clients_of(self.answers.allow or ()), self._existing.config)
        print()
        print_paragraph(
            _(
                "4. The address and port of this machine where senderproxy waits for their mail. Usually the proposal"
                " is right: press Enter."
            )
        )
        self.answers = replace(self.answers, listen=ask(_("Address to listen on"), self._free_address, default=default))

    def _free_address(self, text: str) -> str:
        config = self._existing.config
        clients = clients_of(self.answers.allow or ())
        address = listen_address(text, own_address_for(clients))
        if split_address(address)[1] == 0:
            text = _("listen: port 0 is any free port, and your mail server needs a certain one.")
            raise UsageError(text, hint=_("Name one, such as {port}.").format(port=DEFAULT_PORT))
        own = {listener.address for listener in config.listeners} if config is not None else set()
        if config is not None and address in own and is_running(config):
            return address  # the service itself listens there
        require_free(address)
        return address

    # ---- test message ----

    def ask_test_message(self) -> None:
        """The recipient of a test message."""
        if self.answers.test_to is not None or self.answers.no_test:
            return
        first = next(iter(self.answers.mailboxes), None)
        stored = next(iter(self._existing.stored.values()), None)
        default = str(first.address) if first else str(stored.account.address) if stored else NO_TEST_MESSAGE
        print()
        print_paragraph(
            _(
                "5. At the end a test message is sent through the running service. To which address? Best one outside"
                " your office; {none} sends no message."
            ).format(none=NO_TEST_MESSAGE)
        )
        self.answers = ask(_("Test message to"), self._with_test_message, default=default)

    def _with_test_message(self, text: str) -> Answers:
        if text == NO_TEST_MESSAGE:
            return replace(self.answers, no_test=True)
        return replace(self.answers, test_to=typed_address(text))

    # ---- alerts ----

    def ask_alerts(self) -> None:
        """The recipients of alerts; none need be named."""
        config = self._existing.config
        if self.answers.alerts_to is not None or (config is not None and config.alerts.to):
            return
        print()
        print_paragraph(
            _(
                "6. senderproxy can write a mail when something needs you, such as a refused password, and when it is"
                " over. To which address? Best one at another provider; several with blanks between them; {none} sends"
                " no alerts."
            ).format(none=NO_TEST_MESSAGE)
        )
        self.answers = ask(_("Alerts to"), self._with_alerts, default=NO_TEST_MESSAGE)

    def _with_alerts(self, text: str) -> Answers:
        if text == NO_TEST_MESSAGE:
            return self.answers
        words = text.replace(",", " ").replace(";", " ").split()
        return replace(self.answers, alerts_to=tuple(str(typed_address(word)) for word in words))


def ask_test_recipient() -> Address | None:
    """Another recipient after a refused test message; None: no further one."""

    def read(text: str) -> Address | None:
        return None if text == NO_TEST_MESSAGE else typed_address(text)

    return ask(_("Test message to ({none}: no more)").format(none=NO_TEST_MESSAGE), read, default=None)
