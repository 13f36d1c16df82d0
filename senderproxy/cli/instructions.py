"""What to enter in the mail server, so that its mail comes to senderproxy. PURE.

Exchange: Set-SendConnector and New-SendConnector (learn.microsoft.com/powershell/module/exchange/set-sendconnector);
Postfix: postconf(5) relayhost.
"""

from ipaddress import ip_address
from textwrap import dedent


def what_to_enter(listener_address: str) -> str:
    """The lines for each kind of mail server, with this listener's address in them."""
    host, _, port = listener_address.rpartition(":")
    host = host.strip("[]")
    ip = ip_address(host)
    if ip.is_unspecified:
        host = "ADDRESS-OF-THIS-MACHINE"
    return _TEXT.format(host=host, port=port, postfix=f"[{host}]:{port}") + (_LOCAL if ip.is_loopback else "")


_TEXT = dedent("""\
    What to enter in your mail server
    ---------------------------------
    Exchange (Exchange Management Shell). The send connector that there is:
      Set-SendConnector "NAME" -SmartHosts "[{host}]" -Port {port} -DNSRoutingEnabled $false `
        -SmartHostAuthMechanism None -RequireTLS $false
    or a new one:
      New-SendConnector -Name "senderproxy" -AddressSpaces "SMTP:*;1" -SmartHosts "[{host}]" -Port {port} `
        -DNSRoutingEnabled $false -SmartHostAuthMechanism None -SourceTransportServers $env:COMPUTERNAME

    Postfix (/etc/postfix/main.cf, then: postfix reload)
      relayhost = {postfix}
      smtp_sasl_auth_enable = no

    hMailServer (Settings, Protocols, SMTP, Delivery of e-mail)
      Remote host name {host}, remote TCP/IP port {port}, no authentication, connection security None

    A scanner or printer
      SMTP server {host}, port {port}, no login, no encryption; as the sender an address that has an account here
    """)

_LOCAL = dedent("""\

    senderproxy listens for this machine only. For a mail server or scanner elsewhere change `address` and `allow`
    of the listener in the configuration; only networks named under `allow` get in.
    """)
