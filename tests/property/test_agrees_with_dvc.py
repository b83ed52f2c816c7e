"""`mlspec plan` and DVC agree on what is out of date, whatever was edited.

Repositories are generated, applied and then edited, one random edit after another. After each,
what mlspec plans for every stage is compared with what real DVC says of it. Where they differ, one
of the rules below must hold; the test fails when none does. How often each was needed is written
to `build/agreement.md`.

To shrink a failure by hand: give `play` the seed, and in the place of the range the numbers of the
edits that are to be done.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest

from mlspec import worktree
from mlspec.commands.compile import compile_files
from mlspec.dvc.client import Dvc
from mlspec.errors import SpecError
from mlspec.fingerprint import entry_dependencies, entry_fingerprint, entry_outputs
from mlspec.ledger.records import Run
from mlspec.plan import Action, Plan, Step, canonical_json
from mlspec.planner import Facts
from mlspec.reconcile import open_project
from mlspec.render.console import Console
from mlspec.resources import DatasetResource, StageResource

REPOSITORIES, EDITS = 8, 65
QUICKLY = 2
"""Repositories of which every run of the tests has a look."""
APPLIES = (22, 44)
"""Edits after which everything is applied, if it can be: the ledger then knows more runs."""
TABLE = Path(__file__).parents[2] / "build" / "agreement.md"


class Rule(StrEnum):
    """Why mlspec and DVC may answer differently. There is no other reason."""

    ABSENT = "an output that is not here is no drift: storage keeps it, and plans need no data"
    UPSTREAM = (
        "a stage is planned from what the stages before it wrote, not from what lies there: "
        "that is missing and no drift, or was edited and is put back"
    )
    EDITED = "an edited output is put back from storage; DVC would run the stage again"
    KNOWN = (
        "a run of the same command, inputs, code and params is known: it is restored, whatever "
        "dvc.lock has; and where no output is here, nothing has to be put right"
    )
    CACHE = "an object that DVC's cache lacks is in storage"
    TRUST = "dvc.lock has a run that the ledger does not know: it counts with --adopt"
    BEFORE = "a stage before it runs first and may write something new; DVC tells only then"
    LEFT = "DVC does not miss an input, a param or an output that left dvc.yaml or that it adds"
    TYPES = "DVC holds 1, 1.0 and true to be the same param"
    UNSEEN = "DVC goes by size, time and inode: other bytes of the same are not seen"
    AGAIN = "the ledger knows what data it put into storage last; what was there before goes again"
    UNHEARD = "DVC knows nothing of data that have no .dvc file yet"
    REFUSED = "data or code that nobody can bring back are missing: mlspec makes no plan"


@dataclass
class Tally:
    """What was compared, and how often each rule was needed."""

    edits: Counter[str] = field(default_factory=Counter)
    agreed: Counter[str] = field(default_factory=Counter)
    rules: Counter[Rule] = field(default_factory=Counter)

    def table(self) -> str:
        compared = self.agreed.total() + self.rules.total()
        head = (
            f"{self.edits.total()} edits were compared. Of {compared} answers for a stage, or for "
            f"data, {self.agreed.total()} agree and {self.rules.total()} differ by a rule."
        )
        lines = [
            head,
            "",
            *_rows("the same answer", self.agreed.most_common()),
            *_rows("another answer, by the rule", ((r, self.rules[r]) for r in Rule)),
            *_rows("edit", sorted(self.edits.items())),
        ]
        return "\n".join(lines)


def _rows(head: str, counts: Iterable[tuple[str, int]]) -> list[str]:
    return [f"| {head} | times |", "| --- | --- |", *(f"| {n} | {c} |" for n, c in counts), ""]


@pytest.fixture(scope="module")
def tally() -> Iterator[Tally]:
    """Of a whole run it is printed and written."""
    tally = Tally()
    yield tally
    if tally.edits.total() == REPOSITORIES * EDITS:
        print(tally.table())  # noqa: T201
        TABLE.parent.mkdir(exist_ok=True)
        TABLE.write_text(tally.table(), encoding="utf-8")


# What DVC says ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Claim:
    """One thing that DVC holds to be out of date: `kind` is dep, param, out or command."""

    kind: str
    path: str = ""
    state: str = ""


def claims_of(said: Iterable[str | Mapping[str, Mapping[str, Any]]]) -> set[Claim]:
    """What `dvc status` says of one stage."""
    found: set[Claim] = set()
    for each in said:
        if isinstance(each, str):
            assert each == "changed command", each
            found.add(Claim("command"))
            continue
        for kind, paths in each.items():
            for path, state in paths.items():
                if isinstance(state, str):
                    found.add(Claim(kind.removeprefix("changed ").removesuffix("s"), path, state))
                else:
                    found |= {Claim("param", key, value) for key, value in state.items()}
    return found


# What mlspec says ---------------------------------------------------------------------------------


@dataclass
class View:
    """A moment: the plan, what it was made from, and where the repository is."""

    repository: Any
    plan: Plan
    facts: Facts

    def step(self, address: str) -> Step | None:
        return next((step for step in self.plan.steps if step.address == address), None)

    def is_here(self, path: str) -> bool:
        return (self.repository.root / path).exists()

    def maker(self, path: str) -> str | None:
        """The address of the stage, or of the data that DVC keeps, that `path` comes from."""
        for stage in self.facts.desired.of(StageResource):
            if path in stage.writes:
                return stage.address
        for dataset in self.facts.desired.of(DatasetResource):
            if path == dataset.dataset.path and not dataset.in_git:
                return dataset.address
        return None

    def is_planned_from_elsewhere(self, claim: Claim) -> bool:
        """Whether DVC speaks of a dependency whose bytes here are not those that will be read."""
        maker = self.maker(claim.path) if claim.kind == "dep" else None
        if maker is None:
            return False
        step = self.step(maker)
        restored = step is not None and step.action is Action.RESTORE
        return restored or not self.is_here(claim.path)

    def explain(self, stage: StageResource, claims: set[Claim]) -> str | Rule:
        """How both agree, or the rule by which they do not; raises when there is none."""
        step = self.step(stage.address)
        if step is None:
            return self._explain_nothing(stage, claims)
        if step.action is Action.RUN:
            return self._explain_run(stage, step, claims)
        assert step.action is Action.RESTORE, step
        return self._explain_restore(stage, claims)

    def _explain_nothing(self, stage: StageResource, claims: set[Claim]) -> str | Rule:
        if not claims:
            return "nothing to do"
        rules = {rule for claim in claims for rule in [self._rule(stage, claim)] if rule}
        assert all(self._rule(stage, claim) for claim in claims), "DVC knows more"
        return min(rules, key=list(Rule).index)

    def _rule(self, stage: StageResource, claim: Claim) -> Rule | None:
        """Why mlspec has nothing to do where DVC makes this claim."""
        if claim.path and self.repository.hidden(claim.path):
            return Rule.UNSEEN
        if claim.kind == "out" and claim.state == "not in cache":
            return Rule.CACHE
        if claim.kind == "out" and claim.state == "deleted" and not self.is_here(claim.path):
            return Rule.ABSENT
        if self.is_planned_from_elsewhere(claim):
            return Rule.UPSTREAM
        if self._run(stage) and not any(map(self.is_here, stage.writes)):
            return Rule.KNOWN
        return None

    def _explain_run(self, stage: StageResource, step: Step, claims: set[Claim]) -> str | Rule:
        certain = {claim for claim in claims if not self.is_planned_from_elsewhere(claim)}
        inputs = {claim for claim in certain if claim.kind != "out"}
        if inputs:
            return "to be run" if step.certain else "to be run, perhaps"
        if any(claim.state == "new" for claim in certain):
            return "to be run, for a new output"
        makers = (self.step(each) for each in stage.producers)
        waits = any(maker and maker.action is Action.RUN for maker in makers)
        if not step.certain:
            assert waits, "no stage before it runs"
            return Rule.BEFORE
        if any(map(self.repository.hidden, (each.path for each in stage.dependencies))):
            return Rule.UNSEEN
        locked = entry_fingerprint(self._entry(stage))
        if self.facts.recorded.run(stage.model, stage.name, locked) is None:
            return Rule.TRUST
        if waits:  # dvc.lock is back at an earlier run; what changed is told from the last one
            return Rule.BEFORE
        return self._compare_with_lock(stage)

    def _explain_restore(self, stage: StageResource, claims: set[Claim]) -> Rule:
        assert self._run(stage), "no such run"
        kinds = {claim.kind for claim in claims if not self.is_planned_from_elsewhere(claim)}
        if any(map(self.repository.hidden, stage.writes)):
            return Rule.UNSEEN
        if kinds == {"out"} and self._lock_is_current(stage):
            return Rule.EDITED
        if claims or not self._has_lock_its_outputs(stage):
            return Rule.KNOWN
        return self._compare_with_lock(stage)

    def _entry(self, stage: StageResource) -> Mapping[str, Any]:
        entry = self.facts.observed.stages[stage.address].entry
        assert entry is not None, "dvc.lock has no entry, and DVC says nothing"
        return entry

    def _run(self, stage: StageResource) -> Run | None:
        """The known run of what the stage is now."""
        fingerprint = self.facts.fingerprints.get(stage.address)
        if fingerprint is None:
            return None
        return self.facts.recorded.run(stage.model, stage.name, fingerprint)

    def _lock_is_current(self, stage: StageResource) -> bool:
        run = self._run(stage)
        return run is not None and run.entry == self.facts.observed.stages[stage.address].entry

    def _has_lock_its_outputs(self, stage: StageResource) -> bool:
        run = self._run(stage)
        return run is not None and entry_outputs(run.entry) == entry_outputs(self._entry(stage))

    def _compare_with_lock(self, stage: StageResource) -> Rule:
        """Why mlspec sees a difference from dvc.lock where DVC sees none."""
        entry = self._entry(stage)
        for path, md5 in entry_dependencies(entry).items():
            maker = self.maker(path)
            if maker and self.facts.contents.get(maker, {}).get(path, md5) != md5:
                step = self.step(maker)
                assert step is not None or not self.is_here(path), "another input, from nowhere"
                return Rule.UPSTREAM
        params = entry.get("params") or {}
        locked = {
            *(dep["path"] for dep in entry.get("deps", ())),
            *(out["path"] for out in entry.get("outs", ())),
            *(key for values in params.values() for key in values),
        }
        asked = {
            *(dep.path for dep in stage.dependencies),
            *stage.writes,
            *(key for values in stage.params.values() for key in values),
        }
        if locked - asked:
            return Rule.LEFT
        assert params == stage.params, "the same, and not the same"
        assert canonical_json(params) != canonical_json(stage.params), "quite the same"
        return Rule.TYPES

    def explain_data(self, dataset: DatasetResource, claims: set[Claim]) -> str | Rule:
        """The same, for data that DVC keeps."""
        step, path = self.step(dataset.address), dataset.dataset.path
        states = {claim.state for claim in claims}
        if self.repository.hidden(path):
            return Rule.UNSEEN
        if step is None:
            if states and not self.is_here(path):
                return Rule.ABSENT
            if states == {"not in cache"}:
                return Rule.CACHE
            assert not states, "DVC knows more"
            return "nothing to do"
        if not self.is_here(f"{path}.dvc"):
            return Rule.UNHEARD
        kept = self.facts.recorded.imported(dataset.name)
        if not states and kept and kept.md5 != self.facts.observed.datasets[dataset.address].md5:
            return Rule.AGAIN
        assert states & {"modified", "new", "not in cache"}, "DVC has nothing to do"
        return "data to be taken"


# The test -----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "seed",
    [
        pytest.param(n, marks=pytest.mark.thorough if n >= QUICKLY else ())
        for n in range(REPOSITORIES)
    ],
)
def test_mlspec_and_dvc_agree(
    seed: int,
    make_repository: Callable[[int], Any],
    tally: Tally,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The file systems of tests tell times that are milliseconds apart: what is remembered counts.
    monkeypatch.setattr(worktree, "RACE", 50_000_000)
    play(make_repository(seed), range(EDITS), tally)


def play(repository: Any, numbers: Iterable[int], tally: Tally) -> None:
    """Do the edits with these numbers, and compare after each."""
    done: list[str] = []
    with Dvc(repository.root) as dvc:
        repository.commit = dvc.commit
        repository.run("mlspec", "apply", "--yes")
        compare(repository, dvc, tally, done)
        assert not repository.stale
        for number in numbers:
            done.append(f"{number:2}  {repository.edit(number)}")
            tally.edits[done[-1][4:].partition(":")[0]] += 1
            recompile(repository.root)
            compare(repository, dvc, tally, done)
            if number in APPLIES and is_plannable(repository.root):
                done.append("    apply")
                repository.run("mlspec", "apply", "--yes", may_fail=True)
                compare(repository, dvc, tally, done)


def recompile(root: Path) -> None:
    """Have dvc.yaml as the spec says, unless mlspec refuses that."""
    try:
        compile_files(root, Console(), select=(), check=False, as_json=True)
    except SpecError:
        return


def is_plannable(root: Path) -> bool:
    try:
        with open_project(root) as project:
            project.plan()
    except SpecError:
        return False
    return True


def compare(repository: Any, dvc: Dvc, tally: Tally, done: list[str]) -> None:
    """Every stage, and the data that DVC keeps; raises with all that was said where none agrees."""
    status = dvc.status()
    repository.stale = sorted(status)
    claims = {name: claims_of(said) for name, said in status.items()}
    story = "\n  ".join([f"seed {repository.seed}, edits:", *done])
    try:
        with open_project(repository.root) as project:
            plan = project.plan()
            facts = project.survey()
    except SpecError as refused:
        check_refused(refused, claims, tally, story)
        return
    view = View(repository, plan, facts)
    for stage in facts.desired.of(StageResource):
        said = claims.pop(f"pipelines/{stage.model}/dvc.yaml:{stage.name}", set())
        judge(view, stage.address, said, lambda: view.explain(stage, said), tally, story)  # noqa: B023
    for dataset in facts.desired.of(DatasetResource):
        said = claims.pop(f"{dataset.dataset.path}.dvc", set())
        if not dataset.in_git:
            judge(
                view,
                dataset.address,
                said,
                lambda: view.explain_data(dataset, said),  # noqa: B023
                tally,
                story,
            )
    assert not claims, f"{story}\nDVC speaks of what mlspec does not know: {claims}"


def judge(
    view: View,
    address: str,
    claims: set[Claim],
    explain: Callable[[], str | Rule],
    tally: Tally,
    story: str,
) -> None:
    try:
        answer = explain()
    except AssertionError as error:
        said = "\n  ".join(sorted(map(repr, claims))) or "nothing"
        message = f"{story}\n{address}: {error}\nmlspec: {view.step(address)}\nDVC: {said}"
        raise AssertionError(message) from None
    if isinstance(answer, Rule):
        tally.rules[answer] += 1
    else:
        tally.agreed[answer] += 1


def check_refused(
    refused: SpecError,
    claims: Mapping[str, set[Claim]],
    tally: Tally,
    story: str,
) -> None:
    """DVC misses what mlspec names."""
    missing = {claim.path for said in claims.values() for claim in said if claim.state == "deleted"}
    for problem in refused.diagnostics:
        named = [path for path in missing if path in problem.message.replace(",", "").split()]
        assert named, f"{story}\nmlspec: {problem.code} {problem.message}\nDVC: {claims}"
    tally.rules[Rule.REFUSED] += 1
