"""The API described: `/openapi.json`, `/docs`, the manual, and what is answered where nothing is."""

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pabal.api.codes import KINDS
from tests.api.declared import COMMITTED
from tests.api.described import describe_now, written
from tests.api.lab import Lab, Reply
from tests.api.test_notifications import check_problem

MANUAL = (Path(__file__).parents[2] / "docs" / "api.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(("method", "allowed"), [("GET", "POST"), ("DELETE", "POST"), ("OPTIONS", "POST")])
async def test_a_method_that_is_not_taken_is_a_problem_that_names_those_that_are(
    lab: Lab, method: str, allowed: str
) -> None:
    reply = await lab.call(method, "/v1/notifications", headers=[], chunks=[b""])

    check_problem(reply, "method_not_allowed")
    assert reply.headers["allow"] == allowed


@pytest.mark.parametrize("path", ["/v1", "/v1/notifications/", "/healthz/", "/v2/notifications", "//", "/\x00"])
async def test_a_path_that_leads_nowhere_is_a_problem(lab: Lab, path: str) -> None:
    check_problem(await lab.get(path), "not_found")


async def test_a_hostile_host_header_changes_nothing(lab: Lab) -> None:
    reply = await lab.call("GET", "/nope", headers=[(b"host", b"[")], chunks=[b""])

    check_problem(reply, "not_found")


async def test_the_openapi_document_is_3_1_and_every_reference_in_it_leads_somewhere(lab: Lab) -> None:
    reply = await lab.get("/openapi.json")

    document = reply.json
    assert reply.headers["content-type"] == "application/json"
    assert document["openapi"].startswith("3.1")
    references = set(re.findall(r'"#/components/schemas/(\w+)"', reply.content.decode()))
    assert references <= document["components"]["schemas"].keys()
    assert "BatchItem" in references


async def test_the_openapi_document_is_the_committed_one() -> None:
    committed = COMMITTED.read_bytes()

    document = await describe_now()

    assert document == msgspec.json.decode(committed), "if the change is intended: python -m tests.api.described"
    assert written(document) == committed, "its order has changed; if that is intended: python -m tests.api.described"


async def test_the_openapi_document_names_this_installations_channels(lab: Lab) -> None:
    document = (await lab.get("/openapi.json")).json

    recipient = document["components"]["schemas"]["Recipient"]
    assert recipient["properties"]["channel"]["enum"] == ["email", "webhook"]


async def test_a_clients_generator_finds_optional_what_may_be_left_out_of_a_request(lab: Lab) -> None:
    document = (await lab.get("/openapi.json")).json

    # openapi-typescript demands every property that has a default, and takes an object of which nothing is said for {}.
    schemas = document["components"]["schemas"]
    assert [
        name for name, schema in schemas.items() for rule in schema["properties"].values() if "default" in rule
    ] == []
    asked = schemas["NotificationRequest"]
    assert asked["required"] == ["to"]
    assert asked["properties"]["class"]["description"].endswith("By default `standard`.")
    [data, _] = asked["properties"]["data"]["anyOf"]
    assert data == {"type": "object", "additionalProperties": True}
    assert schemas["RedriveRequest"]["required"] == ["plan", "reason"]
    assert "required" not in schemas["Pace"] or schemas["Pace"]["required"] == []


async def test_a_clients_generator_finds_required_what_is_always_answered(lab: Lab) -> None:
    schemas = (await lab.get("/openapi.json")).json["components"]["schemas"]
    problem = (await lab.get("/nope")).json

    assert schemas["DeliveryPage"]["required"] == ["deliveries", "next_cursor"]
    assert schemas["SuppressionView"]["required"] == list(schemas["SuppressionView"]["properties"])
    assert set(schemas["Problem"]["required"]) == problem.keys()


async def test_every_operation_says_whether_it_needs_a_key_and_has_a_name_of_its_own(lab: Lab) -> None:
    document = (await lab.get("/openapi.json")).json

    operations = {
        f"{method} {path}": each for path, methods in document["paths"].items() for method, each in methods.items()
    }
    assert {place for place, each in operations.items() if each["security"] == []} == {
        "post /v1/receipts/{provider}",
        *(f"get {path}" for path in ("/", "/docs", "/openapi.json", "/healthz", "/readyz", "/metrics")),
    }
    assert {str(each["security"]) for each in operations.values()} == {"[]", "[{'key': []}]"}
    assert len({each["operationId"] for each in operations.values()}) == len(operations)
    assert [server["url"] for server in document["servers"]] == ["/"]


async def test_what_is_said_to_need_no_key_needs_none_and_the_others_do(lab: Lab) -> None:
    document = (await lab.get("/openapi.json")).json

    for path, methods in document["paths"].items():
        for method, each in methods.items():
            place = path.replace("{id}", "00000000-0000-0000-0000-000000000000")
            reply = (
                await lab.post({}, path=place, key=None)
                if method == "post"
                else await lab.ask(method.upper(), place, key=None)
            )
            assert (reply.status == 401) is bool(each["security"]), (method, path)


async def test_every_operation_with_a_key_names_the_scope_that_it_needs(lab: Lab) -> None:
    document = (await lab.get("/openapi.json")).json

    for path, methods in document["paths"].items():
        for method, each in methods.items():
            place = path.replace("{id}", "00000000-0000-0000-0000-000000000000")
            if each["security"]:
                refusals = [
                    (await lab.call(method.upper(), place, headers=[(b"authorization", key)], chunks=[b""])).json
                    for key in (b"Bearer send-key", b"Bearer read-key")
                ]
                lacking = {
                    word for each in refusals for word in re.findall(r"the scope '(\w+)'", each.get("detail", ""))
                }
                assert len(lacking) == 1, (method, path)
                assert f"the scope `{lacking.pop()}`" in each["description"], (method, path)


BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/webp,*/*;q=0.8"


async def front(lab: Lab, accept: str | None) -> Reply:
    headers = [] if accept is None else [(b"accept", accept.encode("latin-1"))]
    return await lab.call("GET", "/", headers=headers, chunks=[b""])


async def test_the_front_page_leads_a_browser_to_the_description(lab: Lab) -> None:
    reply = await front(lab, BROWSER)

    page = _Page(reply.content.decode())
    assert (reply.status, reply.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert reply.headers["content-security-policy"].startswith("default-src 'none'")
    assert {"/docs", "/openapi.json"} <= set(page.links)
    for link in page.links:
        assert (await lab.get(link)).status == 200


async def test_the_front_page_leads_a_program_to_the_description(lab: Lab) -> None:
    reply = await front(lab, None)

    assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
    assert (reply.json["docs"], reply.json["openapi"]) == ("/docs", "/openapi.json")
    assert reply.headers["vary"] == "Accept"
    for link in ("docs", "openapi", "health", "readiness"):
        assert (await lab.get(reply.json[link])).status == 200


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        (BROWSER, "text/html"),
        ("text/html", "text/html"),
        ("TEXT/HTML; q=0.5", "text/html"),
        ("text/*, application/json;q=0.9", "text/html"),
        ("*/*", "application/json"),
        ("application/json", "application/json"),
        ("text/html;q=0.5, application/*", "application/json"),
        ("text/html;q=0, */*;q=0.1", "application/json"),
        ("text/html;q=nan", "application/json"),
        ("text/html;q=1e9, application/json", "application/json"),
        ("image/png", "application/json"),
        ("", "application/json"),
        (";q=,,;;\xff", "application/json"),
        ("a/b," * 5000 + "text/html", "application/json"),
    ],
)
async def test_the_front_page_is_html_where_that_is_preferred(lab: Lab, accept: str, kind: str) -> None:
    assert (await front(lab, accept)).headers["content-type"].partition(";")[0] == kind


async def test_every_error_code_stands_in_the_openapi_document_where_it_can_occur(lab: Lab) -> None:
    text = (await lab.get("/openapi.json")).content.decode()

    # These come from no operation: no such path, no such method, a defect. The others are results within a batch.
    elsewhere = {"not_found", "method_not_allowed", "internal_error", "batch_too_large", "duplicate_idempotency_key"}
    assert {code for code in KINDS if f"`{code}`" not in text} <= elsewhere


async def test_the_examples_in_the_document_are_accepted(lab: Lab) -> None:
    document = (await lab.get("/openapi.json")).json

    for path in ("/v1/notifications", "/v1/notifications/batch"):
        example = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["example"]
        assert (await lab.post(example, path=path)).status == 202


class _Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in ("href", "src"):
                self.links.append(value or "")


async def test_the_page_needs_nothing_but_itself(lab: Lab) -> None:
    reply = await lab.get("/docs")

    page = _Page(reply.content.decode())
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    assert reply.headers["content-security-policy"].startswith("default-src 'none'")
    assert not page.tags & {"script", "link", "img", "iframe"}
    assert {link for link in page.links if not link.startswith("#")} == {"/openapi.json"}
    assert "None" not in reply.content.decode()


async def test_the_page_has_an_index_of_every_request(lab: Lab) -> None:
    page = _Page((await lab.get("/docs")).content.decode())
    paths = (await lab.get("/openapi.json")).json["paths"]

    named = [each["operationId"] for methods in paths.values() for each in methods.values()]
    assert [link.removeprefix("#") for link in page.links if link.removeprefix("#") in named] == named
    assert set(named) <= set(page.ids)


async def test_the_type_of_a_problem_and_every_link_of_the_page_lead_to_an_anchor(lab: Lab) -> None:
    page = _Page((await lab.get("/docs")).content.decode())

    assert len(page.ids) == len(set(page.ids))
    assert {link.removeprefix("#") for link in page.links if link.startswith("#")} <= set(page.ids)
    assert set(KINDS) <= set(page.ids)


@pytest.mark.parametrize("code", sorted(KINDS))
def test_the_manual_has_a_heading_for_every_error_code(code: str) -> None:
    kind = next(kind for name, kind in KINDS.items() if name == code)

    section = re.search(rf"^### {code}\n\n(.*?)(?=\n#|\Z)", MANUAL, re.DOTALL | re.MULTILINE)

    assert section, f"docs/api.md has no heading '### {code}'"
    said = " ".join(section[1].split())
    assert said.startswith(f"{kind.status}. {kind.title}.")
    assert kind.advice in said


def _blocks(language: str) -> list[Any]:
    return [msgspec.json.decode(text) for text in re.findall(rf"```{language}\n(.*?)```", MANUAL, re.DOTALL)]


async def test_the_requests_in_the_manual_are_accepted(lab: Lab) -> None:
    requests = [block for block in _blocks("json") if "to" in block]
    batches = [block for block in _blocks("json") if "notifications" in block]

    assert requests
    assert batches
    for request in requests:
        assert (await lab.post(request)).status == 202
    for batch in batches:
        assert (await lab.post(batch, path="/v1/notifications/batch")).status in (202, 207)


async def test_the_manual_names_every_field_of_a_request_and_no_other_error_code(lab: Lab) -> None:
    schemas = (await lab.get("/openapi.json")).json["components"]["schemas"]

    assert {field for field in schemas["NotificationRequest"]["properties"] if f"`{field}`" not in MANUAL} == set()
    assert set(re.findall(r"^### ([a-z_]+)$", MANUAL, re.MULTILINE)) == set(KINDS)
