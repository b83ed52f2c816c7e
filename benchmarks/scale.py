"""Measures mlspec on repositories of up to 10,000 models, beside Git and DVC: `make bench-scale`.

    python -m benchmarks.scale --sizes 100 1000 --runs 3

Every command is a child process. Commands that are compared take turns on the same tree. What is
measured goes to `benchmarks/results/scale.json`; :mod:`benchmarks.report` makes the table of it and
:mod:`benchmarks.chart` the picture.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks import chart, report
from benchmarks.generate import SPECS, commit, data_path, set_rate
from benchmarks.measure import DVC, MLSPEC, PYTHON, Samples, machine, run

RESULTS = Path(__file__).parent / "results"
PLAN = (MLSPEC, "plan", "--detailed-exitcode")
CHANGED = 2
"""The exit code of a plan that has something to do."""
RACE = 3.0
"""Seconds after which nobody mistrusts the times of the files that were just written."""
MIDDLE = 42
"""The model that is changed."""

Results = dict[str, dict[int, Samples]]
"""Samples by what was measured and the number of models (of stages, for an apply)."""


def main() -> int:
    """Measure, report, and 1 when a bound is missed."""
    options = _options()
    results: Results = {}
    with tempfile.TemporaryDirectory(prefix="mlspec-scale-", dir=options.folder) as given:
        folder = Path(given)
        os.environ["DVC_SITE_CACHE_DIR"] = str(folder / "site")
        for stages in options.stages:  # first: before anything is deleted
            _measure_apply(results, folder, stages, options.runs)
            _save(results, options)
        for size in sorted(options.sizes):
            _measure_plans(results, folder / f"models-{size}", size, options)
            _save(results, options)
        if options.seconds:
            _measure_jobs(results, folder, options.seconds)
    data = _save(results, options)
    text, missed = report.render(data)
    sys.stdout.write(text)
    (options.out / "scale.md").write_text(text, encoding="utf-8")
    chart.draw(data, options.out / "scale.png")
    return 1 if missed else 0


def _save(results: Results, options: argparse.Namespace) -> Mapping[str, Any]:
    """What is known so far: the next repository may take an hour."""
    data = {
        "machine": machine(),
        "software": _software(),
        "spec": options.spec,
        "runs": options.runs,
        "results": {
            work: {str(size): asdict(samples) for size, samples in sizes.items()}
            for work, sizes in results.items()
        },
    }
    options.out.mkdir(exist_ok=True, parents=True)
    (options.out / "scale.json").write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    return data


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--sizes", type=int, nargs="+", default=[100, 1000, 5000, 10000], help="numbers of models")
    add("--spec", choices=sorted(SPECS), default="shards", help="how the spec is written")
    add("-n", "--runs", type=int, default=5, help="of each command; the median counts")
    add("--dvc-up-to", type=int, default=1000, help="most models that `dvc status` is asked about")
    add("--stages", type=int, nargs="*", default=[100, 200], help="of applies beside `dvc repro`")
    add("--seconds", type=int, default=20, help="stages of 1 s on two jobs; 0 for none")
    add("--folder", type=Path, help="where to make the repositories; else as TMPDIR says")
    add("--out", type=Path, default=RESULTS, help="where the results go")
    return parser.parse_args()


def _measure_plans(results: Results, root: Path, size: int, options: argparse.Namespace) -> None:
    _say(f"{size} models: generate")
    generate = (PYTHON, "-m", "benchmarks.generate", str(root), "--models", str(size))
    began = time.monotonic()
    run((*generate, "--spec", options.spec), Path(__file__).parents[1])
    _say(f"{size} models: {time.monotonic() - began:.0f} s; plan")

    def measured(work: str) -> Samples:
        return results.setdefault(work, {}).setdefault(size, Samples())

    _settle(root)
    for _ in range(options.runs):
        measured("git status").run(("git", "status", "--short"), root)
        measured("plan, nothing to do").run(PLAN, root)
        measured("compile, nothing to do").run((MLSPEC, "compile"), root)
    if size <= options.dvc_up_to:
        _say(f"{size} models: dvc status")
        for number in range(min(options.runs, 3) + 1):
            samples = measured("dvc status") if number else Samples()  # the first fills its state
            samples.run((DVC, "status", "--quiet"), root)
    model = min(MIDDLE, size - 1)
    for number in range(options.runs):
        set_rate(root, options.spec, model, rate=0.2 + number / 100)
        measured("plan, one param changed").run(PLAN, root, code=CHANGED)
    run(("git", "checkout", "--quiet", "."), root)
    _settle(root)
    for _ in range(options.runs):
        with (root / data_path(model)).open("a") as file:
            file.write("10,1\n")
        measured("plan, one data file changed").run(PLAN, root, code=CHANGED)
    run(("git", "checkout", "--quiet", "."), root)
    _say(f"{size} models: cold")
    for _ in range(min(options.runs, 3)):
        shutil.rmtree(root / ".mlspec" / "cache")
        measured("plan, cold").run(PLAN, root)
    for _ in range(min(options.runs, 3)):
        shutil.rmtree(root / ".mlspec" / "cache")
        _remove_generated(root)
        measured("compile, cold").run((MLSPEC, "compile"), root)
    shutil.rmtree(root)


def _settle(root: Path) -> None:
    """Have every memory of the tree filled: Git's index, mlspec's cache."""
    time.sleep(RACE)
    for command in (("git", "status"), PLAN, (MLSPEC, "compile"), PLAN):
        run(command, root)


def _remove_generated(root: Path) -> None:
    for pattern in ("pipelines/*/dvc.yaml", "pipelines/*/params.json", "cards/*.md"):
        for path in root.glob(pattern):
            path.unlink()


def _measure_apply(results: Results, folder: Path, stages: int, runs: int) -> None:
    """Stages that copy a file: what is left is what mlspec and DVC do around them.

    All begin with the same tree, whose pipelines are generated and committed. Nothing is deleted:
    ext4 looks for new files' places around what was deleted in the last minutes, which takes time.
    """
    base = _unapplied(folder / str(stages), "copies", stages // 2)
    run((MLSPEC, "compile"), base)
    commit(base, "Pipelines")
    _say(f"apply {stages} stages")

    def measured(work: str, number: int) -> Path:
        root = base.with_name(f"{base.name}-{work}-{number}".replace(" ", "-"))
        shutil.copytree(base, root, symlinks=True)
        command = commands[work]
        results.setdefault(work, {}).setdefault(stages, Samples()).run(command, root)
        return root

    shops = sorted(path.name for path in (base / "shops").iterdir())
    files = ("data.csv", "prepared.csv", "model.json")
    copies = [
        f"cp shops/{shop}/{read} shops/{shop}/{written}"
        for shop in shops
        for read, written in pairwise(files)
    ]
    commands = {
        "the commands alone": (
            "/bin/sh",
            "-c",
            "\n".join(f"/bin/sh -c '{copy}'" for copy in copies),
        ),
        "apply": (MLSPEC, "apply", "--yes"),
        "dvc repro": (DVC, "repro", "--all-pipelines", "--quiet"),
    }
    for number in range(min(runs, 3)):
        roots = {work: measured(work, number) for work in commands}
        run(PLAN, roots["apply"])


def _measure_jobs(results: Results, folder: Path, stages: int) -> None:
    """Stages that sleep: two at a time are done in half the time."""
    base = _unapplied(folder, "sleeps", stages // 2)
    for jobs in (1, 2):
        _say(f"apply {stages} stages of 1 s, {jobs} at a time")
        with _copy(base) as root:
            samples = results.setdefault(f"apply --jobs {jobs}", {}).setdefault(stages, Samples())
            samples.run((MLSPEC, "apply", "--yes", "--jobs", str(jobs)), root)
            run(PLAN, root)
    shutil.rmtree(base)


def _unapplied(folder: Path, spec: str, models: int) -> Path:
    root = folder / spec
    generate = (PYTHON, "-m", "benchmarks.generate", str(root), "--models", str(models))
    run((*generate, "--spec", spec), Path(__file__).parents[1])
    return root


@contextmanager
def _copy(base: Path) -> Iterator[Path]:
    """A copy of a repository for as long as a block takes."""
    root = base.with_name(f"{base.name}-copy")
    shutil.copytree(base, root, symlinks=True)
    try:
        yield root
    finally:
        shutil.rmtree(root)


def _software() -> Mapping[str, str]:
    git = subprocess.run(("git", "--version"), capture_output=True, text=True, check=True).stdout
    packages = {name: version(name) for name in ("dvc", "mlspec")}
    return {**packages, "Git": git.split()[2], "Python": platform.python_version()}


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
