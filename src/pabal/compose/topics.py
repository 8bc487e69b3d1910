"""The topics of an installation: `create_topics` makes them, and every role checks them before it starts."""

from pabal.compose.parts import Parts
from pabal.errors import ConfigError
from pabal.topics.spec import topics_for

EMBEDDED_PARTITIONS = 2
"""Partitions of each topic that workers share, on the embedded log: enough to see that they share the work, and few
enough that one commit writes to all."""


async def create_topics(parts: Parts, *, partitions: int, replication: int | None) -> list[str]:
    """Make the topics that are missing; returns their names."""
    specs = topics_for(parts.settings.channels, partitions=partitions, replication=replication)
    admin = parts.broker.admin()
    try:
        return [spec.name for spec in specs if await admin.create_topic(spec)]
    finally:
        await admin.close()


async def check_topics(parts: Parts) -> None:
    """Raise ConfigError when a topic is missing. A role never makes one: a typing error must not become a topic."""
    admin = parts.broker.admin()
    try:
        existing = await admin.topics()
    finally:
        await admin.close()
    wanted = topics_for(parts.settings.channels, partitions=1, replication=None)
    missing = [spec.name for spec in wanted if spec.name not in existing]
    if missing:
        names = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
        raise ConfigError(
            f"the log at {parts.log_url} lacks {names}; create Pabal's topics with: "
            f"pabal topics create --log {parts.log_url}"
        )
