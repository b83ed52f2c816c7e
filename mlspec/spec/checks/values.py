"""Values that other programs will read: commands, URLs, labels, versions, ports, processors."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from mlspec.spec.models import Dataset, Deployment, GitHub, Model, Spec
from mlspec.spec.show import escape, show
from mlspec.spec.tree import Path, Problem

MAX_COMMAND = 4096
_REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,38}/[A-Za-z0-9._-]{1,100}")
_RUNNER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_VERSION = re.compile(r"3\.(?:[0-9]|[1-9][0-9])(?:\.(?:0|[1-9][0-9]?))?")
_REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._/+-]{0,254}")
_GIT = ("https", "http", "ssh", "git")
_SCP = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9_.-]*@)?[A-Za-z0-9][A-Za-z0-9.-]*:(?!/?/)[^\s:][^\s]*")
_DATA = ("https", "http", "s3", "gs", "azure", "ssh")
_STORAGE = (*_DATA, "abfs", "gdrive", "hdfs", "oss", "webdav", "webdavs", "webhdfs")
_METADATA = ("metadata", "metadata.google.internal", "instance-data")


def check(spec: Spec) -> Iterator[Problem]:
    """Problems of single values outside models, and of what deployments ask their targets for."""
    yield from _storage(spec.storage.url)
    if not _VERSION.fullmatch(spec.python.version):
        message = f"{show(spec.python.version)} is not a version of Python 3"
        yield Problem("MLS075", ("python", "version"), message, 'write it as "3.11"')
    for name, dataset in spec.datasets.items():
        yield from _source(dataset, ("datasets", name, "source"))
    if spec.ci.github is not None:
        yield from _github(spec.ci.github)
    yield from _ports(spec)
    for name, deployment in spec.deployments.items():
        yield from _graphics(name, deployment, spec)


def check_model(name: str, model: Model) -> Iterator[Problem]:
    """Problems of single values of one model."""
    for stage_name, stage in model.stages.items():
        yield from _command(stage.command, ("models", name, "stages", stage_name, "command"))


def _github(github: GitHub) -> Iterator[Problem]:
    if not _RUNNER.fullmatch(github.runner):
        message = f"{show(github.runner)} is not the label of a runner"
        hint = "write a label such as ubuntu-24.04, without expressions"
        yield Problem("MLS074", ("ci", "github", "runner"), message, hint)
    if github.repository is not None and not _REPOSITORY.fullmatch(github.repository):
        message = f"{show(github.repository)} is not the name of a repository"
        hint = "write it as owner/name"
        yield Problem("MLS077", ("ci", "github", "repository"), message, hint)


def _command(command: str, at: Path) -> Iterator[Problem]:
    if not command.strip():
        yield Problem("MLS070", at, "the command is empty", "write what to run")
    elif escape(command) != command:
        hint = "put several lines into a script, or join them with `&&`"
        yield Problem("MLS070", at, "a command is one line without control characters", hint)
    elif len(command) > MAX_COMMAND:
        message = f"a command of {len(command):,} characters; the limit is {MAX_COMMAND:,}"
        yield Problem("MLS070", at, message, "put it into a script")


def _source(dataset: Dataset, at: Path) -> Iterator[Problem]:
    source = dataset.source
    if source is None:
        return
    if (source.url is None) == (source.git is None):
        message = "a source is either a `url` or a `git` repository"
        yield Problem("MLS076", at, message, "write {url: ...} or {git: ..., path: ...}", True)
    elif source.git is None:
        for key in ("path", "rev"):
            if getattr(source, key) is not None:
                yield Problem("MLS076", (*at, key), f"`{key}` goes with `git`, not with `url`")
        yield from check_url(source.url or "", (*at, "url"), _DATA)
    else:
        yield from check_repository(source.git, (*at, "git"))
        if source.path is None:
            hint = "add `path: ...`: the file or folder in that repository"
            yield Problem("MLS076", at, "`git` needs a `path`", hint, True)
        elif (
            escape(source.path) != source.path
            or source.path.startswith(("/", "-"))
            or (".." in source.path.split("/"))
        ):
            hint = "write a path inside that repository"
            yield Problem("MLS060", (*at, "path"), "the path leaves the repository", hint)
        if source.rev is not None and not _is_revision(source.rev):
            message = f"{show(source.rev)} is not the name of a branch, a tag or a commit"
            yield Problem("MLS072", (*at, "rev"), message, "write a tag, a branch or a commit")


def _is_revision(rev: str) -> bool:
    legal = _REVISION.fullmatch(rev) is not None
    return legal and ".." not in rev and "//" not in rev and not rev.endswith((".lock", ".", "/"))


def check_repository(url: str, at: Path) -> Iterator[Problem]:
    """Problems of the URL of a Git repository on another machine."""
    hint = "write https://HOST/PATH or git@HOST:PATH"
    if re.match(r"[A-Za-z0-9+.-]*::", url) or url.startswith("-") or escape(url) != url:
        yield Problem("MLS072", at, "this would make Git run a program", hint)
    elif "://" in url:
        yield from check_url(url, at, _GIT, code="MLS072")
    elif not _SCP.fullmatch(url):
        yield Problem("MLS072", at, "not the URL of a Git repository on another machine", hint)


def _storage(url: str) -> Iterator[Problem]:
    at = ("storage", "url")
    if "://" in url:
        yield from check_url(url, at, _STORAGE)
    elif escape(url) != url or not url.strip() or url.startswith(("-", "~")) or "$" in url:
        hint = "write a folder such as .mlspec/storage, or a URL such as s3://bucket/folder"
        yield Problem("MLS073", at, f"{show(url)} is neither a folder nor a URL", hint)


def check_url(
    url: str,
    at: Path,
    schemes: tuple[str, ...],
    code: str = "MLS073",
    hint: str = "give credentials to DVC or Git by their own settings, not in the spec",
) -> Iterator[Problem]:
    """Problems of a URL; `hint` says where credentials go instead."""
    credentials = hint
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        yield Problem(code, at, "not a URL that can be read", "write scheme://host/path")
        return
    if parts.scheme not in schemes:
        hint = "use one of " + ", ".join(schemes)
        yield Problem(code, at, f"URLs of the kind {show(parts.scheme)} are not taken", hint)
    elif escape(url) != url or " " in url or "\\" in url:
        yield Problem(code, at, "a URL holds no spaces, backslashes or control characters")
    elif not host or host.startswith("-") or (parts.username or "").startswith("-"):
        yield Problem(code, at, "the URL names no host, or one that reads as an option")
    elif parts.password is not None or (parts.username and parts.scheme in ("http", "https", "s3")):
        yield Problem(code, at, "the URL holds credentials", credentials)
    elif is_internal(host):
        hint = "name the host that holds the data"
        yield Problem(code, at, "the URL leads to a machine's own metadata or link", hint)


def is_internal(host: str) -> bool:
    """Whether a host is a machine's own metadata service, or is none that others reach."""
    if host.lower().rstrip(".") in _METADATA:
        return True
    try:
        address = ipaddress.ip_address(
            int(host, 0) if re.fullmatch("0x[0-9a-f]+|[0-9]+", host) else host
        )
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None) or address
    return bool(mapped.is_link_local or mapped.is_multicast or mapped.is_unspecified)


def _ports(spec: Spec) -> Iterator[Problem]:
    ports: dict[tuple[str | None, int], str] = {}
    machines = ("compose", "local", "ssh")
    local = {name: target for name, target in spec.targets.items() if target.kind in machines}
    for name, target in local.items():
        other = ports.setdefault((target.host, target.port), name)
        if other != name:
            message = f"target `{other}` listens on port {target.port} too"
            yield Problem("MLS046", ("targets", name, "port"), message, _free_port(spec))
    users: dict[str, str] = {}
    for name, deployment in spec.deployments.items():
        for index, target_name in enumerate(deployment.targets):
            if target_name not in local:
                continue
            other = users.setdefault(target_name, name)
            if other != name:
                message = f"deployment `{other}` listens on the port of `{target_name}` already"
                hint = f"add a target of its own; {_free_port(spec)}"
                yield Problem("MLS046", ("deployments", name, "targets", index), message, hint)


def _graphics(name: str, deployment: Deployment, spec: Spec) -> Iterator[Problem]:
    known = next((target for target in deployment.targets if target in spec.targets), None)
    if deployment.resources.gpus and known is not None:
        kind = spec.targets[known].kind
        message = f"target `{known}` is {kind} and gives no graphics processors"
        at = ("deployments", name, "resources", "gpus")
        yield Problem("MLS047", at, message, "leave `gpus` out: services answer on processors")


def _free_port(spec: Spec) -> str:
    used = {target.port for target in spec.targets.values()}
    free = next(port for port in range(3000, 65536) if port not in used)
    return f"port {free} is free in this spec"
