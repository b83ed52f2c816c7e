"""Stages a release: a compiled service, an artifact and its description in; a built Bento out.

A service that runs without BentoML is laid out as a Bento is, by this process.

A release is a folder `.mlspec/releases/<digest12>/`, complete or not there at all, which nothing
changes afterwards::

    release.json            what it is: :class:`Release`, and the md5 of each file of its Bento
    home/bentos/<name>/<version>/   the Bento, in a BENTOML_HOME of its own
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mlspec.atomic import naming
from mlspec.children import make_command, withhold_credentials
from mlspec.compilers.naming import artifact_name
from mlspec.dvc.hashing import md5_of_dir
from mlspec.errors import MlspecError
from mlspec.fingerprint import release_digest
from mlspec.plan import canonical_json
from mlspec.providers.local.rundir import list_runs, load_state
from mlspec.providers.target import Release

RELEASES = ".mlspec/releases"
SERVICE_FILES = ("bentofile.yaml", "requirements.txt", "service.py")
BUILD_TIMEOUT = 120.0
STAGING = ".staging-"
ABANDONED_SECONDS = 3600.0
_new_md5 = partial(hashlib.md5, usedforsecurity=False)
KEPT = 3
"""Releases of a deployment that are kept besides those that run."""


def stage_release(
    root: Path,
    service_dir: Path,
    artifact: Path,
    model_json: Mapping[str, Any],
    settings: Mapping[str, Any],
    commit_time: int,
    python: str = sys.executable,
    names: Sequence[str] = SERVICE_FILES,
    code_root: Path | None = None,
    service: str = "",
) -> Release:
    """Build the release, unless it is there already, whole and of these files.

    `names` are those of the service's files; without a `bentofile.yaml` BentoML is not needed.

    `model_json` is {model, version, digest, commit, signature}; `digest` is the artifact's md5.
    `settings` are {cpus, memory, capture}, and `code` of a class of the user's: the md5 of each of
    its files by their paths from `code_root`, which is `root` if nothing is said. `commit_time`
    stands in the Bento instead of the clock. The service is called as its folder if not `service`.
    """
    files = {name: (service_dir / name).read_text(encoding="utf-8") for name in names}
    name = service or service_dir.name
    digest = release_digest(files, settings, model_json["digest"], model_json["version"])
    texts = {**files, "model/model.json": canonical_json(model_json)}
    model = f"model/{artifact_name(artifact.name)}"
    folder = root / RELEASES / digest[:12]
    code = {f"code/{path}": md5 for path, md5 in settings.get("code", {}).items()}
    with suppress(MlspecError):
        sources = _sources(texts) | _artifact_sources(artifact, model, model_json["digest"])
        kept = load_release(folder, sources | code)
        os.utime(folder)
        return kept
    folder.parent.mkdir(parents=True, exist_ok=True)
    _clear_abandoned(folder.parent)
    staging = Path(tempfile.mkdtemp(prefix=STAGING, dir=folder.parent))
    try:
        _write_sources(staging / "source", texts, artifact, model, model_json["digest"])
        _write_code(staging / "source", code, code_root or root)
        if "bentofile.yaml" in files:
            bento = _build_bento(staging, model_json, commit_time, python)
            shutil.rmtree(staging / "source")
        else:
            bento = staging.resolve() / "home/bentos" / name / _version(model_json)
            bento.mkdir(parents=True)
            (staging / "source").rename(bento / "src")
        content = {
            "digest": digest,
            "bento": bento.relative_to(staging.resolve()).as_posix(),
            "tag": f"{bento.parent.name}:{bento.name}",
            "model": model_json["model"],
            "version": model_json["version"],
            **_split_settings(settings),
            "settings": dict(settings),
            "tree": _hash_tree(bento),
        }
        (staging / "release.json").write_text(json.dumps(content), encoding="utf-8")
        _sync(staging)
        _replace(folder, staging)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return load_release(folder)


def load_release(folder: Path, sources: Mapping[str, str] = MappingProxyType({})) -> Release:
    """The release in a folder; `MlspecError` if it is not there or not as it was staged.

    `sources` are the md5 of what it must have been built from, by path.
    """
    problem = "not a release"
    with suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
        content = json.loads((folder / "release.json").read_bytes())
        tree = content.pop("tree")
        release = Release(**{**content, "path": folder, "bento": folder / content["bento"]})
        found = _hash_tree(release.bento)
        if found == tree and all(
            found[f"src/{name}"] == digest for name, digest in sources.items()
        ):
            return release
        problem = "its files are not those that were staged"
    raise MlspecError(f"{folder}: {problem}", hint="run `mlspec apply`, which stages it again")


def prune_releases(root: Path) -> None:
    """Remove all but the last of each deployment, and what a supervisor runs or ran last."""
    named = {state.get("folder") for run_dir in list_runs(root) if (state := load_state(run_dir))}
    of_deployment: dict[str, list[Path]] = defaultdict(list)
    for bento in (root / RELEASES).glob("[!.]*/home/bentos/*"):
        of_deployment[bento.name].append(bento.parents[2])
    for folders in of_deployment.values():
        newest_first = sorted(folders, key=lambda folder: folder.stat().st_mtime_ns, reverse=True)
        for folder in newest_first[KEPT:]:
            if str(folder.resolve()) not in named:
                shutil.rmtree(folder, ignore_errors=True)


def _split_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Each worker is one processor; they share the memory."""
    workers = max(1, -int(-float(settings.get("cpus", 1)) // 1))
    memory, capture = settings.get("memory"), settings.get("capture")
    return {
        "workers": workers,
        "memory": int(memory) // workers if memory else None,
        "capture": capture["sample"] if capture else None,
    }


def _sources(texts: Mapping[str, str]) -> dict[str, str]:
    """The md5 of what a Bento includes; `bentofile.yaml` only says how it is built."""
    included = {name: text for name, text in texts.items() if name != "bentofile.yaml"}
    return {name: _new_md5(text.encode()).hexdigest() for name, text in included.items()}


def _artifact_sources(artifact: Path, model: str, digest: str) -> dict[str, str]:
    """The md5 of an artifact's file, or of each file of one that is a folder, by its path."""
    if not artifact.is_dir():
        return {model: digest}
    return {f"{model}/{name}": _md5(path) for name, path in _files_of(artifact).items()}


def _files_of(artifact: Path) -> dict[str, Path]:
    """By their paths in it; of an artifact that is a file, itself by an empty path."""
    if not artifact.is_dir():
        return {"": artifact}
    inner = (path for path in sorted(artifact.rglob("*")) if path.is_file())
    return {path.relative_to(artifact).as_posix(): path for path in inner}


def _write_sources(
    folder: Path, texts: Mapping[str, str], artifact: Path, model: str, digest: str
) -> None:
    (folder / "model").mkdir(parents=True)
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    # A DVC checkout may be a link into the cache, which a container would not have.
    files = _files_of(artifact)
    for name, path in files.items():
        (place := folder / model / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path.resolve(strict=True), place)
    md5s = {name: _md5(folder / model / name) for name in files}
    actual = md5_of_dir(md5s) if artifact.is_dir() else md5s[""]
    if actual != digest:
        raise MlspecError(
            f"{artifact}: its md5 is {actual}, but the version was registered with {digest}",
            hint="run `mlspec apply`, which takes the registered file from storage",
        )


def _write_code(folder: Path, code: Mapping[str, str], root: Path) -> None:
    """Copy what a class of the user's is made of, which may have changed since it was planned."""
    for name, md5 in code.items():
        source, place = root / name.removeprefix("code/"), folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        with naming(source):
            shutil.copyfile(source, place)
        if _md5(place) != md5:
            raise MlspecError(f"{source}: it changed since the plan was made", hint="plan again")


def _hash_tree(folder: Path) -> dict[str, str]:
    """The md5 of each file by its path, and where each link leads."""
    return {path.relative_to(folder).as_posix(): digest for path, digest in _digests(folder)}


def _digests(folder: Path) -> Iterator[tuple[Path, str]]:
    for path in folder.rglob("*"):
        if path.is_symlink():
            yield path, f"link to {path.readlink()}"
        elif path.is_file():
            yield path, _md5(path)


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, _new_md5).hexdigest()


def _build_bento(
    staging: Path, model_json: Mapping[str, Any], commit_time: int, python: str
) -> Path:
    version = _version(model_json)
    home = staging.resolve() / "home"
    home.mkdir()
    environment = {
        **withhold_credentials(),
        "BENTOML_HOME": str(home),
        "BENTOML_DO_NOT_TRACK": "True",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    try:
        done = subprocess.run(
            make_command("mlspec.providers.local.build", version, str(commit_time), python=python),
            cwd=staging / "source",
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=BUILD_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise _not_built(model_json, f"it took more than {BUILD_TIMEOUT:.0f} s") from None
    built = list(home.glob(f"bentos/*/{version}/bento.yaml"))
    if done.returncode or len(built) != 1:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise _not_built(model_json, lines[-1] if lines else f"exit code {done.returncode}")
    return built[0].parent


def _version(model_json: Mapping[str, Any]) -> str:
    """Of a Bento: the commit and the artifact."""
    return f"g{(model_json.get('commit') or 'none')[:12]}-m{model_json['digest'][:12]}".lower()


def _not_built(model_json: Mapping[str, Any], why: str) -> MlspecError:
    return MlspecError(f"the service of {model_json['model']} was not built: {why}")


def _clear_abandoned(releases: Path) -> None:
    """What an apply that was killed left; no build takes as long as that."""
    for folder in releases.glob(f"{STAGING}*"):
        if time.time() - folder.stat().st_mtime > ABANDONED_SECONDS:
            shutil.rmtree(folder, ignore_errors=True)


def _sync(folder: Path) -> None:
    for path in [folder, *folder.rglob("*")]:
        handle = os.open(path, os.O_RDONLY)
        try:
            with naming(path):
                os.fsync(handle)
        finally:
            os.close(handle)


def _replace(folder: Path, staging: Path) -> None:
    """What is there is not whole. Its workers, if it runs, have loaded what they need."""
    aside = Path(tempfile.mkdtemp(prefix=STAGING, dir=folder.parent))
    with suppress(FileNotFoundError):
        folder.rename(aside / folder.name)
    staging.rename(folder)
    shutil.rmtree(aside, ignore_errors=True)
