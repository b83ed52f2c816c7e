"""The page of `mlspec serve`: whatever columns are called, it stays a page with one script."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

from mlspec.compilers.page import compile_page, page_policy

HOSTILE = (
    "</script><script>alert(1)</script>",
    "<!--<script>",
    '"><img src=x onerror=alert(1)>',
    "{{ 7 * 7 }}",
    "a & b &lt;",
    "line\u2028end\u2029",
    "'; alert(1); '",
    "__proto__",
    "\x00\x1b",
)


class Tags(HTMLParser):
    """The elements of a page with their attributes, and the text of its scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] == "script":
            self.scripts.append(data)


def parse(names: tuple[str, ...]) -> Tags:
    signature = {
        "columns": [{"name": name, "type": "string"} for name in names],
        "example": dict.fromkeys(names, names[0]),
    }
    tags = Tags()
    tags.feed(compile_page(names[0], "version 1", signature, "n0nce"))
    tags.close()
    return tags


def test_hostile_names_are_data_and_nothing_else() -> None:
    plain, hostile = parse(("a",)), parse(HOSTILE)
    assert hostile.tags == plain.tags
    [data] = [text for text in hostile.scripts if text.startswith("{")]
    shown = json.loads(data)
    assert [column["name"] for column in shown["columns"]] == list(HOSTILE)
    assert shown["example"] == dict.fromkeys(HOSTILE, HOSTILE[0])
    assert shown["model"] == HOSTILE[0]


def test_the_script_makes_no_markup_of_what_it_shows() -> None:
    script = "".join(parse(("a",)).scripts)
    assert "textContent" in script
    for way in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert way not in script


def test_nothing_comes_from_elsewhere() -> None:
    page = parse(("a",))
    for tag, attributes in page.tags:
        for name in ("src", "href", "action"):
            value = attributes.get(name)
            assert value is None or value.startswith(("/schema.json", "data:,")), (tag, value)
    assert not re.search(r"https?://|@import|url\(", "".join(page.scripts))


def test_only_what_has_the_nonce_runs() -> None:
    page = parse(("a",))
    running = [
        attributes
        for tag, attributes in page.tags
        if tag in ("script", "style") and attributes.get("type") != "application/json"
    ]
    assert [attributes.get("nonce") for attributes in running] == ["n0nce", "n0nce"]
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    policy = page_policy("n0nce")
    assert "default-src 'none'" in policy
    assert "unsafe-inline" not in policy
