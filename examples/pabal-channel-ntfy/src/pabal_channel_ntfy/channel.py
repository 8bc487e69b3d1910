"""The channel `ntfy`: its addresses are topics, its notifications have a title, a text, a link and a priority."""

import re
from typing import Annotated

import msgspec

from pabal.channels.part import ContentPart, PartField
from pabal.channels.port import Rendered
from pabal.errors import InvalidAddress
from pabal.notification import Content, Delivery, Fact

_TOPIC = re.compile(r"[A-Za-z0-9_-]{1,64}")

Priority = Annotated[int, msgspec.Meta(ge=1, le=5)]


class NtfyContent(Fact, frozen=True, kw_only=True):
    """What ntfy says instead of the generic parts, and how."""

    message: Annotated[str | None, PartField("The text, instead of `body`.")] = None
    click: Annotated[str | None, PartField("The URL that a tap on the notification opens.")] = None
    priority: Annotated[Priority | None, PartField("From 1 (min) to 5 (max); 3 by default.", blanks="json")] = None


class NtfyChannel:
    """One topic is one audience: what is sent to it stays in order."""

    name = "ntfy"
    default_provider = "ntfy"
    default_concurrency = 20
    part = ContentPart(
        model=NtfyContent,
        medium="ntfy",
        asked="What ntfy says instead of the generic parts, and how.",
        source="The parts of ntfy. `priority` renders to a number.",
    )

    def canonical(self, address: str) -> str:
        """A topic, in the letters that ntfy allows. Capitals count."""
        if not _TOPIC.fullmatch(address):
            raise InvalidAddress("a topic of ntfy has 1 to 64 of A-Z, a-z, 0-9, '_' and '-'")
        return address

    def suppressed_as(self, address: str) -> str:
        """The topic itself."""
        return address

    def order_key(self, address: str) -> str | None:
        """The topic itself."""
        return address

    def check(self, content: Content) -> str | None:
        """A notification has a text."""
        own: NtfyContent | None = content.part(self.name)
        return None if (own and own.message) or content.body else "ntfy needs a body, or ntfy.message"

    def render(self, delivery: Delivery, content: Content) -> Rendered:
        """The text is the body; link and priority travel as headers."""
        del delivery
        own: NtfyContent = content.part(self.name) or NtfyContent()
        headers = {"click": own.click, "priority": None if own.priority is None else str(own.priority)}
        return Rendered(
            subject=content.title,
            body=own.message or content.body or "",
            headers={name: value for name, value in headers.items() if value is not None},
        )
