"""One mailbox as SMTP commands and head fields can carry it. Pure."""

import re
from email.errors import HeaderParseError
from email.header import decode_header, make_header

import msgspec
from email_validator import EmailNotValidError, validate_email

from pabal.errors import InvalidAddress

# RFC 5321 §4.1.2 dot-strings only: neither quoted local parts nor address literals pass `channels/email.py`. What is
# excluded here is everything that could end the address on a command line or in a head field.
_BARE_ADDRESS = re.compile(r'[^\s\x00-\x1f\x7f-\x9f"(),:;<>@\[\\\]]+@[^\s\x00-\x1f\x7f-\x9f"(),:;<>@\[\\\]]+')
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_MAX_ADDRESS = 254  # octets; RFC 5321 §4.5.3.1.3, less the angle brackets


class Mailbox(msgspec.Struct, frozen=True, kw_only=True):
    """Where to: `address` is ASCII where it can be (an internationalised domain in its xn-- form).

    Only a local part beyond ASCII needs SMTPUTF8 (RFC 6531); `name` is what recipients are shown.
    """

    address: str
    name: str = ""

    @property
    def needs_smtputf8(self) -> bool:
        """Whether only a server that offers SMTPUTF8 can carry it."""
        return not self.address.isascii()

    @property
    def domain(self) -> str:
        """The part after the at sign."""
        return self.address.rpartition("@")[2]


def to_mailbox(address: str) -> Mailbox:
    """The mailbox of a bare address. Raises InvalidAddress when no SMTP command can carry it."""
    if not address.isascii():
        try:
            checked = validate_email(address, check_deliverability=False)
        except EmailNotValidError as error:
            raise InvalidAddress(str(error)) from None
        address = checked.ascii_email or f"{checked.local_part}@{checked.ascii_domain}"
    if not _BARE_ADDRESS.fullmatch(address):
        raise InvalidAddress(f"not an address that SMTP can carry: {address[:80]!r}")
    if len(address.encode()) > _MAX_ADDRESS:
        raise InvalidAddress(f"longer than SMTP allows ({_MAX_ADDRESS} octets)")
    return Mailbox(address=address)


def parse_mailbox(text: str) -> Mailbox:
    """Read `Shop <noreply@example.com>`, `"Shop, Inc." <…>` or a bare address. Raises InvalidAddress.

    The name is what recipients are to be shown: quotes and what they escape (RFC 5322 §3.2.4), and encoded words
    (RFC 2047) are resolved. Parentheses stay: they were written into the name to be seen.
    """
    name, bracket, rest = text.rpartition("<")
    address = rest.strip()
    if bracket:
        if not address.endswith(">"):
            raise InvalidAddress(f"expected `Name <address>` or an address, got {text[:80]!r}")
        address = address[:-1].strip()
    name = _shown_name(name.strip())
    if any(ord(character) < 0x20 or 0x7F <= ord(character) <= 0x9F for character in name):
        raise InvalidAddress("the name holds a control character")
    try:
        validate_email(address, check_deliverability=False)
    except EmailNotValidError as error:
        raise InvalidAddress(str(error)) from None
    return msgspec.structs.replace(to_mailbox(address), name=name)


def _shown_name(written: str) -> str:
    """A display name without the way it is written. Raises InvalidAddress."""
    parts = _QUOTED.split(written)
    # What is between the quoted parts (the even ones) has no quotes of its own.
    for place, part in enumerate(parts):
        if place % 2:
            parts[place] = re.sub(r"\\(.)", r"\1", part)
        elif '"' in part:
            raise InvalidAddress(f"the quotes around the name are not closed: {written[:80]!r}")
        else:
            parts[place] = _decode_words(part)
    return "".join(parts)


def _decode_words(text: str) -> str:
    if "=?" not in text:
        return text
    try:
        return str(make_header(decode_header(text)))
    except (ValueError, LookupError, HeaderParseError) as error:
        raise InvalidAddress(f"the name holds an encoded word that cannot be read: {error}; write it plainly") from None
