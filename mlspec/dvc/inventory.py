"""What a DVC repository has, as plain data; runs in DVC's process (:mod:`mlspec.dvc.worker`).

Comes in: DVC's own repository object, which resolves `${}`, `foreach` and `matrix`. Goes out: what
:func:`take` gives, with every path from the root. Nothing is changed.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

_HARMLESS = frozenset({"remote", "analytics", "autostage", "check_update"})
"""Of the section `core`: what mlspec generates, or would."""


def take(repo: Any) -> dict[str, Any]:
    """`stages`, `data` (`.dvc` files without a command), `artifacts`, and what else there is.

    Raises what DVC raises for files that it refuses.
    """
    root = Path(repo.root_dir)
    lines = _Lines(root)
    index = repo.index
    stages: list[dict[str, Any]] = []
    data: list[dict[str, Any]] = []
    for stage in index.stages:
        file = Path(stage.path).relative_to(root).as_posix()
        (stages if stage.cmd else data).append(_stage(stage, file, root, lines))
    return {
        "stages": sorted(stages, key=lambda each: (each["file"], each["line"], each["name"])),
        "data": sorted(data, key=lambda each: str(each["file"])),
        "artifacts": list(_artifacts(index, root, lines)),
        "extras": list(_extras(index, root, lines)),
        "settings": _settings(root),
        "cache": str(Path(repo.cache.local.path).parents[1]),
    }


def _stage(stage: Any, file: str, root: Path, lines: _Lines) -> dict[str, Any]:
    from dvc.dependency import ParamsDependency

    name = getattr(stage, "name", None) or ""
    params = [dep for dep in stage.deps if isinstance(dep, ParamsDependency)]
    return {
        "file": file,
        "name": name,
        "line": lines.of(file, "stages", name) or lines.of(file, "stages", name.rpartition("@")[0]),
        "cmd": stage.cmd,
        "wdir": _inside(stage.wdir, root),
        "frozen": bool(stage.frozen),
        "always": bool(stage.always_changed or stage.is_callback),
        "changed": bool(stage.changed_stage()),
        "deps": [_dep(dep, root) for dep in stage.deps if not isinstance(dep, ParamsDependency)],
        "params": [_params(dep, root) for dep in params],
        "outs": [_out(out, root) for out in stage.outs],
    }


def _dep(dep: Any, root: Path) -> dict[str, Any]:
    found = {"path": _place(dep, root), **_hash(dep)}
    if getattr(dep, "def_repo", None):
        repo = dict(dep.def_repo)
        found["repo"] = {"url": repo.pop("url", ""), "rev": repo.pop("rev", None)}
        found["path"] = str(dep.def_path)
        found["special"] = sorted(set(repo) - {"rev_lock"})
    elif type(dep).__name__ not in ("Dependency",):
        found["special"] = [type(dep).__name__]
    return found


def _params(dep: Any, root: Path) -> dict[str, Any]:
    changed = dep.status().get(str(dep)) or {}
    return {
        "path": _place(dep, root),
        "values": {str(key): value for key, value in dep.read_params().items()},
        "changed": [changed] if isinstance(changed, str) else list(changed),
    }


def _out(out: Any, root: Path) -> dict[str, Any]:
    return {
        "path": _place(out, root),
        **_hash(out),
        "cache": bool(out.use_cache),
        "metric": bool(out.metric),
        "plotted": isinstance(out.plot, dict),
        "persist": bool(out.persist),
        "remote": out.remote or "",
        "push": bool(out.can_push),
    }


def _hash(out: Any) -> dict[str, Any]:
    """As the lock or the `.dvc` file has it; an empty `md5` says that it has none."""
    info, meta = out.hash_info, out.meta
    return {
        "md5": info.value if info and isinstance(info.value, str) else "",
        "hash": out.hash_name or "",
        "size": meta.size if meta else None,
        "nfiles": meta.nfiles if meta else None,
        "isexec": bool(meta and meta.isexec),
    }


def _place(out: Any, root: Path) -> str:
    """From the root; absolute or with a scheme when it is outside of the repository."""
    if out.protocol != "local" or "://" in str(out.def_path):
        return str(out.def_path)
    return _inside(out.fs_path, root)


def _inside(path: str, root: Path) -> str:
    try:
        return Path(path).relative_to(root).as_posix()
    except ValueError:
        return str(path)


def _artifacts(index: Any, root: Path, lines: _Lines) -> Iterator[dict[str, Any]]:
    for file, name, body in _declared(index._artifacts, root):
        path = body.get("path", "") if isinstance(body, Mapping) else ""
        yield {
            "file": file,
            "name": name,
            "line": lines.of(file, "artifacts", name),
            "path": posixpath.normpath(posixpath.join(posixpath.dirname(file), str(path))),
        }


def _declared(sections: Mapping[str, Any], root: Path) -> Iterator[tuple[str, str, Any]]:
    for file, section in sorted(sections.items()):
        where = _inside(file, root) if Path(file).is_absolute() else Path(file).as_posix()
        for name, body in (section or {}).items():
            yield where, str(name), body


def _extras(index: Any, root: Path, lines: _Lines) -> Iterator[dict[str, Any]]:
    """Sections of a dvc.yaml that say how results are shown."""
    found = {("plots", _relative(file, root)) for file, body in index._plots.items() if body}
    found |= {("datasets", _relative(file, root)) for file, body in index._datasets.items() if body}
    for section, file in sorted(found):
        yield {"file": file, "section": section, "line": lines.of(file, section, "")}


def _relative(file: str, root: Path) -> str:
    return _inside(file, root) if Path(file).is_absolute() else Path(file).as_posix()


class _Lines:
    """Where something stands in a YAML file; DVC does not say."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._known: dict[str, dict[tuple[str, str], int]] = {}

    def of(self, file: str, section: str, name: str) -> int:
        """The line of a key of a section, or of the section itself; 0 if it is not there."""
        if file not in self._known:
            self._known[file] = dict(self._read(file))
        return self._known[file].get((section, name), 0)

    def _read(self, file: str) -> Iterator[tuple[tuple[str, str], int]]:
        top = yaml.compose((self._root / file).read_text("utf-8"), Loader=yaml.SafeLoader)
        for key, value in top.value if isinstance(top, yaml.MappingNode) else ():
            yield (key.value, ""), key.start_mark.line + 1
            for inner, _ in value.value if isinstance(value, yaml.MappingNode) else ():
                yield (key.value, str(inner.value)), inner.start_mark.line + 1


def _settings(root: Path) -> dict[str, Any]:
    """The default remote, and `local`: what `.dvc/config.local` has to say from now on.

    mlspec generates `.dvc/config` with one remote, called `storage`. What else the old one had goes
    to the file that each checkout has for itself. `moved` names what that is, without values.
    """
    from configobj import ConfigObj

    old = ConfigObj(str(root / ".dvc/config"), encoding="utf-8")
    local = ConfigObj(str(root / ".dvc/config.local"), encoding="utf-8")
    core = old.get("core", {})
    default = local.get("core", {}).pop("remote", None) or core.get("remote", "")
    remote = f'remote "{default}"'
    url = old.get(remote, {}).get("url") or local.get(remote, {}).get("url", "")
    moved = []
    for section, options in [*local.items(), *old.items()]:
        name = 'remote "storage"' if section == remote else section
        for option, value in options.items():
            if section == remote and option == "url" and value == url:
                continue
            if section == "core" and option in _HARMLESS:
                continue
            if option in old.get(section, {}):
                moved.append(f"{section}.{option}")
            local.setdefault(name, {}).setdefault(option, value)
    if default != "storage":
        local.pop(remote, None)
    for section in [section for section, options in local.items() if not options]:
        del local[section]
    local.filename = local.encoding = None  # so that writing gives lines of text
    return {
        "remote": default,
        "url": url,
        "local": "\n".join([*local.write(), ""]) if local else "",
        "moved": sorted(set(moved)),
    }
