"""What a template may cost: each way to grow without bounds is stopped before it has cost anything."""

import tracemalloc
from typing import Any

import msgspec
import pytest

from pabal.errors import TemplateError
from pabal.sandbox.budget import WORK_HERE, Meter, OverBudget
from pabal.template import Template, TemplateSource, TooMuchWork, read_template

MOST_BYTES = 24 * 1024 * 1024
"""What a rendering in an event loop may hold at once; the data of the tests has 1.5 MB."""

LONG = "x" * 200_000
# Loops of the tests have so few rounds that these alone are no reason to stop.
DATA: dict[str, Any] = {
    "a": False,
    "long": LONG,
    "many": 10**9,
    "short": ["ab"] * 50_000,
    "numbers": list(range(50_000)),
    "fields": {str(number): number for number in range(20_000)},
    "rows": [{"a": "q", "b": number} for number in range(8_000)],
    "comments": "<!---->" * 28_000,
    "words": "a " * 90_000,
    "quotes": '"' * 200_000,
    "nest": [[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]],
}


def compiled(text: str) -> Template:
    return Template(name="x", source=TemplateSource(title=text))


@pytest.mark.parametrize(
    "text",
    [
        "{{ long * 1000000 }}",
        "{{ 'a' * many }}",
        "{{ many * 'a' }}",
        "{{ [1] * many }}",
        "{{ 'a' * 10**9 }}",
        "{{ 'a' | center(many) }}",
        "{{ 'a'.center(many) }}",
        "{{ 'a'.ljust(many) }}",
        "{{ 'a'.zfill(many) }}",
        "{{ 'a' | center(10**9) }}",
        "{{ long | replace('x', long) }}",
        "{{ long | replace('', long) }}",
        "{{ long.replace('x', long) }}",
        "{{ long[:20000] | replace('x', long[:20000]) }}",
        "{{ long[:20000].replace('', long[:20000]) }}",
        "{% macro m() %}"
        + "{% if a %}{% endif %}" * 2000
        + "{% endmacro %}{% for i in range(700) %}{{ m() }}{% endfor %}",
        "{{ short[:2000] | join(long) }}",
        "{{ long.join(short[:2000]) }}",
        "{{ short | batch(many) | length }}",
        "{{ short | slice(many) | length }}",
        "{{ short | map('replace', 'a', long) | list | length }}",
        "{{ short | map('center', many) | list | length }}",
        "{{ short | map('default', short) | list | tojson }}",
        "{{ [none] | map('default', short, true) | list | tojson }}{{ fields | tojson }}",
        "{{ words | indent(long) }}",
        "{{ ('a\\n' * 1000) | indent(100000) }}",
        "{{ comments | striptags }}",
        "{{ words | wordwrap(1) }}",
        "{{ long | wordwrap(1) }}",
        "{{ words | title }}",
        "{{ quotes | urlencode }}",
        "{{ rows | sort(attribute='b') | length }}",
        "{{ rows | groupby('b') | length }}",
        "{{ numbers | map(attribute=long) | length }}",
        "{{ ('{0}' * 2000).format(long) }}",
        "{{ ('%(a)s' * 2000) | format(a=long) }}",
        "{{ ('%(a)s' * 2000) % {'a': long} }}",
        "{{ '%s' | format(long) }}{{ long | escape }}{{ long | upper }}{{ long | string }}",
        "{{ long ~ long ~ long ~ long }}",
        "{{ long + long + long + long }}",
        "{% for i in range(700) %}{{ fields | tojson }}{% endfor %}",
        "{% for i in range(700) %}{{ long }}{% endfor %}",
        "{% for c in long %}{% for d in long %}{% endfor %}{% endfor %}",
        "{% for i in range(9999) %}{% for j in range(9999) %}{% endfor %}{% endfor %}",
        "{% for i in range(100000) %}{% endfor %}",
        "{% for i in range(700) %}{{ 'y' in long }}{% endfor %}",
        "{% for i in range(700) %}{{ long == long }}{% endfor %}",
        "{% for i in range(700) %}{{ 'q' in short }}{% endfor %}",
        "{% for i in range(700) %}{{ 'q' is in(short) }}{% endfor %}",
        "{% for i in range(700) %}{{ short.count('q') }}{% endfor %}",
        "{% for i in range(700) %}{{ long.count('q') }}{% endfor %}",
        "{% for i in range(700) %}{% set a = long[1:] %}{% endfor %}",
        "{% for i in range(700) %}{% set a = short[1:] %}{% endfor %}",
        "{% for i in range(700) %}{{ fields[long] is defined }}{% endfor %}",
        "{% for i in range(700) %}{{ fields.get(long, 1) }}{% endfor %}",
        "{% for i in range(700) %}{{ loop.changed(short) }}{% endfor %}",
        "{% for i in range(700) %}{{ loop.cycle(long, long) }}{% endfor %}",
        "{% set n = namespace(a=long) %}{% for i in range(60) %}{% set n.a = n.a ~ n.a %}{% endfor %}",
        "{% set n = namespace(a=[1]) %}{% for i in range(60) %}{% set n.a = [n.a, n.a] %}{% endfor %}",
        "{% set n = namespace(a=[1]) %}{% for i in range(60) %}{% set n.a = (n.a, n.a) %}{% endfor %}",
        "{% set n = namespace(a=[1]) %}{% for i in range(60) %}{% set n.a = {'a': n.a, 'b': n.a} %}{% endfor %}",
        "{% set n = namespace(a=[1]) %}{% for i in range(60) %}{% set n.a = n.a + n.a %}{% endfor %}",
        "{% set n = namespace(a=[1]) %}{% for i in range(60) %}{% set n.a = dict(a=n.a, b=n.a) %}{% endfor %}",
        "{% set a %}{{ long }}{{ long }}{% endset %}{% set b %}{{ a }}{{ a }}{% endset %}{{ b }}{{ b }}",
        "{% macro m(k) %}{% if k %}{{ m(k - 1) }}{{ m(k - 1) }}{% endif %}{% endmacro %}{{ m(40) }}",
        "{% block a %}" + "b" * 9000 + "{% endblock %}{% for i in range(700) %}{{ self.a() }}{% endfor %}",
        "{% macro w() %}{% for i in range(999) %}{{ caller() }}{% endfor %}{% endmacro %}"
        "{% call w() %}" + "b" * 9000 + "{% endcall %}",
        "{% for x in nest recursive %}{{ loop(x) }}{{ loop(x) }}{{ loop(x) }}{% endfor %}",
        "{% for i in range(700) %}" + "b" * 9000 + "{% endfor %}",
        "{% filter upper %}{{ long }}{{ long }}{{ long }}{{ long }}{% endfilter %}",
        "{% autoescape true %}{% for i in range(99) %}{{ quotes }}{% endfor %}{% endautoescape %}",
        "{{ long }}" * 9000,
    ],
)
def test_what_grows_without_bounds_is_stopped_before_it_costs_anything(text: str) -> None:
    template = compiled(text)

    tracemalloc.start()
    try:
        with pytest.raises(TooMuchWork, match="title: takes more work than a template may"):
            template.render(DATA, work=WORK_HERE)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < MOST_BYTES


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{{ many ** many }}", "more than 300 digits"),
        ("{{ 9 ** 9 ** 99 }}", "more than 300 digits"),
        (
            "{% set n = namespace(a=9) %}{% for i in range(99) %}{% set n.a = n.a * n.a %}{% endfor %}{{ n.a }}",
            "more than 300",
        ),
        ("{{ 1 | round(many) }}", "at most 30 places"),
        ("{{ '%1000000d' % 3 }}", "pads to more than 999"),
        ("{{ '%.1000000f' % 3 }}", "pads to more than 999"),
        ("{{ '%*d' % (many, 3) }}", "pads to more than 999"),
        ("{{ '%1000000d' | format(3) }}", "pads to more than 999"),
        ("{{ '{:>999999}'.format(1) }}", "pads to more than 999"),
        ("{{ '{:>{w}}'.format(1, w=many) }}", "pads to more than 999"),
        ("{{ fields | tojson(indent=many) }}", "indents by 0 to 16"),
        ("{{ 'a b' | wordwrap(10, true, '-' * 81) }}", "at most 80 characters"),
        ("{{ [[1], [2]] | sum(start=[]) }}", "sum adds numbers"),
        ("{{ 'a'.expandtabs(many) }}", "unsafe"),
        ("{{ '{0}'.format_map({}) }}", "unsafe"),
        ("{{ 'a'.translate(fields) }}", "unsafe"),
        ("{{ 'a'.encode() }}", "unsafe"),
        ("{{ many.to_bytes(many) }}", "unsafe"),
        ("{{ many.bit_length() }}", "unsafe"),
        ("{{ fields.update(a=1) }}", "unsafe"),
        ("{{ short.append(1) }}", "unsafe"),
        ("{{ [[1]] | map(attribute='__class__') | first }}", "unsafe"),
        ("{{ lipsum(many) }}", "'lipsum' is undefined"),
        ("{{ range(many) }}", "Range too big"),
        ("{{ [1] | map('work spent', -1000000000) | join }}{{ 'a' * many }}", "more work"),
        ("{{ [[1]] | map('each round', -1000000000) | first | join }}{{ 'a' * many }}", "more work"),
    ],
)
def test_what_nobody_needs_is_an_error_that_says_why(text: str, says: str) -> None:
    with pytest.raises(TemplateError, match=says):
        compiled(text).render(DATA, work=WORK_HERE)


@pytest.mark.parametrize("name", ["attr", "pprint", "random", "urlize", "xmlattr", "nope"])
@pytest.mark.parametrize("text", ["{{ x | NAME }}", "{% if x %}{{ x | NAME }}{% endif %}"])
def test_a_filter_that_is_not_on_the_list_does_not_compile_and_the_list_is_told(text: str, name: str) -> None:
    with pytest.raises(TemplateError, match=f"No filter named '{name}'; there are: abs, batch"):
        compiled(text.replace("NAME", name))


def test_a_test_that_is_not_on_the_list_does_not_compile() -> None:
    with pytest.raises(TemplateError, match="No test named 'callable'"):
        compiled("{{ x is callable }}")


@pytest.mark.parametrize("text", ["{{ " + "9" * 5000 + " }}", "{{ " + "(" * 300 + "1" + ")" * 300 + " }}"])
def test_a_constant_that_python_cannot_read_is_an_error(text: str) -> None:
    with pytest.raises(TemplateError, match=r"title: (does not compile|is nested too deeply)"):
        compiled(text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{{ '%.2f' | format(price * 1.19) }}", "4.17"),
        ("{{ '{:,.2f}'.format(price * 1000) }}", "3,500.00"),
        ("{{ '%s of %d' % (name, count) }}", "Ana of 3"),
        ("{{ '%(who)s' | format(who=name) }}", "Ana"),
        ("{{ items | join(', ') | upper }}", "LAMP, BULB"),
        ("{{ ', '.join(items) }}", "lamp, bulb"),
        ("{{ 'a-b'.split('-') | last }}", "b"),
        ("{{ name.replace('A', 'U') | lower | trim }}", "una"),
        ("{{ (rows | sort(attribute='b') | first).a }} {{ rows | sum(attribute='b') }}", "y 3"),
        ("{% for g in rows | groupby('a') %}{{ g.grouper }}{{ g.list | length }}{% endfor %}", "x1y1"),
        ("{% for x in items %}{{ loop.index }}{{ x }}{{ ', ' if not loop.last }}{% endfor %}", "1lamp, 2bulb"),
        ("{% for x in items if x != 'lamp' %}{{ loop.length }}{{ x }}{% endfor %}", "1bulb"),
        ("{% for k, v in fields.items() %}{{ k }}{{ v }}{% endfor %}", "k1"),
        ("{% for k, v in fields | dictsort %}{{ k }}{{ v }}{% endfor %}", "k1"),
        ("{% for r in items | batch(2, '-') %}{{ r | join }}{% endfor %}", "lampbulb"),
        ("{% set n = namespace(s=0) %}{% for x in items %}{% set n.s = n.s + 1 %}{% endfor %}{{ n.s }}", "2"),
        ("{% for x in tree recursive %}{{ x.n }}{{ loop(x.c) }}{% endfor %}", "12"),
        ("{% macro b(t) %}[{{ t }}{{ caller() }}]{% endmacro %}{% call b('a') %}c{% endcall %}", "[ac]"),
        ("{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}{{ c.next() }}", "aba"),
        ("{% set j = joiner(', ') %}{% for x in items %}{{ j() }}{{ x }}{% endfor %}", "lamp, bulb"),
        ("{% block a %}x{% endblock %}{{ self.a() }}", "xx"),
        ("{{ items | map('upper') | select('in', ['LAMP']) | first }}", "LAMP"),
        ("{{ name[1:] ~ count ~ true }}", "na3true"),
        ("{{ 2 ** 10 }} {{ 7 // 2 }} {{ 7 % 4 }} {{ -count }}", "1024 3 3 -3"),
        ("{{ 1 if name in items else 2 }}{{ 'a' < 'b' < 'c' }}", "2true"),
        ("{{ 'a\nb' | indent(2) }}{{ 'ab' | center(6) }}|", "a\n  b  ab  |"),
        ("{{ {'a': [1, 2.5, none, true]} | tojson }}", '{"a": [1, 2.5, null, true]}'),
    ],
)
def test_what_templates_are_written_with_is_rendered_in_an_event_loop(text: str, says: str) -> None:
    data = {
        "name": "Ana",
        "price": 3.5,
        "count": 3,
        "items": ["lamp", "bulb"],
        "fields": {"k": 1},
        "rows": [{"a": "x", "b": 2}, {"a": "y", "b": 1}],
        "tree": [{"n": 1, "c": [{"n": 2, "c": []}]}],
    }

    assert compiled(text).render(data, work=WORK_HERE).title == says


def test_what_is_safe_html_stays_so_and_all_else_is_escaped() -> None:
    html = "{% set a %}<b>{{ x }}</b>{% endset %}" + " ".join(
        (
            *("{{ a }}", "{{ a ~ x }}", "{{ [a, x] | join('<') }}", "{{ '{}'.format(x) }}", "{{ a.format() }}"),
            *("{{ '%s' | format(x) }}", "{{ x | replace('<', a) }}", "{{ x | safe }}", "{{ x | e }}"),
        )
    )
    template = read_template("x", msgspec.json.encode({"email": {"html": html}}))

    email = template.render({"x": "<i>"}).part("email")

    i, b = "&lt;i&gt;", "<b>&lt;i&gt;</b>"
    said = (b, f"{b}{i}", f"{b}&lt;{i}", i, b, i, "&lt;i&gt;", "<i>", i)
    assert email is not None
    assert email.html == " ".join(said)


def test_a_value_that_is_held_twice_is_weighed_twice() -> None:
    meter, twice = Meter(1000), [["a" * 160]] * 2

    meter.weigh(twice)

    assert 1000 - meter.left == 3 + 2 * (2 + 10)
    with pytest.raises(OverBudget):
        meter.weigh([twice] * 100)
