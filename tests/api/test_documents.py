"""The API described: `/openapi.json`, `/docs`, the manual, and what is answered where nothing is."""

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pabal.api.problems import KINDS
from tests.api.lab import Lab
from tests.api.test_notifications import check_problem

MANUAL = (Path(__file__).parents[2] / "docs" / "api.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(("method", "allowed"), [("GET", "POST"), ("DELETE", "POST"), ("OPTIONS", "POST")])
async def test_a_method_that_is_not_taken_is_a_problem_that_names_those_that_are(
    lab: Lab, method: str, allowed: str
) -> None:
    reply = await lab.call(method, "/v1/notifications", headers=[], chunks=[b""])

    check_problem(reply, "method_not_allowed")
    assert reply.headers["allow"] == allowed


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/notifications/", "/healthz/", "/v2/notifications", "//", "/\x00"])
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


async def test_the_openapi_document_names_this_installations_channels(lab: Lab) -> None:
    document = (await lab.get("/openapi.json")).json

    recipient = document["components"]["schemas"]["Recipient"]
    assert recipient["properties"]["channel"]["enum"] == ["email", "webhook"]


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
