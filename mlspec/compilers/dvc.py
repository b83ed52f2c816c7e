"""Compiles models into DVC pipelines, and the project's storage into DVC's settings.

Comes in: parts of the spec and the code files that were traced. Goes out: the text of
`pipelines/<model>/dvc.yaml` and `params.json`, `.dvc/config`, `.dvc/.gitignore` and `.dvcignore`.
Everything is written out: no loops and no `${}`, so that plain `dvc repro` needs nothing else and
runs the very command that the user wrote. :func:`stage_command`, :func:`stage_paths` and
:func:`stage_params` say what a stage is; planning uses the same three, so it and DVC always agree.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from mlspec.compilers.generated import GeneratedFile, header
from mlspec.plan import canonical_json
from mlspec.spec.models import Dataset, Model, Own, Python, Stage, Storage

SPEC = "mlspec.yaml"


@dataclass(frozen=True, slots=True)
class StagePaths:
    """Where a stage reads and writes, from the root; each tuple is sorted.

    `metrics` are outputs too, named apart so that `dvc metrics show` finds them.
    """

    deps: tuple[str, ...]
    outs: tuple[str, ...]
    metrics: tuple[str, ...]

    @property
    def writes(self) -> tuple[str, ...]:
        """Every output, sorted as dvc.lock has them."""
        return tuple(sorted((*self.outs, *self.metrics)))


def pipeline_path(model: str) -> str:
    """The model's pipeline file; its lock is beside it."""
    return f"pipelines/{model}/dvc.yaml"


def lock_path(model: str) -> str:
    """Where DVC records the runs of the model's stages."""
    return f"pipelines/{model}/dvc.lock"


def params_path(model: str) -> str:
    """The model's params file, which its stages read."""
    return f"pipelines/{model}/params.json"


def stage_command(stage: Stage) -> str:
    """The command as DVC gets it, which runs each line by itself: continued lines are joined."""
    return stage.command.strip().replace("\\\n", "")


def stage_paths(
    stage: Stage,
    *,
    datasets: Mapping[str, Dataset],
    code: Sequence[str] = (),
    requirements: str | None = None,
) -> StagePaths:
    """What `stage` reads and writes. `requirements` is the file's path if there is one."""
    writes = {_normal(path) for path in stage.writes}
    reads = {_normal(datasets[name].path if name in datasets else name) for name in stage.inputs}
    reads |= {*code, *([_normal(requirements)] if requirements else [])}
    metrics = {_normal(stage.metrics)} if stage.metrics else set()
    return StagePaths(
        deps=tuple(sorted(reads - writes)),
        outs=tuple(sorted(writes - metrics)),
        metrics=tuple(sorted(metrics)),
    )


def stage_params(python: Python, name: str, stage: Stage) -> dict[str, Any]:
    """The values of the params file that are part of the stage's fingerprint, by key."""
    values: dict[str, Any] = {}
    if not isinstance(stage, Own):
        values["python"] = {"version": python.version}
    if stage.params:
        values[name] = _plain(stage.params)
    return values


def compile_pipeline(
    name: str,
    model: Model,
    *,
    python: Python,
    datasets: Mapping[str, Dataset],
    code: Mapping[str, Sequence[str]],
    requirements: str | None = None,
    source: str = SPEC,
) -> tuple[GeneratedFile, ...]:
    """The pipeline and the params of one model, if it has stages. `code`: traced files by stage."""
    if not model.stages:
        return ()
    owner = f"model.{name}"
    params: dict[str, Any] = {"_generated": header(source)}
    stages = {}
    for key, stage in model.stages.items():
        values = stage_params(python, key, stage)
        params |= values
        paths = stage_paths(
            stage,
            datasets=datasets,
            code=code.get(key, ()),
            requirements=None if isinstance(stage, Own) else requirements,
        )
        body = {
            "cmd": stage_command(stage),
            "wdir": "../..",
            "deps": paths.deps,
            "params": [{params_path(name): sorted(values)}],
            "outs": paths.outs,
            "metrics": paths.metrics,
        }
        stages[key] = {field: value for field, value in body.items() if value}
    pipeline = "\n".join((f"# {header(source)}", *_yaml({"stages": stages}), ""))
    return (
        GeneratedFile(pipeline_path(name), pipeline, owner),
        GeneratedFile(params_path(name), _indented(canonical_json(params)), owner),
    )


@lru_cache(maxsize=256)
def _indented(text: str) -> str:
    """JSON for people; thousands of models often have the same params."""
    return json.dumps(json.loads(text), indent=2, ensure_ascii=False) + "\n"


def compile_storage(storage: Storage, *, source: str = SPEC) -> tuple[GeneratedFile, ...]:
    """DVC's settings for a repository with one remote, and what Git and DVC should not look at."""
    settings = f"""\
# {header(source)}
[core]
    remote = storage
    analytics = false
    autostage = false
    check_update = false
['remote "storage"']
    url = {_ini(_remote_url(storage.url))}
"""
    files = {
        ".dvc/config": settings,
        ".dvc/.gitignore": f"# {header(source)}\n/config.local\n/tmp\n/cache\n",
        ".dvcignore": f"# {header(source)}\n/.mlspec/\n",
    }
    return tuple(GeneratedFile(path, text, "project") for path, text in files.items())


def _remote_url(url: str) -> str:
    if "://" in url or url.startswith("/"):
        return url
    # DVC counts a folder from its own
    return posixpath.relpath(url, ".dvc")


def _ini(value: str) -> str:
    quote = "'" if '"' in value else '"'
    return value if re.fullmatch(r"[\w./:@%+=~?&-]+", value) else f"{quote}{value}{quote}"


def _normal(path: str) -> str:
    return posixpath.normpath(path)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value


# YAML ---------------------------------------------------------------------------------------------

_BARE = re.compile(r"[A-Za-z_./][A-Za-z0-9_./ -]*(?<! )")
_WORDS = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n", ".inf", ".nan"})
_UNPRINTABLE = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")


def _yaml(value: Any, indent: str = "") -> list[str]:
    """Lines of block style, that YAML 1.1 and 1.2 read alike."""
    lines = []
    for key, inner in value.items():
        if isinstance(inner, str):
            lines.append(f"{indent}{_quoted(key)}: {_quoted(inner)}")
            continue
        lines.append(f"{indent}{_quoted(key)}:")
        if isinstance(inner, Mapping):
            lines += _yaml(inner, indent + "  ")
            continue
        for item in inner:
            if isinstance(item, str):
                lines.append(f"{indent}- {_quoted(item)}")
            else:
                first, *rest = _yaml(item, indent + "  ")
                lines += [f"{indent}- {first.strip()}", *rest]
    return lines


@lru_cache(maxsize=1024)
def _quoted(text: str) -> str:
    if _BARE.fullmatch(text) and text.lower() not in _WORDS:
        return text
    # DVC would put a value of its own in the place of ${...}
    text = json.dumps(text.replace("${", "\\${"), ensure_ascii=False)
    return _UNPRINTABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
