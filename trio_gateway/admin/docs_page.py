"""`/docs`: the OpenAPI document as one page of HTML that loads nothing and runs nothing."""

from __future__ import annotations

import json
from html import escape
from itertools import groupby
from typing import Any

Json = dict[str, Any]

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 60rem; padding: 1rem; }
code, pre { font: 14px/1.45 ui-monospace, monospace; }
pre { background: var(--soft); overflow-x: auto; padding: .75rem; border-radius: 6px; }
nav a { display: inline-block; margin-right: 1rem; }
details { border: 1px solid var(--line); border-radius: 6px; margin: .5rem 0; padding: .5rem .75rem; }
summary { cursor: pointer; }
table { border-collapse: collapse; width: 100%; }
td, th { border-top: 1px solid var(--line); padding: .3rem .5rem; text-align: left; vertical-align: top; }
.method { display: inline-block; font-weight: 600; min-width: 4.5rem; }
.scope { float: right; opacity: .75; }
"""


def render(document: Json) -> str:
    """The page of an OpenAPI document."""
    info = document["info"]
    operations = [
        (entry["tags"][0], method.upper(), path, entry)
        for path, methods in document["paths"].items()
        for method, entry in methods.items()
    ]
    groups = [(tag, list(rows)) for tag, rows in groupby(operations, key=lambda row: row[0])]
    links = "".join(f'<a href="#{_anchor(tag)}">{escape(tag)}</a>' for tag, _ in groups)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{escape(info['title'])}</title><style>{_STYLE}</style></head><body>"
        f"<h1>{escape(info['title'])} {escape(info['version'])}</h1>"
        f"<p>{_prose(info['description'])}</p>"
        f'<p>For programs: <a href="/openapi.json">openapi.json</a>.</p><nav>{links}</nav>'
        + "".join(_group(tag, rows) for tag, rows in groups)
        + _schemas(document["components"]["schemas"])
        + "</body></html>"
    )


def _group(tag: str, rows: list[tuple[str, str, str, Json]]) -> str:
    inner = "".join(_operation(method, path, entry) for _, method, path, entry in rows)
    return f'<h2 id="{_anchor(tag)}">{escape(tag.capitalize())}</h2>{inner}'


def _operation(method: str, path: str, entry: Json) -> str:
    scope = entry["security"][0]["bearer"][0] if entry["security"] else "open"
    return (
        f'<details id="{escape(entry["operationId"])}"><summary><span class="method">{method}</span> '
        f'<code>{escape(path)}</code> <span class="scope">{escape(scope)}</span>'
        f"<br>{_prose(entry['summary'])}</summary>"
        + (f"<p>{_prose(entry['description'])}</p>" if "description" in entry else "")
        + _parameters(entry.get("parameters", []))
        + _body(entry.get("requestBody"))
        + _responses(entry["responses"])
        + "</details>"
    )


def _parameters(parameters: list[Json]) -> str:
    if not parameters:
        return ""
    rows = "".join(
        f"<tr><td><code>{escape(each['name'])}</code></td><td>{escape(each['in'])}</td>"
        f"<td><code>{escape(_one_line(each['schema']))}</code></td><td>{_prose(each['description'])}"
        + (f" Example: <code>{escape(str(each['example']))}</code>" if "example" in each else "")
        + "</td></tr>"
        for each in parameters
    )
    return f"<table><tr><th>Parameter</th><th>in</th><th>schema</th><th></th></tr>{rows}</table>"


def _body(body: Json | None) -> str:
    if body is None:
        return ""
    need = "" if body["required"] else " (optional)"
    return f"<h4>Body{need}</h4><p>{_prose(body['description'])}</p>{_content(body['content'])}"


def _responses(responses: Json) -> str:
    rows = "".join(
        f"<tr><td>{escape(status)}</td><td>{_prose(response['description'])}{_content(response['content'])}</td></tr>"
        for status, response in responses.items()
    )
    return f"<table><tr><th>Reply</th><th></th></tr>{rows}</table>"


def _content(content: Json) -> str:
    return "".join(
        f"<p><code>{escape(media_type)}</code> {_schema_name(shape.get('schema', {}))}</p>"
        + (f"<pre>{_pretty(shape['example'])}</pre>" if "example" in shape else "")
        for media_type, shape in content.items()
    )


def _schema_name(schema: Json) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f'<a href="#schema-{escape(name)}">{escape(name)}</a>'
    if "anyOf" in schema:
        return " or ".join(_schema_name(each) for each in schema["anyOf"])
    return escape(schema.get("type", ""))


def _schemas(schemas: Json) -> str:
    inner = "".join(
        f'<details id="schema-{escape(name)}"><summary><code>{escape(name)}</code> '
        f"{_prose(schema.get('description', ''))}</summary><pre>{_pretty(schema)}</pre></details>"
        for name, schema in sorted(schemas.items())
    )
    return f"<h2>Schemas</h2>{inner}"


def _anchor(text: str) -> str:
    return escape(text.replace(" ", "-"))


def _prose(text: str) -> str:
    """Text in which backticks mark code."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if index % 2 else part for index, part in enumerate(parts))


def _one_line(schema: Json) -> str:
    return json.dumps(schema)


def _pretty(value: Any) -> str:
    return escape(json.dumps(value, indent=2))
