"""Templates: rendering, the sandbox, what is said about a template that cannot be used, and the content hash."""

import hashlib
import re
from pathlib import Path
from textwrap import dedent

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pabal.channels.content import make_content
from pabal.channels.email import EmailContent
from pabal.channels.webhook import WebhookContent
from pabal.errors import ConfigError, TemplateError
from pabal.notification import Content
from pabal.template import MAX_RENDERED_CHARACTERS, MAX_SOURCE_BYTES, Template, parse_template, read_template

ORDER_SHIPPED = dedent(
    """\
    title = "Order {{ order }} shipped"
    body = "Hello {{ name }}, order {{ order }} is on its way."

    [email]
    subject = "{{ name }}, your order"
    html = \"\"\"
    <p>Hello {{ name }}</p>
    \"\"\"

    [webhook]
    payload = '{"order": {{ order | tojson }}, "name": {{ name | tojson }}}'

    [sample]
    name = "Ana"
    order = 17
    """
)


def parse(text: str, *, name: str = "order-shipped") -> Template:
    return parse_template(name, dedent(text), path=f"templates/{name}.toml")


def complaint(text: str, *, name: str = "order-shipped") -> str:
    with pytest.raises(ConfigError) as caught:
        parse(text, name=name)
    return str(caught.value)


def test_every_part_is_rendered_with_the_data() -> None:
    template = parse(ORDER_SHIPPED)

    content = template.render({"name": "Ana", "order": 17})

    assert content == make_content(
        title="Order 17 shipped",
        body="Hello Ana, order 17 is on its way.",
        parts={
            "email": EmailContent(subject="Ana, your order", html="<p>Hello Ana</p>"),
            "webhook": WebhookContent(payload={"order": 17, "name": "Ana"}),
        },
    )


def test_only_html_is_escaped() -> None:
    template = parse('title = "{{ x }}"\n[email]\ntext = "{{ x }}"\nhtml = "{{ x }}"')

    content = template.render({"x": "<b>&"})

    assert content.title == "<b>&"
    assert content.part("email") == EmailContent(text="<b>&", html="&lt;b&gt;&amp;")


def test_a_blank_without_data_is_an_error_that_names_the_part() -> None:
    template = parse('title = "x"\n[email]\nhtml = "{{ name }}"')

    with pytest.raises(TemplateError, match=r"email\.html: does not render with this data: 'name' is undefined"):
        template.render({})


@pytest.mark.parametrize(
    "text",
    [
        "{{ x.__class__.__mro__ }}",
        "{{ x.append(1) }}",
        "{{ ''.join.__globals__ }}",
        "{% for i in range(10000000) %}{% endfor %}",
        "{{ x / 0 }}",
        "{{ x() }}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    ],
)
def test_a_template_can_neither_leave_the_sandbox_nor_crash_the_program(text: str) -> None:
    template = parse(f"title = {msgspec.json.encode(text).decode()}")

    with pytest.raises(TemplateError, match="title: does not render"):
        template.render({"x": [1]})


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (True, "true"),
        (False, "false"),
        (17, "17"),
        (10**30, "1" + "0" * 30),
        (1.5, "1.5"),
        (1.0, "1.0"),
        (1e22, "1e22"),
        (1e-7, "1e-7"),
        ("", ""),
    ],
)
@pytest.mark.parametrize(
    "blank",
    ["{{ x }}", "{{ '' ~ x }}", "{{ [x] | join }}", "{{ x | string }}", "{{ x | trim }}", "{{ '{}'.format(x) }}"],
)
def test_people_read_a_value_as_json_spells_it(blank: str, value: object, says: str) -> None:
    if blank == "{{ '{}'.format(x) }}" and isinstance(value, float):
        says = str(value)  # what formats numbers formats them in its own way

    assert parse(f'title = "a{blank}"').render({"x": value}).title == f"a{says}"


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (None, r"null where a text is wanted; give a text, or say what stands for it: default"),
        ([], "a list where a text is wanted; loop over it"),
        (["a", "b"], "a list where a text is wanted; loop over it"),
        ({"a": 1}, "an object where a text is wanted; name one of its fields"),
    ],
)
@pytest.mark.parametrize(
    "blank",
    [
        *("{{ x }}", "{{ '' ~ x }}", "{{ [x] | join }}", "{{ x | string }}", "{{ x | upper }}", "{{ x | trim }}"),
        *("{{ '%s' | format(x) }}", "{{ '%s' % (x,) }}", "{{ '%(x)s' % {'x': x} }}", "{{ '{}'.format(x) }}"),
        *(
            "{{ 'a' | replace('a', x) }}",
            "{% set y %}{{ x }}{% endset %}{{ y }}",
            "{{ x | e }}",
            "{{ [[x]] | first | join }}",
        ),
    ],
)
@pytest.mark.parametrize("part", ["title", "email.html"])
def test_null_lists_and_objects_never_reach_people_as_python_spells_them(
    part: str, blank: str, value: object, says: str
) -> None:
    template = parse(f'{part} = "{blank}"')

    with pytest.raises(TemplateError, match=f"{part}: does not render with this data: {says}"):
        template.render({"x": value})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{{ x }}", "null where a text is wanted"),
        ("{{ x + 'a' }}", "null where"),
        ("{{ 'a' + x }}", "null where"),
        ("{{ 2 + 'a' }}", "put together with ~"),
        ("{% for a in x %}{% endfor %}", "null where a list is wanted"),
        ("{{ x | join }}", "null where a list is wanted"),
        ("{{ x | length }}", "null has no length"),
        ("{{ 1e308 * 10 }}", "a calculation came to inf"),
        ("{{ y.a.b }}", "has no attribute 'a'"),
        ("{{ range }}", "a function where a text is wanted"),
        ("{{ '%r' % 'a' }}", "writes Python"),
        ("{{ '{!r}'.format('a') }}", "writes Python"),
    ],
)
def test_what_is_no_text_is_said_in_json_s_words(text: str, says: str) -> None:
    with pytest.raises(TemplateError, match=says):
        parse(f'title = "{text}"').render({"x": None, "y": {}})


def test_null_may_have_a_text_that_stands_for_it() -> None:
    template = parse("title = \"Hello {{ name | default('there', true) }}\"\nwebhook.payload = '{{ name | tojson }}'")

    content = template.render({"name": None})

    assert content == make_content(title="Hello there", parts={"webhook": WebhookContent(payload=None)})


def test_an_error_names_the_line_of_a_part_that_has_several() -> None:
    with pytest.raises(TemplateError, match=r"^body, line 2: does not render with this data: 'b' is undefined"):
        parse("body = 'a\\n{{ b }}'".replace("'", '"')).render({})


@pytest.mark.parametrize("text", ["{{ lipsum() }}", "{{ [1, 2] | random }}"])
def test_nothing_in_a_template_draws_lots(text: str) -> None:
    with pytest.raises((ConfigError, TemplateError)):
        parse(f'title = "{text}"').render({})


def test_a_part_that_grows_beyond_all_bounds_is_refused() -> None:
    template = parse("title = '{% for i in range(2000) %}{{ x }}{% endfor %}'")

    with pytest.raises(TemplateError, match=f"at most {MAX_RENDERED_CHARACTERS}"):
        template.render({"x": "x" * 1000})


def test_a_payload_that_renders_to_no_json_is_an_error_with_advice() -> None:
    template = parse("[webhook]\npayload = '{\"name\": {{ name }}}'")

    with pytest.raises(TemplateError, match=r"webhook\.payload: does not render to JSON: .*tojson"):
        template.render({"name": "Ana"})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('title = "{{ x"', "order-shipped.toml:1: title: unexpected end of template"),
        ('\n# why\ntitle = """\na\n{{ x }\n"""', "order-shipped.toml:5: title: unexpected '}'"),
        ("body = \"b\"\n[email]\nhtml = '''a\n{% if %}'''", "order-shipped.toml:4: email.html: Expected an expression"),
        ('email.html = "{{ x"', "order-shipped.toml: email.html: unexpected end of template"),
        ('title = "{{ x | nope }}"', "order-shipped.toml:1: title: No filter named 'nope'"),
        ('title = "{% include \\"a\\" %}"', "order-shipped.toml:1: title: include, import and extends"),
        ('title = "a"\n[email]\ntext = """\na\n{{ y }}"""\n[sample]\nx = 1', ":5: email.text: does not render"),
        ('titel = "a"', "order-shipped.toml: Object contains unknown field `titel`; there are: title, body, email, "),
        ('[email]\nbody = "a"', "unknown field `body`; there are: subject, text, html - at `$.email`"),
        ("title = 3", "Expected `str | null`, got `int` - at `$.title`"),
        ("title =", "order-shipped.toml is not TOML: Invalid value (at"),
        ("[sample]\nx = 1", "says nothing"),
        (f'title = "{"x" * MAX_SOURCE_BYTES}"', "at most 262144 bytes"),
    ],
)
def test_a_template_that_cannot_be_used_is_reported_with_its_file_and_line(text: str, says: str) -> None:
    assert says in complaint(text)


@pytest.mark.parametrize("name", ["Order", "", "-x", "a b", "x" * 64, "ä"])
def test_a_file_name_that_is_no_template_name_is_refused(name: str) -> None:
    assert "a template's name is made of" in complaint('title = "x"', name=name)


@pytest.mark.parametrize("depth", [50, 150, 250, 5000])
def test_deeply_nested_syntax_is_an_error_and_no_crash(depth: int) -> None:
    loops = "{% for i in a %}" * depth + "{% endfor %}" * depth

    assert complaint(f'title = "{loops}"') == "templates/order-shipped.toml:1: title: is nested too deeply"


def test_the_hash_is_of_the_source_and_not_of_its_spelling_name_or_sample() -> None:
    plain = parse('title = "a"\nbody = "b"')

    other = parse('# comment\nbody = """b"""\ntitle = \'a\'\n[sample]\nx = 1', name="other")
    changed = parse('title = "a"\nbody = "c"')

    assert plain.hash == other.hash == hashlib.sha256(plain.source_json).hexdigest()
    assert plain.hash != changed.hash


def test_the_canonical_spelling_of_a_template_never_changes() -> None:
    # Deliveries that wait in a log pin this hash: another one would orphan them.
    assert parse(ORDER_SHIPPED).hash == "6203ebabf855f9b3da96a6f5eeba296fe7e6b607f67ad37b6669e83b026ea5f0"


def test_a_payload_that_renders_to_json_nested_too_deeply_is_an_error() -> None:
    template = parse('[webhook]\npayload = "{{ deep }}"')

    with pytest.raises(TemplateError, match=r"webhook\.payload: does not render to JSON"):
        template.render({"deep": "[" * 100_000})


def test_a_template_read_from_its_record_renders_alike_and_keeps_its_hash() -> None:
    template = parse(ORDER_SHIPPED)

    again = read_template("order-shipped", template.source_json)

    assert again.hash == template.hash
    assert again.render({"name": "Ana", "order": 17}) == template.render({"name": "Ana", "order": 17})


@pytest.mark.parametrize(
    "record", [b"", b"[]", b'{"title": 3}', b'{"title": "\xff"}', b'{"title": "{{"}', b'{"x":' + b"[" * 100_000]
)
def test_a_record_that_is_no_template_is_an_error(record: bytes) -> None:
    with pytest.raises(TemplateError):
        read_template("x", record)


def test_a_template_record_of_a_newer_version_is_read_without_its_new_parts() -> None:
    template = read_template("x", b'{"title": "a", "sms": {"text": "b"}}')

    assert template.render({}) == Content(title="a")


@given(
    data=st.dictionaries(
        st.text(max_size=10), st.recursive(st.none() | st.integers() | st.text(), st.lists, max_leaves=5), max_size=4
    )
)
def test_rendering_ends_in_content_or_a_template_error_and_twice_in_the_same(data: dict[str, object]) -> None:
    template = parse("title = '{{ a }} {{ b | length }} {% for x in c %}{{ x }}{% endfor %}'")

    def attempt() -> Content | str:
        try:
            return template.render(data)
        except TemplateError as error:
            return str(error)

    assert attempt() == attempt()


def test_the_template_in_the_manual_renders_its_sample() -> None:
    manual = (Path(__file__).parents[1] / "docs" / "templates.md").read_text(encoding="utf-8")

    (text,) = re.findall(r"```toml\n(.*?)```", manual, re.DOTALL)

    assert "[sample]" in text
    assert parse(text).render({"name": "<A>", "order": 17, "items": ["A lamp"]}).title == "Order 17 shipped"
