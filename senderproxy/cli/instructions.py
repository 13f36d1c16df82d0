"""Settings for the mail server that submits to senderproxy. PURE.

Exchange: Set-SendConnector and New-SendConnector (learn.microsoft.com/powershell/module/exchange/set-sendconnector);
Postfix: postconf(5) relayhost.
"""

from ipaddress import ip_address
from typing import Final

from senderproxy.translation import N_, _


def mail_server_instructions(listener_address: str, own_address: str | None = None) -> str:
    """The settings for each kind of mail server, with the listener's address filled in.

    `own_address`: an address of this machine that the mail server reaches, for a listener on every address.
    """
    host, _colon, port = listener_address.rpartition(":")
    host = host.strip("[]")
    ip = ip_address(host)
    if ip.is_unspecified:
        host = own_address or _("ADDRESS-OF-THIS-MACHINE")
    text = _(_TEXT).format(host=host, port=port, postfix=f"[{host}]:{port}")
    return text + (_(_LOOPBACK_ONLY) if ip.is_loopback else "")


_TEXT: Final = N_("""\
Settings for your mail server
-----------------------------
Exchange (Exchange Management Shell), existing send connector:
  Set-SendConnector "NAME" -SmartHosts "[{host}]" -Port {port} `
    -DNSRoutingEnabled $false -SmartHostAuthMechanism None -RequireTLS $false
or a new one:
  New-SendConnector -Name "senderproxy" -AddressSpaces "SMTP:*;1" `
    -SmartHosts "[{host}]" -Port {port} -DNSRoutingEnabled $false `
    -SmartHostAuthMechanism None -SourceTransportServers $env:COMPUTERNAME

Postfix (/etc/postfix/main.cf, then: postfix reload)
  relayhost = {postfix}
  smtp_sasl_auth_enable = no

hMailServer (Settings, Protocols, SMTP, Delivery of e-mail)
  Remote host name {host}, remote TCP/IP port {port}
  no authentication, connection security None

A scanner or printer
  SMTP server {host}, port {port}, no login, no encryption
  as the sender an address that has an account here
""")

_LOOPBACK_ONLY: Final = N_("""
senderproxy listens on this machine only. For a mail server or a scanner on
another machine, run senderproxy setup again and name its IP address.
""")
