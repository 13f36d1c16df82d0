"""carry_out: the message a plan leaves of the one that came.

Promises: an empty plan leaves the message itself; an edit changes the field it names and no other byte.
"""

from dataclasses import replace

from senderproxy.mail.header import HeaderSection
from senderproxy.mail.message import Message
from senderproxy.rewriting.long_lines import Folded
from senderproxy.rewriting.plan import RewritePlan


def edit_header(plan: RewritePlan, header: HeaderSection) -> HeaderSection:
    """The header section with the plan's edits, one round after the other."""
    for edits in plan.rounds:
        header = header.edited(edits)
    return header


def carry_out(plan: RewritePlan, message: Message) -> Message:
    """The message that leaves."""
    header = edit_header(plan, message.header)
    body = Folded(message.body) if plan.folds_body else message.body
    return message if header is message.header and body is message.body else replace(message, header=header, body=body)
