"""The committed OpenAPI document: `python -m tests.api.described` writes it anew after an intended change."""

import asyncio
from typing import Any

import msgspec

from tests.api.declared import COMMITTED
from tests.api.lab import Lab


async def describe_now() -> dict[str, Any]:
    """What `/openapi.json` tells, without the version of this build."""
    document: dict[str, Any] = (await Lab().get("/openapi.json")).json
    del document["info"]["version"]
    return document


def written(document: dict[str, Any]) -> bytes:
    """The document as it is committed."""
    return msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n"


def main() -> None:
    """Write the document down."""
    COMMITTED.write_bytes(written(asyncio.run(describe_now())))


if __name__ == "__main__":
    main()
