"""A certificate of our own, made by the openssl command line."""

import ssl
import subprocess
from pathlib import Path

import msgspec


class Certificate(msgspec.Struct, frozen=True, kw_only=True):
    """A self-signed certificate for `localhost`, which is its own CA."""

    file: str
    key: str

    def server_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.file, self.key)
        return context


def make_certificate(folder: Path) -> Certificate:
    """Make one in this folder. Without openssl on the machine this fails, and so do the tests that need it."""
    file, key = str(folder / "cert.pem"), str(folder / "key.pem")
    request = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    subprocess.run(
        [*request.split(), "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", file],
        check=True,
        capture_output=True,
    )
    return Certificate(file=file, key=key)
