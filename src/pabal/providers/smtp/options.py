"""What the configuration may say about an SMTP server."""

from typing import Annotated, Literal

import msgspec

from pabal.errors import InvalidAddress
from pabal.providers.options import Options
from pabal.providers.smtp.mailbox import Mailbox, parse_mailbox

Text = Annotated[str, msgspec.Meta(min_length=1, pattern=r"^[^\x00-\x20\x7f]+\Z")]

_DEFAULT_PORTS = {"none": 25, "starttls": 587, "tls": 465}


class SmtpOptions(Options, frozen=True, kw_only=True):
    """The table `[providers.smtp]`.

    `port` defaults to the port that is registered for the kind of `tls` (RFC 6409, RFC 8314): 587 for STARTTLS, 465
    for TLS from the first byte, 25 without TLS. `sender` is what recipients see and what bounces go to.
    `local_hostname` is how we greet the server (EHLO); by default the sender's domain. `ca_file` names PEM
    certificates that are trusted *instead of* the system's, for a private CA. Whether certificates are verified is not
    an option: they are.
    `receipt_secrets` are Standard Webhooks secrets (`whsec_…`, two while rotating) that callbacks are signed with.
    """

    host: Text
    sender: str
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] | None = None
    tls: Literal["none", "starttls", "tls"] = "starttls"
    username: str | None = None
    password: str | None = None
    timeout_seconds: Annotated[float, msgspec.Meta(gt=0, le=300)] = 10.0
    max_connections: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 20
    local_hostname: Text | None = None
    ca_file: str | None = None
    receipt_secrets: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check what concerns two settings at once. Raises ValueError, which `read_options` puts into words."""
        if (self.username is None) != (self.password is None):
            raise ValueError("username and password belong together: one of them is missing")
        if self.ca_file is not None and self.tls == "none":
            raise ValueError('ca_file has no use with tls = "none"')
        for name, value in (("host", self.host), ("local_hostname", self.local_hostname or "")):
            if not value.isascii():
                raise ValueError(f"{name}: write an internationalised name in its xn-- form")
        try:
            parse_mailbox(self.sender)
        except InvalidAddress as error:
            raise ValueError(f"sender: {error}") from None

    def __repr__(self) -> str:
        """Which server, without the password."""
        return f"SmtpOptions({self.server}, tls={self.tls}, sender={self.sender!r})"

    @property
    def server(self) -> str:
        """`host:port`, for people."""
        return f"{self.host}:{self.effective_port}"

    @property
    def effective_port(self) -> int:
        """The port given, or the one registered for this kind of TLS."""
        return self.port or _DEFAULT_PORTS[self.tls]

    @property
    def sender_mailbox(self) -> Mailbox:
        """The sender, parsed."""
        return parse_mailbox(self.sender)
