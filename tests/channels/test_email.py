import pytest

from pabal.channels.content import make_content
from pabal.channels.email import MAX_SUBJECT, EmailChannel, EmailContent
from pabal.errors import InvalidAddress
from pabal.notification import Content


@pytest.mark.parametrize(
    "content",
    [
        Content(title="s" * (MAX_SUBJECT + 1), body="b"),
        make_content(title="short", body="b", parts={"email": EmailContent(subject="s" * (MAX_SUBJECT + 1))}),
    ],
)
def test_a_subject_longer_than_a_line_of_mail_is_refused(content: Content) -> None:
    problem = EmailChannel().check(content)

    assert problem == "an e-mail's subject may have at most 998 characters; this has 999"


def test_a_subject_as_long_as_a_line_of_mail_is_taken() -> None:
    assert EmailChannel().check(Content(title="s" * MAX_SUBJECT, body="b")) is None


def test_a_long_title_is_no_matter_where_the_mail_has_a_subject_of_its_own() -> None:
    content = make_content(title="s" * (MAX_SUBJECT + 1), body="b", parts={"email": EmailContent(subject="short")})

    assert EmailChannel().check(content) is None


def test_a_subject_of_blanks_is_none() -> None:
    assert EmailChannel().check(Content(title=" \n ", body="b")) == "an e-mail needs a title, or email.subject"


@pytest.mark.parametrize("address", ["a" * 255, "a" * 2000 + "@example.com", "ü" * 250 + "@b.de", '"' + '\\"' * 900])
def test_an_address_longer_than_mail_allows_is_refused_unread(address: str) -> None:
    with pytest.raises(InvalidAddress, match=f"at most 254 characters; this has {len(address)}"):
        EmailChannel().canonical(address)


def test_the_longest_address_is_taken() -> None:
    longest = f"{'a' * 64}@{'b' * 63}.{'c' * 63}.{'d' * 58}.de"

    assert (len(longest), EmailChannel().canonical(longest)) == (254, longest)


@pytest.mark.parametrize(
    "address",
    [
        *("a@example.0x7f", "a@256.256.256.256", "a@foo.123", "a@a..b.example", "a@a!b.example", "a@-a.example"),
        *("a@xn--zz.example", "a@☃.example", "a@[1.2.3.4]", f"a@{'x' * 64}.example", "a@example.com."),
    ],
)
def test_a_domain_that_cannot_exist_is_refused(address: str) -> None:
    with pytest.raises(InvalidAddress):
        EmailChannel().canonical(address)


def test_an_internationalised_domain_is_taken() -> None:
    assert EmailChannel().canonical("a@BÜCHER.example") == EmailChannel().canonical("a@bücher.example")
