"""Thirty lines: the author in From selects the login; each message is sent on its own connection.

A pool would be faster, and is the usual source of errors in such programs; it is left out on purpose.
"""

import asyncio
import email
import ssl
import sys
from email.utils import parseaddr

import aiosmtplib
from aiosmtpd.smtp import SMTP

PORT, UPSTREAM, CA_FILE, SIZE, PASSWORD = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), sys.argv[5]
CONTEXT = ssl.create_default_context(cafile=CA_FILE)


class Handler:
    async def handle_DATA(self, server, session, envelope):  # noqa: N802, ARG002
        author = parseaddr(email.message_from_bytes(envelope.content)["from"])[1]
        try:
            async with aiosmtplib.SMTP(
                hostname="localhost", port=UPSTREAM, use_tls=True, tls_context=CONTEXT, local_hostname="relay.example",
                username=author, password=PASSWORD,
            ) as smtp:  # fmt: skip
                await smtp.sendmail(envelope.mail_from, envelope.rcpt_tos, envelope.content)
        except aiosmtplib.SMTPException as error:
            return f"451 {error}".splitlines()[0]
        return "250 OK"


async def main() -> None:
    loop = asyncio.get_running_loop()
    await loop.create_server(lambda: SMTP(Handler(), data_size_limit=SIZE, loop=loop), "127.0.0.1", PORT, backlog=1024)
    await asyncio.Event().wait()


asyncio.run(main())
