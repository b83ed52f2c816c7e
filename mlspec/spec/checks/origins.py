"""Models that others made: one source, said so that it stays the same, and a licence.

Nothing here asks anybody: a plan that names a source does not touch it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from mlspec.fingerprint import FETCH
from mlspec.spec.checks.values import check_repository, check_url
from mlspec.spec.models import Artifact, Fetch, Model, Origin
from mlspec.spec.show import escape, show
from mlspec.spec.suggest import closest
from mlspec.spec.tree import Path, Problem

SOURCES = ("url", "git", "hf-folder", "oci", "mlflow")
FOLDERS = frozenset({"transformers"})
"""Formats of artifacts that are a folder; those of others are one file."""
COMMON = (
    *("Apache-2.0", "MIT", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MPL-2.0", "CC0-1.0"),
    *("CC-BY-4.0", "CC-BY-SA-4.0", "CC-BY-NC-4.0", "CC-BY-NC-SA-4.0", "CC-BY-NC-ND-4.0"),
    *("GPL-2.0-only", "GPL-3.0-only", "GPL-3.0-or-later", "LGPL-3.0-only", "AGPL-3.0-only"),
    *("Unlicense", "BSL-1.0", "EPL-2.0", "EUPL-1.2", "WTFPL", "Zlib", "unknown", "other"),
)
"""What models are mostly under: for hints, not a limit."""

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_VERSIONED = re.compile(r"[^/:]/[1-9][0-9]*\Z")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]*(?:/[A-Za-z0-9_][A-Za-z0-9._+-]*)*")
_REPOSITORY = re.compile(
    r"(?:localhost|[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+|\[[0-9a-f:]+\]|[A-Za-z0-9-]+(?=:))(?::[0-9]{1,5})?"
    r"(?:/[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*){1,8}"
)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")
_LOOPBACK = re.compile(r"http://(?:localhost|127\.0\.0\.1|\[::1\])[:/]")


def check_model(name: str, model: Model) -> Iterator[Problem]:
    """Problems of where a model of others comes from."""
    if model.from_ is None:
        return
    at = ("models", name, "from")
    yield from check_origin(model.from_, at)
    yield from _licence(model.from_, at)
    if model.from_.hf_folder and model.from_.path is None:
        yield from _single(model.artifact, at)
    fetch = model.stages.get(FETCH)
    if fetch is not None and not isinstance(fetch, Fetch):
        message = f"the stage that brings a model of others is called `{FETCH}`"
        where = ("models", name, "stages", FETCH)
        yield Problem("MLS078", where, message, "give yours another name", on_key=True)


def check_origin(origin: Origin, at: Path = (), *, pinned: bool = True) -> Iterator[Problem]:
    """Problems of the source alone; if not `pinned`, its digest is still to be found."""
    yield from _source(origin, at, pinned=pinned)
    yield from _details(origin, at)
    if pinned and not _DIGEST.fullmatch(origin.digest):
        message = f"{show(origin.digest)} is not the digest of a file"
        hint = "write `sha256:` and 64 characters: `mlspec fetch` tells them, or `sha256sum FILE`"
        yield Problem("MLS078", (*at, "digest"), message, hint)


def _single(artifact: Artifact | None, at: Path) -> Iterator[Problem]:
    if artifact is not None and artifact.format not in FOLDERS:
        message = f"a model in {artifact.format} is one file, and `hf-folder` names a folder"
        hint = "add `path: ...`, such as onnx/model.onnx: the file in that folder"
        yield Problem("MLS078", at, message, hint, on_key=True)


def _source(origin: Origin, at: Path, *, pinned: bool) -> Iterator[Problem]:
    given = [key for key in SOURCES if getattr(origin, key.replace("-", "_")) is not None]
    if len(given) != 1:
        said = " and ".join(f"`{key}`" for key in given) or "none"
        message = f"a model comes from one source, and this names {said}"
        yield Problem("MLS078", at, message, f"keep one of {', '.join(SOURCES)}", on_key=True)
        return
    if origin.url is not None:
        yield from _url(origin.url, (*at, "url"))
    if origin.git is not None:
        yield from _git(origin, at)
    if origin.hf_folder is not None:
        yield from _folder(origin.hf_folder, (*at, "hf-folder"))
    if origin.oci is not None and not _is_repository(origin.oci, pinned=pinned):
        message = f"{show(origin.oci)} is not a repository of a registry"
        hint = (
            "write HOST/REPOSITORY, such as ghcr.io/team/credit; what of it is meant, says digest"
        )
        yield Problem("MLS078", (*at, "oci"), message, hint)
    if origin.mlflow is not None:
        yield from _mlflow(origin.mlflow, (*at, "mlflow"))


def _url(url: str, at: Path) -> Iterator[Problem]:
    if url.startswith("file:///") and escape(url) == url and "%" not in url and "?" not in url:
        return
    found = [*check_url(url, at, ("https", "http"), hint=_BY_REFERENCE)]
    yield from found
    if not found and url.startswith("http:") and not _LOOPBACK.match(f"{url}/"):
        message = "what comes over http may be read and changed on its way"
        yield Problem("MLS073", at, message, "write https://; http is for this machine only")


_BY_REFERENCE = "leave them out, and name the variable that holds a token: `token_env: NAME`"


def _git(origin: Origin, at: Path) -> Iterator[Problem]:
    assert origin.git is not None
    here = origin.git.startswith("file:///") and escape(origin.git) == origin.git
    if not here:
        yield from check_repository(origin.git, (*at, "git"))
    for key, example in (("rev", "a tag, or a whole commit"), ("path", "the file in it")):
        if getattr(origin, key) is None:
            yield Problem(
                "MLS078", at, f"`git` needs `{key}`", f"add `{key}: ...`: {example}", True
            )
    if origin.rev is not None and (not _TAG.fullmatch(origin.rev) or ".." in origin.rev):
        message = f"{show(origin.rev)} is neither a tag nor a commit"
        yield Problem("MLS072", (*at, "rev"), message, "write a tag, or all of a commit's name")


def _folder(folder: str, at: Path) -> Iterator[Problem]:
    wrong = not folder.strip() or escape(folder) != folder or folder.startswith(("-", "~"))
    if wrong or "$" in folder or "://" in folder or ".." in folder.split("/"):
        message = f"{show(folder)} is not a folder of this repository or of this machine"
        hint = "write a path from the top of the repository, or a whole one such as /srv/models/x"
        yield Problem("MLS078", at, message, hint)


def _mlflow(where: str, at: Path) -> Iterator[Problem]:
    registry, mark, which = where.rpartition("#")
    if escape(where) != where or not (mark and registry and _VERSIONED.search(which)):
        message = f"{show(where)} does not name a version in a registry of MLflow"
        hint = "write http://HOST#MODEL/VERSION or FOLDER#MODEL/VERSION"
        yield Problem("MLS078", at, message, hint)
    elif "://" in registry:
        yield from check_url(registry, at, ("https", "http"))


def _details(origin: Origin, at: Path) -> Iterator[Problem]:
    """The keys that go with one source or another, and the digest."""
    goes_with = {
        "rev": ("git",),
        "path": ("git", "hf_folder", "oci", "unpack"),
        "unpack": ("url",),
        "max_size": ("url", "git", "hf_folder", "oci"),
        "token_env": ("url", "oci"),
    }
    for key, others in goes_with.items():
        if getattr(origin, key) is not None and not any(getattr(origin, each) for each in others):
            named = ", ".join(f"`{each.replace('_', '-')}`" for each in others)
            hint = (
                "for a file of an archive, `unpack: zip` or `unpack: tar`" if key == "path" else ""
            )
            yield Problem("MLS078", (*at, key), f"`{key}` goes with {named}", hint)
    if origin.unpack is not None and origin.path is None:
        hint = "add `path: ...`: the file in the archive"
        yield Problem("MLS078", at, "`unpack` needs `path`", hint, on_key=True)
    if origin.path is not None and not is_inside(origin.path):
        hint = "write its path from there, without `..`"
        yield Problem("MLS060", (*at, "path"), f"{show(origin.path)} leads elsewhere", hint)
    if origin.token_env is not None and not _VARIABLE.fullmatch(origin.token_env):
        message = "`token_env` is the name of an environment variable"
        hint = "write its name, such as HF_TOKEN; never the token"
        yield Problem("MLS078", (*at, "token_env"), message, hint)


def _is_repository(where: str, *, pinned: bool) -> bool:
    """HOST/REPOSITORY; as long as it is not pinned, with a tag."""
    host, slash, name = where.partition("/")
    if not pinned:
        name, colon, tag = name.partition(":")
        if colon and not _TAG.fullmatch(tag):
            return False
    return _REPOSITORY.fullmatch(f"{host}{slash}{name}") is not None


def is_inside(path: str) -> bool:
    """Whether a path leads into what it counts from, on any system."""
    parts = path.split("/")
    plain = escape(path) == path and "\\" not in path and not path.startswith("-")
    return plain and all(part not in ("", ".", "..") for part in parts)


def _licence(origin: Origin, at: Path) -> Iterator[Problem]:
    said, url = origin.licence, origin.licence_url
    if url is not None:
        yield from check_url(url, (*at, "licence_url"), ("https",))
    if not said.strip() or escape(said) != said:
        hint = "write its name, such as Apache-2.0, or `unknown` if nobody can say"
        yield Problem("MLS078", (*at, "licence"), "the licence is not said", hint)
    elif said == "other":
        if url is None:
            hint = "add `licence_url: https://...`, where it can be read"
            yield Problem("MLS079", (*at, "licence"), "nobody can tell which licence it is", hint)
    elif said != "unknown" and not _is_spdx(said):
        near = closest(said, COMMON)
        hint = f"did you mean `{near}`? " if near else "write its SPDX identifier; "
        hint += "a licence of its own is `other`, with `licence_url`"
        message = f"{show(said)} is not a licence that SPDX knows"
        yield Problem("MLS079", (*at, "licence"), message, hint)


def _is_spdx(expression: str) -> bool:
    # only where a model of others is named: planning does without it
    from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

    try:
        canonicalize_license_expression(expression)
    except InvalidLicenseExpression:
        return False
    return True
