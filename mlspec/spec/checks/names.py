"""Names: what they may be made of, and when two are too alike.

A name becomes part of paths, Git refs, DVC stages, image tags, job ids and URLs, so it holds only
what all of them take.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from mlspec.spec.show import show
from mlspec.spec.tree import SECTIONS, Node, Path, Problem, find

MAX_NAME = 63
PATTERN = re.compile(r"[a-z][a-z0-9-]{0,62}")
RESERVED = frozenset(
    {"all", "aux", "con", "default", "head", "latest", "nul", "prn"}
    | {f"{port}{number}" for port in ("com", "lpt") for number in range(1, 10)}
    | {".git", ".dvc", ".mlspec", "__proto__"}
)


@dataclass(frozen=True, slots=True)
class Names:
    """Every name that is declared, also those of resources that are wrong in themselves."""

    declared: Mapping[Path, Collection[str]]
    """The names in a section (`("models",)`) or of a model's stages and gates."""
    complete: bool = True
    """Whether all models are among them: a `matrix` that is wrong has members nobody knows."""

    @classmethod
    def of(cls, top: Node, *, complete: bool = True) -> Names:
        declared: dict[Path, Collection[str]] = {}
        for section in SECTIONS:
            declared[(section,)] = _keys(top, section)
        for model in declared[("models",)]:
            node = find(top, ("models", model))
            for inner in ("stages", "gates"):
                declared[("models", model, inner)] = _keys(node, inner)
        return cls(declared, complete)

    def within(self, *path: str) -> Collection[str]:
        """The names declared in a section, or in a part of a model."""
        return self.declared.get(path, ())

    def may_be_member(self, name: str) -> bool:
        """Whether a model's name that nobody declares may be that of a member."""
        return not self.complete and name not in self.within("models")

    def check(self) -> Iterator[Problem]:
        """Problems of the names themselves."""
        for path, names in self.declared.items():
            for name in names:
                if not is_fine(name) or "stages" in path:
                    yield from check_name(name, (*path, name), on_key=True)
            yield from _check_alike(path, names)


def check_project(top: Node) -> Iterator[Problem]:
    """Problems of the project's name."""
    project = top.value.get("project") if isinstance(top.value, dict) else None
    if project is not None and isinstance(project.value, str):
        yield from check_name(project.value, ("project",), on_key=False)


def check_tags(tags: Iterable[str], path: Path) -> Iterator[Problem]:
    """Tags that are not words, such as expressions select them by."""
    for index, tag in enumerate(tags):
        if not is_fine(tag):
            message = f"the tag {show(tag)} is not a word"
            hint = f"{_better(tag)}: a tag is made of a-z, 0-9 and hyphens, as names are"
            yield Problem("MLS030", (*path, "tags", index), message, hint)


@lru_cache(maxsize=4096)
def is_fine(name: str) -> bool:
    """Whether a name has none of the problems that names may have."""
    fits = PATTERN.fullmatch(name) is not None and not name.endswith("-")
    return fits and name not in RESERVED


def _keys(node: Node, key: str) -> Collection[str]:
    inner = node.value.get(key) if isinstance(node.value, dict) else None
    return inner.value if inner is not None and isinstance(inner.value, dict) else ()


def check_name(name: str, path: Path, *, on_key: bool) -> Iterator[Problem]:
    # A stage `python` would share its key in params.json with the version of Python.
    if name.lower() in RESERVED or (name == "python" and "stages" in path[:-1]):
        message = "this name has a meaning of its own to Git, DVC, a file system or mlspec"
        yield Problem("MLS031", path, message, "choose another name", on_key)
    elif not PATTERN.fullmatch(name) or name.endswith("-"):
        yield Problem("MLS030", path, _what_is_wrong(name), _better(name), on_key)


def _what_is_wrong(name: str) -> str:
    if len(name) > MAX_NAME:
        return f"a name of {len(name)} characters; the limit is {MAX_NAME}"
    foreign = next((character for character in name if ord(character) > 127), None)
    if foreign:
        title = unicodedata.name(foreign, "an unnamed character").lower()
        return f"a name may not hold {title}, however much it looks like a letter"
    return "a name starts with a letter and holds a-z, 0-9 and single hyphens between them"


def _better(name: str) -> str:
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:MAX_NAME].rstrip("-")
    slug = slug if slug[:1].isalpha() else f"m-{slug}".rstrip("-")
    return f"write `{slug}`" if slug not in RESERVED and len(slug) > 2 else "choose another name"


def _check_alike(path: Path, names: Iterable[str]) -> Iterator[Problem]:
    seen: dict[str, str] = {}
    for name in names:
        plain = "--" not in name and is_fine(name)
        folded = name if plain else re.sub(r"[^a-z0-9]+", "-", name.casefold())
        other = seen.setdefault(folded, name)
        if other != name:
            message = f"the names `{other}` and `{name}` differ only in case or punctuation"
            yield Problem("MLS032", (*path, name), message, "rename one of them", on_key=True)
