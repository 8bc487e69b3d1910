"""The API described to people: one page made from the OpenAPI document, without a script or a foreign resource."""

import re
from collections.abc import Iterable
from html import escape
from typing import Any, Final

import msgspec

from pabal.api.codes import KINDS

Json = dict[str, Any]

_STYLE: Final = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 58rem; margin: 0 auto; padding: 1.5rem 1rem 6rem; }
h1 { margin-bottom: .2rem; } h2 { margin-top: 3rem; border-bottom: 1px solid var(--line); padding-bottom: .3rem; }
h3 { margin: 2rem 0 .3rem; overflow-wrap: anywhere; } nav a { display: inline-block; margin-right: 1rem; }
ul.index { list-style: none; padding: 0; } ul.index li { padding: .15rem 0; overflow-wrap: anywhere; }
ul.index .method { display: inline-block; min-width: 4.8rem; } ul.index small { opacity: .75; }
table { border-collapse: collapse; width: 100%; margin: .6rem 0; }
th, td { text-align: left; vertical-align: top; padding: .35rem .7rem .35rem 0; border-top: 1px solid var(--line); }
th { font-weight: 600; white-space: nowrap; } td:last-child { width: 60%; }
code, pre { font: .87em/1.45 ui-monospace, monospace; background: var(--soft); border-radius: 4px; }
code { padding: .1em .3em; } pre { padding: .8rem 1rem; overflow-x: auto; } pre code { background: none; padding: 0; }
.method { font-weight: 700; color: #1a7f37; } .must { font-size: .8em; color: #b35900; }
:target { outline: 2px solid #b35900; outline-offset: 4px; }
@media (max-width: 44rem) {
  table, tbody, tr, td { display: block; } td, td:last-child { width: auto; }
  tr { border-top: 1px solid var(--line); padding: .4rem 0; } tr.head { display: none; }
  td { border: 0; padding: .1rem 0; overflow-wrap: anywhere; }
  td:empty { display: none; } td[data-of]::before { content: attr(data-of) ": "; opacity: .65; }
}
"""

_NAVIGATION: Final = (
    '<nav><a href="#requests">Requests</a><a href="#bodies">Bodies</a><a href="#errors">Error codes</a>'
    '<a href="/openapi.json">openapi.json</a></nav>'
)

_POLICY: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

HEADERS: Final = (
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
)
"""What a page is served with: it may use its own style and nothing else."""


def render_page(description: Json) -> str:
    """The page for an OpenAPI document of this API."""
    info, schemas = description["info"], description["components"]["schemas"]
    operations = [
        _operation(method, path, operation)
        for path, methods in description["paths"].items()
        for method, operation in methods.items()
    ]
    return "\n".join(
        (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(info['title'])} API</title><style>{_STYLE}</style></head><body>",
            f"<h1>{escape(info['title'])} API</h1>",
            f"<p>Version {escape(info['version'])}. {_prose(info['description'])}</p>",
            _NAVIGATION,
            '<h2 id="requests">Requests</h2>',
            _index(description["paths"]),
            *operations,
            '<h2 id="bodies">Bodies</h2>',
            *(_schema(name, schema) for name, schema in schemas.items()),
            '<h2 id="errors">Error codes</h2>',
            _table(("code", "status", "meaning, and what to do"), (_code_row(code) for code in sorted(KINDS))),
            "</body></html>",
        )
    )


def render_front() -> str:
    """The page at `/`: where to go from there. The same in every installation."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Pabal</title><style>{_STYLE}</style></head><body><h1>Pabal</h1>"
        "<p>This is the API of a Pabal installation: it takes notifications, sends them, and tells what became of "
        "them.</p><ul>"
        '<li><a href="/docs">The requests</a>, described for people</li>'
        '<li><a href="/openapi.json">openapi.json</a>, the same for programs</li>'
        '<li><a href="/healthz">Is it alive?</a> <a href="/readyz">Is it ready?</a></li>'
        "</ul></body></html>"
    )


def _index(paths: Json) -> str:
    lines = (
        f'<li><span class="method">{method.upper()}</span> <a href="#{operation["operationId"]}">{escape(path)}</a>'
        f" <small>{_prose(operation['summary'])}</small></li>"
        for path, methods in paths.items()
        for method, operation in methods.items()
    )
    return f'<ul class="index">{"".join(lines)}</ul>'


def _operation(method: str, path: str, operation: Json) -> str:
    key = " Needs an API key: <code>Authorization: Bearer KEY</code>." if operation.get("security") else ""
    parts = [
        f'<h3 id="{operation["operationId"]}"><span class="method">{method.upper()}</span> {escape(path)}</h3>',
        f"<p>{_prose(operation.get('description', operation['summary'] + '.'))}{key}</p>",
    ]
    if parameters := operation.get("parameters"):
        parts.append(_table(("parameter", "in", "type", ""), map(_parameter_row, parameters)))
    if "requestBody" in operation:
        ((_, body),) = operation["requestBody"]["content"].items()
        example = msgspec.json.format(msgspec.json.encode(body["example"]), indent=2).decode()
        parts.append(f"<p>Body: {_type(body['schema'])}, for instance</p><pre><code>{escape(example)}</code></pre>")
    rows = (
        (status, _answer(response), _prose(response["description"]))
        for status, response in operation["responses"].items()
    )
    parts.append(_table(("status", "body", ""), rows))
    return "\n".join(parts)


def _parameter_row(parameter: Json) -> tuple[str, str, str, str]:
    schema = parameter["schema"]
    about = " ".join((*_rules(schema), _prose(parameter["description"])))
    return _code(parameter["name"]), escape(parameter["in"]), _type(schema), about


def _answer(response: Json) -> str:
    return " or ".join(_type(content["schema"]) for content in response["content"].values())


def _schema(name: str, schema: Json) -> str:
    required = schema.get("required", ())
    rows = (
        (
            _code(field) + (' <span class="must">required</span>' if field in required else ""),
            _type(rule),
            " ".join((*_rules(rule), _prose(rule.get("description", "")))),
        )
        for field, rule in schema["properties"].items()
    )
    return f'<h3 id="{escape(name)}">{escape(name)}</h3><p>{_prose(schema.get("description", ""))}</p>' + _table(
        ("field", "type", ""), rows
    )


def _type(rule: Json) -> str:
    match rule:
        case {"$ref": ref}:
            name = escape(ref.rpartition("/")[2])
            return f'<a href="#{name}">{name}</a>'
        case {"anyOf": choices}:
            return " or ".join(_type(choice) for choice in choices)
        case {"enum": values}:
            return ", ".join(_code(str(value)) for value in values)
        case {"type": "array", "items": items}:
            return f"array of {_type(items)}"
        case {"format": form}:
            return escape(form)
        case {"type": kind}:
            return escape(kind)
        case _:
            return "any JSON"


def _rules(rule: Json) -> Iterable[str]:
    """Bounds in words; those of an optional field stand in its first choice."""
    for choice in (rule, *rule.get("anyOf", ())):
        for at_least, at_most, unit in (("minItems", "maxItems", "items"), ("minLength", "maxLength", "characters")):
            if at_most in choice:
                lower = f"{choice[at_least]} to" if at_least in choice else "At most"
                yield f"{lower} {choice[at_most]} {unit}."
            elif at_least in choice:
                yield f"At least {choice[at_least]} of them."
        if "maximum" in choice:
            yield f"{choice.get('minimum', 0)} to {choice['maximum']}."
    default = rule.get("default")
    if isinstance(default, str | int | float) and not isinstance(default, bool):
        yield f"Default {_code(str(default))}."


def _code_row(code: str) -> tuple[str, str, str]:
    kind = next(kind for name, kind in KINDS.items() if name == code)
    return f'<code id="{code}">{code}</code>', str(kind.status), f"{escape(kind.title)}. {_prose(kind.advice)}"


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """`rows` are HTML already. A narrow screen shows a row's cells below each other, each after its column's title."""
    titles = tuple(head)
    named = [f' data-of="{escape(title)}"' if title and index else "" for index, title in enumerate(titles)]
    cells = ("".join(f"<td{of}>{cell}</td>" for of, cell in zip(named, row, strict=True)) for row in rows)
    return (
        f'<table><tr class="head">{"".join(f"<th>{escape(title)}</th>" for title in titles)}</tr>'
        f"{''.join(f'<tr>{row}</tr>' for row in cells)}</table>"
    )


def _prose(text: str) -> str:
    """Text with `code` in it; an error code leads to its meaning."""
    return re.sub(r"`([^`]+)`", lambda quoted: _word(quoted[1]), escape(text))


def _word(word: str) -> str:
    return f'<a href="#{word}"><code>{word}</code></a>' if word in KINDS else f"<code>{word}</code>"


def _code(text: str) -> str:
    return f"<code>{escape(text)}</code>"
