"""What has arrived, the newest last: a bounded number, in memory."""

from collections.abc import Sequence
from datetime import datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from functools import cached_property
from typing import Literal

import msgspec


class Signature(msgspec.Struct, frozen=True, kw_only=True):
    """What a webhook's Standard Webhooks signature is worth.

    `unchecked`: no secret is configured here. `missing`: there is none, though a secret is configured.
    """

    verdict: Literal["valid", "invalid", "missing", "unchecked"]
    detail: str


class CaughtEmail:
    """An e-mail as it arrived: its envelope and its bytes, parsed when it is looked at."""

    kind = "email"

    def __init__(self, *, id_: int, received_at: datetime, mail_from: str, rcpt_to: Sequence[str], raw: bytes) -> None:
        self.id = id_
        self.received_at = received_at
        self.mail_from = mail_from
        self.rcpt_to = tuple(rcpt_to)
        self.raw = raw

    @property
    def size(self) -> int:
        """Octets that it takes to keep."""
        return len(self.raw)

    @cached_property
    def message(self) -> EmailMessage:
        """The message as the standard library reads it; it reads anything."""
        return message_from_bytes(self.raw, policy=policy.default)


class Hook:
    """A webhook as it arrived: what was posted where, and whether it was signed."""

    kind = "webhook"

    def __init__(
        self,
        *,
        id_: int,
        received_at: datetime,
        path: str,
        headers: Sequence[tuple[str, str]],
        body: bytes,
        signature: Signature,
    ) -> None:
        self.id = id_
        self.received_at = received_at
        self.path = path
        self.headers = tuple(headers)
        self.body = body
        self.signature = signature

    @property
    def size(self) -> int:
        """Octets that it takes to keep, about."""
        return len(self.body)


Entry = CaughtEmail | Hook


class Mailbag:
    """The last `keep` arrivals, fewer if they are more than `keep_octets` together. One event loop's."""

    def __init__(self, *, keep: int, keep_octets: int) -> None:
        self._keep = keep
        self._keep_octets = keep_octets
        self._entries: dict[int, Entry] = {}
        self._octets = 0
        self._last_id = 0
        self.revision = 0
        """Goes up with every change."""

    def next_id(self) -> int:
        """The number of the next arrival. Ids are not used again."""
        self._last_id += 1
        return self._last_id

    def add(self, entry: Entry) -> None:
        """Keep it, and let go of the oldest that no longer fit."""
        self._entries[entry.id] = entry
        self._octets += entry.size
        while len(self._entries) > self._keep or (self._octets > self._keep_octets and len(self._entries) > 1):
            oldest = self._entries.pop(next(iter(self._entries)))
            self._octets -= oldest.size
        self.revision += 1

    def clear(self) -> None:
        """Let go of everything."""
        self._entries.clear()
        self._octets = 0
        self.revision += 1

    def get(self, id_: int) -> Entry | None:
        """That arrival, if it is still here."""
        return self._entries.get(id_)

    def newest_first(self) -> Sequence[Entry]:
        """A copy, so that it can be read elsewhere while more arrives."""
        return list(reversed(self._entries.values()))

    def __len__(self) -> int:
        return len(self._entries)
