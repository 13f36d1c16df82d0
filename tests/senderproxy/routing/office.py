"""Accounts of an example office, as values."""

from senderproxy.mail.address import NULL_PATH, ReversePath, parse_address, parse_pattern
from senderproxy.mail.author import AuthorFields, Mailbox
from senderproxy.routing.account import Account
from senderproxy.routing.directory import AccountDirectory
from senderproxy.routing.presets import PRESETS
from senderproxy.routing.provider import Provider, Security, Smarthost


def account(account_id: str, address: str, *more: str, provider: str = "ionos-de") -> Account:
    """An account with its own address and further ones."""
    carries = tuple(parse_pattern(text) for text in (address, *more))
    return Account(account_id, address, provider, parse_address(address), carries)


ANNA = account("anna", "anna@firma.example", "info@firma.example", "sales+eu@firma.example")
BERT = account("bert", "Bert@Firma.Example")
SHOP = account("shop", "post@laden.example", "@laden.example")
IDN = account("idn", "post@büro.example", "@büro.example")
DORA = account("dora", "dora@verein.example", provider="hoster")
LOST = account("lost", "lost@lost.example", provider="ionso-de")

OFFICE = AccountDirectory((ANNA, BERT, SHOP, IDN, DORA, LOST))
HOSTER = Provider("hoster", (Smarthost("smtp.hoster.example", 465, Security.IMPLICIT_TLS),))
PROVIDERS = {**PRESETS, "hoster": HOSTER}


def path(text: str) -> ReversePath:
    return parse_address(text) if text else NULL_PATH


def authors(from_: str = "", sender: str = "", resent_from: str = "") -> AuthorFields:
    """Author fields from text; several mailboxes are separated by blanks."""
    boxes = [tuple(Mailbox(parse_address(text)) for text in field.split()) for field in (from_, sender, resent_from)]
    return AuthorFields(boxes[0], boxes[1][0] if boxes[1] else None, boxes[2])
