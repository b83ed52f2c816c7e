"""The page of `mlspec serve`: whatever columns are called, it stays a page with one script."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

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


SIGNATURE = {
    "columns": [
        {"name": "amount", "type": "number"},
        {"name": 'a "b" <i>', "type": "integer"},
        {"name": "__proto__", "type": "string"},
        {"name": "new", "type": "boolean"},
        {"name": "rate", "type": "number", "missing": True},
    ],
    "example": {"amount": 0.5, 'a "b" <i>': 2, "__proto__": "A", "new": False, "rate": None},
}


def browse(steps: list[dict[str, Any]], answers: list[Any]) -> dict[str, Any]:
    """Run the page's script, in a browser that has just what it needs."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs node")
    page = Tags()
    page.feed(compile_page("loans", "version 1", SIGNATURE, "n0nce"))
    data, script = (text for text in page.scripts if text.strip())
    done = subprocess.run(
        [node, str(Path(__file__).with_name("browser.js"))],
        input=json.dumps({"data": data, "script": script, "steps": steps, "answers": answers}),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


GOOD = [200, {"id": "x", "version": 1, "predictions": [1], "probabilities": [[0.25, 0.75]]}]


def test_a_row_of_the_form() -> None:
    digits = "9007199254740993"
    fill = {"column-0": "1e3", "column-1": digits, "column-2": "007", "column-3": "true"}
    wrong = [422, {"error": "no", "problems": [{"row": 0, "column": "amount", "problem": "bad"}]}]
    found = browse(
        [
            {"click": "ask-one"},
            {"click": "ask-one", "fill": fill},
            {"click": "ask-one", "fill": {"column-0": "much"}},
        ],
        [GOOD, GOOD, wrong],
    )
    example, filled, refused = found["sent"]
    assert json.loads(example["body"]) == {"rows": [SIGNATURE["example"]]}
    assert (example["url"], example["method"]) == ("/predict", "POST")
    assert f':{digits},"__proto__":"007","new":true' in filled["body"]
    assert '"amount":"much"' in refused["body"]
    assert "0|1|0.2500  0.7500" in found["shown"][0]
    assert found["shown"][2] == "no|row 0|amount|bad"
    assert found["wrong"] == ["column-0"]
    assert found["title"] == "loans, version 1"
    assert 'a "b" <i>' in found["form"]


def test_many_rows() -> None:
    row = '{"amount":1}'
    csv = 'amount,"a ""b"" <i>",__proto__,new,rate\r\n1,2,"x, y",true,\r\n2,3,,FALSE,4\r\n'
    texts = [f"[{row},{row}]", f"{row}\n{row}\n", '{"rows": []}', csv, "{", "amount,new\n1\n"]
    steps = [{"click": "ask-many", "fill": {"many": text}} for text in texts]
    found = browse([{"click": "ask-many"}, *steps], [GOOD] * 7)
    bodies = [each["body"] for each in found["sent"]]
    assert json.loads(bodies[0]) == {"rows": [SIGNATURE["example"]]}
    assert bodies[1] == bodies[2] == f'{{"rows":[{row},{row}]}}'
    assert bodies[3] == '{"rows": []}'
    assert json.loads(bodies[4]) == {
        "rows": [
            {"amount": 1, 'a "b" <i>': 2, "__proto__": "x, y", "new": True, "rate": None},
            {"amount": 2, 'a "b" <i>': 3, "__proto__": "", "new": False, "rate": 4},
        ]
    }
    assert bodies[5] == "{"
    assert len(bodies) == 6
    assert found["shown"][6] == "row 0: has 1 values, the header 2|"
