import re
from datetime import UTC, datetime

import pytest
import standardwebhooks
from starlette.applications import Starlette
from starlette.routing import Mount

from pabal.clock import ManualClock
from pabal.inbox import Inbox
from pabal.inbox.pages import MAX_HOOK_OCTETS
from pabal.providers.smtp.provider import SmtpProvider
from tests.inbox.visitors import SECRET, Browser, browse, mail

EVIL = "<script>alert('x')</script>\"'&"


async def test_an_empty_inbox_says_how_to_fill_it(browser: Browser, inbox: Inbox) -> None:
    page = await browser.text("/")

    assert inbox.smtp_address is not None
    assert "Nothing has arrived yet" in page
    assert "{}:{}".format(*inbox.smtp_address) in page
    assert f"{browser.url}/hook/anything" in page
    assert "pabal up" in page


async def test_an_empty_inbox_shows_the_line_to_paste() -> None:
    inbox = Inbox(ManualClock(), first_command="""curl --json '{"a": 1}' http://127.0.0.1:8080/""")

    async with browse(inbox.app) as browser:
        page = await browser.text("/")

    assert "curl --json &#39;{&#34;a&#34;: 1}&#39; http://127.0.0.1:8080/" in page


async def test_the_page_lists_the_newest_first(mailer: SmtpProvider, browser: Browser) -> None:
    await mail(mailer, subject="first")
    await browser.post("/hook/orders?shop=2", body=b"second")
    await mail(mailer, subject="third")

    page = await browser.text("/")

    assert page.index("third") < page.index("/hook/orders?shop=2") < page.index("first")


async def test_a_long_list_is_cut_and_says_so(browser: Browser) -> None:
    for number in range(103):
        await browser.post(f"/hook/{number}")

    page = await browser.text("/")

    assert page.count('class="entry"') == 100
    assert "The newest 100 of 103" in page
    messages = (await browser.json("/messages.json"))["messages"]
    assert isinstance(messages, list)
    assert len(messages) == 103


@pytest.mark.parametrize(
    "path", ["/", "/entries", "/messages/1", "/messages/1?tab=text", "/messages/1?tab=headers", "/messages/1?tab=raw"]
)
async def test_nothing_that_an_email_says_becomes_markup(mailer: SmtpProvider, browser: Browser, path: str) -> None:
    await mail(mailer, subject=EVIL, body=EVIL, html=EVIL)

    page = await browser.text(path)

    assert "alert(" in page or path == "/messages/1"
    assert "<script>" not in page


@pytest.mark.parametrize("path", ["/", "/entries", "/messages/1", "/messages/1?tab=headers"])
async def test_nothing_that_a_webhook_says_becomes_markup(browser: Browser, path: str) -> None:
    await browser.post("/hook/%3Cscript%3E", body=EVIL.encode(), headers={"x-evil": EVIL})

    assert "<script>" not in await browser.text(path)


async def test_an_emails_html_is_confined(mailer: SmtpProvider, browser: Browser) -> None:
    await mail(mailer, html="<!DOCTYPE html>\n<p>Hello</p>")

    page = await browser.text("/messages/1")
    frame = await browser.get("/messages/1/html")

    assert re.search(
        r'<iframe [^>]*src="/messages/1/html"[^>]* sandbox="allow-popups allow-popups-to-escape-sandbox"', page
    )
    assert await frame.text() == '<!DOCTYPE html><base target="_blank">\n<p>Hello</p>\n'
    policy = frame.headers["content-security-policy"]
    assert policy.startswith("sandbox allow-popups allow-popups-to-escape-sandbox; default-src 'none';")
    assert "script-src" not in policy
    assert "http" not in policy


async def test_an_email_without_html_opens_at_its_text(mailer: SmtpProvider, browser: Browser) -> None:
    await mail(mailer, body="just text")

    page = await browser.text("/messages/1")

    assert "just text" in page
    assert "iframe" not in page
    await browser.get("/messages/1/html", status=404)


async def test_the_raw_message_is_what_arrived(mailer: SmtpProvider, browser: Browser) -> None:
    await mail(mailer, subject="s", body="b")

    answer = await browser.get("/messages/1/raw")

    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert (await answer.text()).startswith("From: Shop <noreply@example.com>\r\nTo: ana@example.com\r\n")


async def test_one_email_as_json(mailer: SmtpProvider, browser: Browser) -> None:
    await mail(mailer, subject="s", body="text", html="<p>html</p>")

    document = await browser.json("/messages/1.json")

    assert document["kind"] == "email"
    assert document["mail_from"] == "noreply@example.com"
    assert document["rcpt_to"] == ["ana@example.com"]
    assert document["subject"] == "s"
    assert document["text"] == "text\n"
    assert document["html"] == "<p>html</p>\n"
    assert isinstance(document["headers"], list)
    assert ["Message-ID", "<key-1@example.com>"] in document["headers"]


async def test_a_webhook_signed_with_our_secret_is_shown_as_such(browser: Browser) -> None:
    now = datetime.now(UTC)
    body = '{"order":17}'
    signature = standardwebhooks.Webhook(SECRET).sign("msg_1", now, body)
    headers = {"Webhook-Id": "msg_1", "Webhook-Timestamp": str(int(now.timestamp())), "Webhook-Signature": signature}

    await browser.post("/hook/orders", body=body.encode(), headers=headers)

    document = await browser.json("/messages/1.json")
    assert document["kind"] == "webhook"
    assert document["path"] == "/hook/orders"
    assert document["body"] == body
    assert document["signature"] == {"verdict": "valid", "detail": "signed with a secret that is configured here"}
    assert "✓ signed" in await browser.text("/messages/1")


async def test_a_webhook_without_signature_is_shown_as_such(browser: Browser) -> None:
    await browser.post("/hook")

    assert "✗ not signed" in await browser.text("/")


async def test_a_webhook_that_is_too_large_is_refused(browser: Browser) -> None:
    await browser.post("/hook/big", body=b"x" * (MAX_HOOK_OCTETS + 1), status=413)

    assert await browser.json("/messages.json") == {"messages": []}


async def test_deleting_empties_the_inbox(mailer: SmtpProvider, browser: Browser) -> None:
    await mail(mailer)

    await browser.delete("/messages")

    assert await browser.json("/messages.json") == {"messages": []}
    await browser.get("/messages/1", status=404)


async def test_the_list_is_sent_again_only_when_it_changed(browser: Browser) -> None:
    tag = (await browser.get("/entries")).headers["etag"]
    await browser.get("/entries", headers={"if-none-match": tag}, status=304)

    await browser.post("/hook")

    changed = await browser.get("/entries", headers={"if-none-match": tag})
    assert changed.headers["etag"] != tag


@pytest.mark.parametrize("path", ["/messages/1", "/messages/1/raw", "/nowhere", "/static/nowhere.css"])
async def test_what_is_not_there_is_a_page_that_says_so(browser: Browser, path: str) -> None:
    answer = await browser.get(path, status=404)

    assert "Not here" in await answer.text()


async def test_what_is_not_there_is_json_to_programs(browser: Browser) -> None:
    answer = await browser.get("/messages/1.json", status=404)

    assert await answer.json() == {"error": "there is no such message (any more)"}


@pytest.mark.parametrize(
    "path", ["/", "/entries", "/messages/1", "/messages.json", "/messages/1.json", "/messages/1/raw"]
)
async def test_every_answer_is_guarded(mailer: SmtpProvider, browser: Browser, path: str) -> None:
    await mail(mailer)

    headers = (await browser.get(path)).headers

    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-store"
    if headers["content-type"].startswith("text/html"):
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; style-src 'self'; script-src 'self';")
        assert "unsafe" not in policy


@pytest.mark.parametrize("path", ["/", "/messages/1", "/messages/1?tab=headers", "/nowhere"])
async def test_a_page_loads_nothing_from_elsewhere_and_has_no_script_inside(
    mailer: SmtpProvider, browser: Browser, path: str
) -> None:
    await mail(mailer)

    page = await (await browser.get(path, status=None)).text()

    loaded = re.findall(r"<(?:script|link|img|iframe)[^>]+(?:src|href)=\"([^\"]+)\"", page)
    assert loaded
    assert all(url.startswith(("/", "data:")) and not url.startswith("//") for url in loaded)
    assert not re.search(r"<style|\son\w+=|\sstyle=|<script(?! src=)", page)


@pytest.mark.parametrize(("name", "media_type"), [("inbox.css", "text/css"), ("inbox.js", "text/javascript")])
async def test_the_stylesheet_and_the_script_come_with_it(browser: Browser, name: str, media_type: str) -> None:
    answer = await browser.get(f"/static/{name}")

    assert answer.headers["content-type"] == f"{media_type}; charset=utf-8"


async def test_it_can_be_mounted_below_a_path(inbox: Inbox, mailer: SmtpProvider) -> None:
    await mail(mailer, html="<p>x</p>")

    async with browse(Starlette(routes=[Mount("/inbox", inbox.app)])) as browser:
        await browser.post("/inbox/hook/orders?shop=2")
        page = await browser.text("/inbox/")
        message = await browser.text("/inbox/messages/1")

    assert 'href="/inbox/messages/1"' in page
    assert 'src="/inbox/static/inbox.js"' in page
    assert f"{browser.url}/inbox/hook/anything" in page
    assert ">/hook/orders?shop=2<" in page
    assert 'src="/inbox/messages/1/html"' in message


@pytest.mark.parametrize("path", ["/", "/messages.json", "/entries", "/static/inbox.css", "/nowhere"])
@pytest.mark.parametrize("host", ["example.com", "localhost.example.com:80", "192.168.1.2", ""])
async def test_it_answers_nobody_who_asks_under_another_name(browser: Browser, path: str, host: str) -> None:
    answer = await browser.get(path, headers={"Host": host}, status=421)

    assert "loopback" in await answer.text()


async def test_under_another_name_nothing_can_be_deleted_or_put_in(inbox: Inbox, browser: Browser) -> None:
    await browser.post("/hook/x", headers={"Host": "example.com"}, status=421)

    assert await browser.json("/messages.json") == {"messages": []}


@pytest.mark.parametrize("host", ["localhost:8025", "[::1]:8025", "127.0.0.1"])
async def test_it_answers_under_every_name_of_this_machine(browser: Browser, host: str) -> None:
    await browser.get("/", headers={"Host": host})
