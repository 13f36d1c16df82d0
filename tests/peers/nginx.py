"""nginx with TLS, before a server without."""

import contextlib
from collections.abc import Iterator
from typing import Final

from tests.peers.certificates import Authority, Certificate
from tests.peers.packages import NGINX
from tests.peers.process import LOOPBACK, Program, listens, private_folder

_CONFIGURATION: Final = """\
daemon off;
master_process off;
pid {folder}/pid;
error_log stderr warn;
events {{ }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{
    listen {host}:{port} ssl;
    ssl_certificate {certificate.chain};
    ssl_certificate_key {certificate.key};
    {location}
  }}
}}
"""


@contextlib.contextmanager
def running_nginx(port: int, location: str) -> Iterator[Authority]:
    """nginx on a port of loopback; `location`: its block. Yields the authority of its certificate."""
    with private_folder("nginx") as folder:
        authority = Authority(folder)
        certificate: Certificate = authority.issue(LOOPBACK)
        file = folder / "nginx.conf"
        text = _CONFIGURATION.format(
            folder=folder, host=LOOPBACK, port=port, certificate=certificate, location=location
        )
        file.write_text(text, encoding="utf-8")
        program = Program("nginx", [NGINX, "-p", folder, "-e", "stderr", "-c", file], folder / "nginx.log")
        try:
            program.wait_until(lambda: listens(port), "nginx listens")
            yield authority
        finally:
            program.end()
