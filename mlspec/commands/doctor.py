"""`mlspec doctor`: what this machine and those of the executors lack. Runs none of your code."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from mlspec.compilers.dvc import compile_storage
from mlspec.errors import MlspecError
from mlspec.executors import examine
from mlspec.executors.messages import Check, Findings, Place, Question
from mlspec.executors.registry import Executors
from mlspec.reconcile import Project, open_project
from mlspec.render.console import Console
from mlspec.render.style import Style, escape
from mlspec.spec.models import Spec
from mlspec.spec.suggest import did_you_mean, known_words

HERE = "this machine"


def doctor(start: Path, console: Console, *, executor: str | None, as_json: bool) -> int:
    """Look at this machine and at those of each executor, or of one; 1 if something is lacking."""
    with open_project(start) as project:
        spec = project.loaded.spec
        if executor is not None and executor not in spec.executors:
            known = known_words(spec.executors) if spec.executors else "the spec has none"
            hint = did_you_mean(executor, spec.executors) or known
            raise MlspecError(f"no executor {executor!r}", hint=hint)
        names = [executor] if executor is not None else list(spec.executors)
        found = [Findings(worker=HERE, checks=tuple(_here(project)))]
        for name in names:
            found += _elsewhere(project, name)
    ok = all(check.ok for each in found for check in each.checks)
    if as_json:
        console.say_json({"ok": ok, "machines": [each.model_dump() for each in found]})
    else:
        console.say("\n".join(_render(found, console.style)))
    return 0 if ok else 1


def _here(project: Project) -> Iterator[Check]:
    spec = project.loaded.spec
    yield examine.check_python(spec.python.version)
    yield examine.check_git()
    yield examine.check_dvc()
    if (project.root / ".dvc/config").exists():
        yield examine.check_storage(project.root)
    else:
        detail = f"{spec.storage.url}: not looked at before the first apply or compile"
        yield Check(name="storage", ok=True, detail=detail)
    remote = project.git.remote
    if remote:
        yield examine.check_repository(remote, project.root, "ledger's remote")
    else:
        detail = "none: the ledger is in this checkout alone"
        yield Check(name="ledger's remote", ok=True, detail=detail)


def _elsewhere(project: Project, name: str) -> Sequence[Findings]:
    """What the machines of an executor lack; named after it."""
    spec = project.loaded.spec
    executors = Executors(project.git, spec.executors)
    try:
        address = executors.origin.address(name, spec.executors[name])
        question = Question(
            place=Place(repository=address, files=_settings(spec)), python=spec.python.version
        )
        found = executors.get(name).inspect(question)
        return [each.model_copy(update={"worker": f"{name}, {each.worker}"}) for each in found]
    except MlspecError as error:
        check = Check(name="answer", ok=False, detail=error.message, hint=error.hint)
        return [Findings(worker=name, checks=(check,))]
    finally:
        executors.close()


def _settings(spec: Spec) -> dict[str, str]:
    return {generated.path: generated.text for generated in compile_storage(spec.storage)}


def _render(found: Sequence[Findings], style: Style) -> Iterator[str]:
    width = max(len(check.name) for each in found for check in each.checks)
    for each in found:
        yield style.paint(escape(each.worker), "bold")
        for check in each.checks:
            mark = style.paint("ok     ", "green") if check.ok else style.paint("lacking", "red")
            yield f"  {mark} {check.name:<{width}}  {escape(check.detail)}"
            if not check.ok and check.hint:
                yield f"          = help: {escape(check.hint)}"
    lacking = sum(not check.ok for each in found for check in each.checks)
    many = (
        "nothing is" if not lacking else "1 thing is" if lacking == 1 else f"{lacking} things are"
    )
    yield f"{many[0].upper()}{many[1:]} lacking."
