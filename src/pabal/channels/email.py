"""E-mail: a subject, a text and perhaps an HTML part, to one mailbox."""

import re
from functools import lru_cache
from typing import Annotated, Final

from email_validator import EmailNotValidError, validate_email

from pabal.channels.part import ContentPart, PartField
from pabal.channels.port import Rendered
from pabal.errors import InvalidAddress
from pabal.notification import Content, Delivery, Fact

MAX_ADDRESS: Final = 254
"""Characters of a mailbox: RFC 5321 §4.5.3.1.3, without the angle brackets. Looked at first, since checking thousands
takes milliseconds."""
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")

MAX_SUBJECT: Final = 998
"""Characters of a subject: the longest line of RFC 5322 §2.1.1. A longer subject can be sent folded, but once it is
unfolded, no server may pass its line on."""


class EmailContent(Fact, frozen=True, kw_only=True):
    """What e-mail says instead of the generic parts; a part that is absent falls back to them."""

    subject: Annotated[str | None, PartField("Instead of `title`.")] = None
    text: Annotated[str | None, PartField("The plain text, instead of `body`.")] = None
    html: Annotated[str | None, PartField("An HTML alternative to the text.", blanks="html")] = None


class EmailChannel:
    """One mailbox is one person: what is sent to it stays in order."""

    name = "email"
    default_provider = "smtp"
    default_concurrency = 20
    """As many as the SMTP provider opens connections by default: a further call would only wait for a connection."""
    part = ContentPart(
        model=EmailContent,
        medium="e-mail",
        asked="What e-mail says instead of the generic parts.",
        source="The e-mail parts. Blanks in `html` are escaped, those in `subject` and `text` are not.",
    )

    def canonical(self, address: str) -> str:
        """RFC 5321/6531 mailbox, normalised by email-validator (no look-up of the domain)."""
        if len(address) > MAX_ADDRESS:
            raise InvalidAddress(f"An email address has at most {MAX_ADDRESS} characters; this has {len(address)}.")
        return _canonical(address)

    def suppressed_as(self, address: str) -> str:
        """In small letters. Servers tell mailboxes apart by capitals in theory only (RFC 5321 §2.4): a person that
        complained as `Ana@` must not be written to as `ana@`."""
        return address.lower()

    def order_key(self, address: str) -> str | None:
        """The mailbox itself."""
        return address

    def check(self, content: Content) -> str | None:
        """An e-mail needs a subject, not too long, and something to read."""
        own: EmailContent | None = content.part(self.name)
        subject = _subject(content, own)
        if not subject:
            return "an e-mail needs a title, or email.subject"
        if len(subject) > MAX_SUBJECT:
            return f"an e-mail's subject may have at most {MAX_SUBJECT} characters; this has {len(subject)}"
        if not (content.body or (own and (own.text or own.html))):
            return "an e-mail needs a body, or email.text or email.html"
        return None

    def render(self, delivery: Delivery, content: Content) -> Rendered:
        """Subject on one line (header injection: RFC 5322 §2.2 forbids bare line ends), text, HTML."""
        del delivery
        own: EmailContent | None = content.part(self.name)
        return Rendered(
            subject=_subject(content, own),
            body=(own and own.text) or content.body or "",
            html=own.html if own else None,
        )


def _subject(content: Content, own: EmailContent | None) -> str:
    return " ".join(((own and own.subject) or content.title or "").split())


@lru_cache(maxsize=4096)
def _canonical(address: str) -> str:
    # Checking an address costs about as much as the rest of an accept, and callers repeat addresses.
    try:
        checked = validate_email(address, check_deliverability=False)
    except EmailNotValidError as error:
        raise InvalidAddress(str(error)) from None
    top_level = checked.ascii_domain.rpartition(".")[2]
    if _NUMBER.fullmatch(top_level):
        raise InvalidAddress(f"The part after the @-sign ends in a number: there is no top-level domain {top_level!r}.")
    return checked.normalized
