"""An operation is declared once: one coroutine and one `Operation` give everything that a request needs."""

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from pabal.api.asgi import ApiResponse
from pabal.api.bodies import JsonBody
from pabal.api.keys import Keyring
from pabal.api.openapi import describe_api
from pabal.api.operation import NUMBER, Operation, Part, Success
from pabal.api.request import ApiRequest
from pabal.api.routes import Routes
from pabal.errors import LogUnavailable
from pabal.plan import NotificationRequest
from tests.api.lab import ADMIN_KEY, KEY, SETTINGS, Lab


class Colour(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A query."""

    colour: str = "red"


class Pot(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A body."""

    litres: int


async def paint(request: ApiRequest[Colour, Pot]) -> ApiResponse:
    pot = await request.body()
    if pot.litres > 10:
        raise LogUnavailable("no leader")
    said = [request.part("wall"), request.query().colour, str(pot.litres), request.caller.tenant]
    return ApiResponse(status=200, body=said)


async def page(request: ApiRequest[None, None]) -> ApiResponse:
    return ApiResponse(status=200, body=b"<p>Hello</p>", media_type=b"text/html; charset=utf-8")


PAINT = Operation(
    method="POST",
    path="/v1/walls/{wall:int}",
    scope="admin",
    respond=paint,
    parts={"wall": Part(description="Its number.", schema=NUMBER)},
    query=Colour,
    body=JsonBody(Pot, limit=100, example={"litres": 2}),
    answers={200: Success("It is painted.", Pot)},
    codes=("log_unavailable",),
    name="paintWall",
    summary="Paint a wall",
    about="Paint a wall. Needs the scope `admin`.",
)
PAGE = Operation(
    method="GET",
    path="/ui",
    scope=None,
    respond=page,
    answers={200: Success("It.", others={"text/html": {"type": "string"}})},
    name="getPage",
    summary="A page",
)


@pytest.fixture
def lab() -> Lab:
    return lab_of([PAINT, PAGE])


def lab_of(operations: Sequence[Operation[Any, Any]]) -> Lab:
    lab = Lab()
    lab.app = Routes(operations, keyring=Keyring(SETTINGS.keys), tracing=None)
    return lab


async def test_path_query_body_and_caller_reach_the_coroutine(lab: Lab) -> None:
    reply = await lab.post({"litres": 2}, path="/v1/walls/7?colour=blue", key=ADMIN_KEY)

    assert (reply.status, reply.json) == (200, ["7", "blue", "2", "shop"])


@pytest.mark.parametrize(
    ("key", "query", "body", "code"),
    [
        (None, "", {"litres": 2}, "missing_key"),
        (KEY, "", {"litres": 2}, "insufficient_scope"),
        (ADMIN_KEY, "?colour=a&colour=b", {"litres": 2}, "invalid_parameter"),
        (ADMIN_KEY, "?color=a", {"litres": 2}, "invalid_parameter"),
        (ADMIN_KEY, "", {"litres": "two"}, "invalid_field"),
        (ADMIN_KEY, "", {"litres": 2, "lid": "x" * 100}, "body_too_large"),
        (ADMIN_KEY, "", {"litres": 11}, "log_unavailable"),
    ],
)
async def test_a_key_query_or_body_that_does_not_fit_is_a_problem(
    lab: Lab, key: str | None, query: str, body: object, code: str
) -> None:
    reply = await lab.post(body, path=f"/v1/walls/7{query}", key=key)

    assert reply.json["code"] == code


async def test_an_answer_may_be_bytes_of_any_media_type(lab: Lab) -> None:
    reply = await lab.get("/ui")

    assert (reply.headers["content-type"], reply.content) == ("text/html; charset=utf-8", b"<p>Hello</p>")


@pytest.mark.parametrize(("path", "allowed"), [("/ui", "GET, HEAD"), ("/v1/walls/7", "POST")])
async def test_what_a_path_takes_stands_in_allow(lab: Lab, path: str, allowed: str) -> None:
    reply = await lab.ask("DELETE", path, key=None)

    assert (reply.json["code"], reply.headers["allow"]) == ("method_not_allowed", allowed)


async def test_a_path_that_fits_exactly_leaves_other_methods_to_a_path_with_parts() -> None:
    both: list[Operation[Any, Any]] = [PAINT, msgspec.structs.replace(PAGE, path="/v1/walls/7")]

    reply = await lab_of(both).post({"litres": 2}, path="/v1/walls/7", key=ADMIN_KEY)

    assert reply.status == 200


def test_an_operation_that_is_declared_twice_is_a_defect() -> None:
    with pytest.raises(AssertionError, match="POST /v1/walls"):
        lab_of([PAINT, PAINT])


async def accept(request: ApiRequest[None, NotificationRequest]) -> ApiResponse:
    raise NotImplementedError


def test_the_description_says_what_the_operation_does() -> None:
    # The document of every installation names its channels in a notification's recipient.
    other = Operation(
        method="POST",
        path="/v1/notifications",
        scope="send",
        respond=accept,
        body=JsonBody(NotificationRequest, limit=1, example={}),
        answers={},
        name="accept",
        summary="Accept",
    )

    document = describe_api([PAINT, other], channels=["email"])

    painted = document["paths"]["/v1/walls/{wall}"]["post"]
    assert [(each["name"], each["in"]) for each in painted["parameters"]] == [("wall", "path"), ("colour", "query")]
    assert painted["requestBody"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Pot"}
    codes = {status: each["description"] for status, each in painted["responses"].items()}
    assert (codes["401"], codes["503"]) == ("`invalid_key`, `missing_key`", "`log_unavailable`")
    assert "`invalid_parameter`" in codes["422"]
