"""How redrives stand and stood, told from the facts in `pabal.audit` and the claims in `pabal.ops`."""

from datetime import datetime

from pabal.clock import Clock
from pabal.dlq.letters.tails import CLOCK_SKEW, Tails
from pabal.dlq.redrive.book import Book
from pabal.dlq.redrive.claim import Claims
from pabal.dlq.redrive.views import RedriveView
from pabal.notification import AUDIT_TOPIC, OPS_TOPIC


async def list_redrives(
    tails: Tails, *, clock: Clock, since: datetime | None, plan: str | None = None
) -> list[RedriveView]:
    """The redrives that began since an instant (None: all that is known), the newest first."""
    claims = Claims()
    async for record in tails.of(OPS_TOPIC).read_on():
        claims.take(record)
    book = Book(since=since - CLOCK_SKEW if since else None)
    async for record in tails.history(AUDIT_TOPIC, start=since).read_on():
        book.read(record)
    running = {claim.plan for claim in claims.holders(now=clock.now())}
    views = [book.view(name, is_running=name in running) for name in book.entries if plan in (None, name)]
    return sorted(views, key=lambda view: view.started_at, reverse=True)
