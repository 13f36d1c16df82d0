"""The DNS record of a DKIM key in the shapes that the forms of hosters want.

Guarantees: each text stands on a line of its own and is never folded, so that it can be copied.
"""

from senderproxy.cli.terminal import print_paragraph
from senderproxy.dkim.key import SigningKey
from senderproxy.domain_records.own_key import STRING, record_strings, record_text
from senderproxy.translation import _


def print_record(key: SigningKey) -> None:
    """Print the record: its name with and without the zone, its text in one string and in several."""
    print_paragraph(_("Add this TXT record to the DNS of {domain}:").format(domain=key.domain))
    print()
    _print_part(_("Name, where the form adds the domain by itself (most do):"), f"{key.selector}._domainkey")
    labels = key.domain.split(".")
    if len(labels) > 2:  # the zone may be that of the parent
        zone = ".".join(labels[1:])
        _print_part(_("the same in the zone {zone}:").format(zone=zone), f"{key.selector}._domainkey.{labels[0]}")
    _print_part(_("Name, where the form wants it whole (in zone files with a dot at the end):"), key.name)
    _print_part(_("Value, in one line:"), record_text(key.public))
    _print_part(
        _("Value, where a string may have {count} characters only (zone files):").format(count=STRING),
        " ".join(f'"{string}"' for string in record_strings(key.public)),
    )


def _print_part(heading: str, text: str) -> None:
    print(heading)
    print(f"  {text}")
