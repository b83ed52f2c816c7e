"""What may happen to a repository in any order, and what must hold after each of these things.

:class:`Machine` is a state machine for Hypothesis: each rule is something that a user, a rival, the
machine or bad luck does; :meth:`Machine.check` looks after each. `tally` counts, by rule, how often
it was tried and what came of it: a rule that never has an effect tests nothing.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import hypothesis.strategies as st
from hypothesis import currently_in_test_context, note
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from mlspec.commands.apply import ApplyOptions, apply
from mlspec.commands.deployment import start, stop
from mlspec.commands.destroy import destroy
from mlspec.commands.fsck import find_problems
from mlspec.commands.ledger import recover
from mlspec.commands.plan import plan
from mlspec.commands.rollback import RollbackOptions, rollback
from mlspec.errors import MlspecError
from mlspec.git import Git
from mlspec.ledger import snapshot
from mlspec.ledger.check import LedgerCheck, Problem
from mlspec.ledger.migrations import MIGRATIONS
from mlspec.ledger.store import REF
from mlspec.plan import Plan
from mlspec.providers.local.rundir import run_folder, write_state
from mlspec.reconcile import Project, open_project
from mlspec.render.console import Console
from tests.machine.world import (
    BAD,
    SLOTS,
    Ended,
    Read,
    Verb,
    World,
    add_model,
    call,
    fill_disk,
    load_ledger,
    make_world,
    once,
    read_ledger,
)

QUALITIES = (0.3, 0.6, 0.7, 0.9)
"""What a model may score; gates ask for 0.5 or 0.8."""
IDLE = {
    "as before",
    "conflict",
    "is not there",
    "no ledger yet",
    "nothing to commit",
    "nothing to edit",
    "nothing to revert",
    "the remote is down",
    "there is one",
    "was before",
}
"""Outcomes of rules that had nothing to do."""
GENERATED = (
    "pipelines/{name}/dvc.yaml",
    "pipelines/{name}/params.json",
    "cards/{name}.md",
    "services/{slot}/service.py",
    ".dvcignore",
    ".dvc/config",
)
MOST = 100
"""Events of files and processes in one apply, about: where a fault breaks in."""
FINE = {"temporary", "interrupted", "lock", "dvc.lock"}
"""What a killed apply may leave, and the next one takes away; and what `edit_lock` does."""
Served = Mapping[str, Mapping[str, Any]]

slots = st.sampled_from(SLOTS)
kinds = st.sampled_from(("staging", "production"))
chance = st.integers(0, 9)
events = st.integers(1, MOST)


class Broken(AssertionError):
    """An invariant does not hold."""


class Machine(RuleBasedStateMachine):
    """One repository, and all that may happen to it."""

    template: Path
    tally: ClassVar[Counter[tuple[str, str]]] = Counter()
    steps: ClassVar[int] = 0

    def __init__(self) -> None:
        super().__init__()
        self.world: World
        self.names: dict[str, str] = {}
        """The present name of the model of each slot."""
        self.count = 0
        """Names that were given."""
        self.saved = False
        self.before: Read | None = None
        """The ledger as it was after the step before."""
        self.kept_schema = snapshot.SCHEMA
        self.idle = True
        """Whether nothing happened since the last check."""
        self.edited = False
        """Whether something happened since the last commit."""
        self.settled = False
        """Whether nothing is to do, as an apply that ended well has left it."""

    @initialize(shared=chance)
    def begin(self, shared: int) -> None:
        self.world = make_world(self.template, shared=shared < 2)
        self.before = read_ledger(self.world.root)
        self._follow_spec()
        self.count = len(self.names)

    def teardown(self) -> None:
        snapshot.SCHEMA = self.kept_schema
        MIGRATIONS.pop(self.kept_schema, None)
        if hasattr(self, "world"):
            self.world.close()

    @property
    def _rule(self) -> str:
        """The rule that is under way."""
        frame = sys._getframe(1)
        names = {each.function.__name__ for each in self.rules}
        while frame.f_code.co_name not in names and frame.f_back is not None:
            frame = frame.f_back
        return frame.f_code.co_name

    def _did(self, outcome: str) -> None:
        """Count what came of the rule that is under way."""
        Machine.tally[self._rule, outcome] += 1
        self.idle = self.idle and outcome in IDLE
        self.edited = self.edited or outcome not in IDLE

    # The spec -------------------------------------------------------------------------------------

    @contextmanager
    def _editing(self, *, then: bool = False) -> Iterator[dict[str, Any]]:
        """The spec, to be changed; `then` it is applied."""
        spec = self.world.spec()
        kept = json.dumps(spec)
        yield spec
        if json.dumps(spec) == kept:
            self._did("nothing to edit")
            return
        self.world.write_spec(spec)
        self._did("edited")
        if then:
            self._run(lambda: self.world.run(self._options()))

    def _add(self, slot: str, q: float) -> None:
        self.count += 1
        self.names[slot] = f"m{self.count}"
        spec = self.world.spec()
        add_model(spec, slot, self.names[slot], q)
        self.world.write_spec(spec)

    def _slot(self, spec: dict[str, Any], slot: str) -> str:
        """That slot, or the other one if only that has a model."""
        other = SLOTS[1 - SLOTS.index(slot)]
        return slot if self._model(spec, slot) or not self._model(spec, other) else other

    def _model(self, spec: dict[str, Any], slot: str) -> dict[str, Any] | None:
        found: dict[str, Any] | None = spec.get("models", {}).get(self.names.get(slot, ""))
        return found

    @rule(
        slot=slots,
        q=st.sampled_from(QUALITIES),
        w=st.sampled_from((1, 1, 2)),
        then=st.booleans(),
    )
    def edit_params(self, slot: str, q: float, w: int, then: bool) -> None:
        with self._editing(then=then) as spec:
            slot = self._slot(spec, slot)
            if model := self._model(spec, slot):
                train = model["stages"]["train"]
                if train["params"] == {"q": q, "w": w}:
                    q = QUALITIES[QUALITIES.index(q) - 1]
                train["params"] = {"q": q, "w": w}

    @rule(
        slot=slots,
        least=st.sampled_from((0.5, 0.8)),
        level=st.sampled_from(("fail", "fail", "warn")),
        champion=st.booleans(),
        then=st.booleans(),
    )
    def edit_gates(self, slot: str, least: float, level: str, champion: bool, then: bool) -> None:
        with self._editing(then=then) as spec:
            slot = self._slot(spec, slot)
            if model := self._model(spec, slot):
                if model["gates"]["good"].get("min") == least:
                    least = 0.5 if least == 0.8 else 0.8
                model["gates"] = {"good": {"metric": "auc", "min": least, "level": level}}
                if champion:
                    gate = {"metric": "auc", "against": "champion", "max_drop": 0.15}
                    model["gates"]["better"] = gate

    @rule(slot=slots, words=st.sampled_from(("A model.", "Another.")))
    def edit_words(self, slot: str, words: str) -> None:
        with self._editing() as spec:
            slot = self._slot(spec, slot)
            if model := self._model(spec, slot):
                same = model.get("description") == words
                model["description"] = "One more." if same else words

    @rule(slot=slots, q=st.sampled_from(QUALITIES))
    def new_model(self, slot: str, q: float) -> None:
        if self._model(self.world.spec(), slot):
            self._did("there is one")
            return
        self._add(slot, q)
        self._did("edited")

    @rule(slot=slots, forget=st.booleans(), then=st.booleans())
    def remove_model(self, slot: str, forget: bool, then: bool) -> None:
        with self._editing(then=then) as spec:
            slot = self._slot(spec, slot)
            name = self.names.get(slot, "")
            if not self._model(spec, slot) or f"model.{name}" in _protected(spec):
                return
            del spec["models"][name]
            self._unmove(spec, name)
            spec["deployments"].pop(slot, None)
            if slot_protected := [each for each in _protected(spec) if each.endswith(f".{slot}")]:
                spec["policy"] = {
                    "protect": [e for e in _protected(spec) if e not in slot_protected]
                }
            if forget:
                spec.setdefault("removed", []).append(f"model.{name}")

    def _unmove(self, spec: dict[str, Any], name: str) -> None:
        """A model that is gone cannot be what another was renamed to."""
        gone = {f"model.{name}"}
        for move in reversed(spec.get("moved", [])):
            if move["to"] in gone:
                gone.add(move["from"])
        spec["moved"] = [each for each in spec.get("moved", []) if each["to"] not in gone]

    @rule(slot=slots, said=chance, then=st.booleans())
    def rename_model(self, slot: str, said: int, then: bool) -> None:
        with self._editing(then=then) as spec:
            slot = self._slot(spec, slot)
            former = self.names.get(slot, "")
            model = self._model(spec, slot)
            if model is None or f"model.{former}" in _protected(spec):
                return
            self.count += 1
            name = self.names[slot] = f"m{self.count}"
            del spec["models"][former]
            train = model["stages"]["train"]
            train["command"] = train["command"].replace(f"/{former}/", f"/{name}/")
            spec["models"][name] = model
            if slot in spec["deployments"]:
                spec["deployments"][slot]["model"] = name
            if said < 8:
                move = {"from": f"model.{former}", "to": f"model.{name}"}
                spec.setdefault("moved", []).append(move)
            else:
                self._unmove(spec, former)
                spec["deployments"].get(slot, {}).pop("pin", None)
                model.pop("quarantine", None)

    @rule(slot=slots, kind=kinds, number=st.integers(0, 3), then=st.booleans())
    def pin(self, slot: str, kind: str, number: int, then: bool) -> None:
        with self._editing(then=then) as spec:
            slot = self._slot(spec, slot)
            deployment = spec.get("deployments", {}).get(slot)
            if deployment is None or f"{kind}-{slot}" not in deployment["targets"]:
                return
            pins = deployment.setdefault("pin", {})
            if pins.pop(f"{kind}-{slot}", None) != number and number:
                pins[f"{kind}-{slot}"] = number
            if not pins:
                del deployment["pin"]

    @rule(slot=slots, number=st.integers(0, 3), then=st.booleans())
    def quarantine(self, slot: str, number: int, then: bool) -> None:
        with self._editing(then=then) as spec:
            slot = self._slot(spec, slot)
            if model := self._model(spec, slot):
                before = model.pop("quarantine", [{}])[0].get("version")
                if number and number != before:
                    model["quarantine"] = [{"version": number, "reason": "bad"}]

    @rule(slot=slots, on=st.sampled_from((True, False, False)))
    def protect(self, slot: str, on: bool) -> None:
        with self._editing() as spec:
            slot = self._slot(spec, slot)
            if self._model(spec, slot):
                on = on and f"deployment.{slot}" not in _protected(spec)
                found = [each for each in _protected(spec) if each != f"deployment.{slot}"]
                addresses = [*found, f"deployment.{slot}"] if on else found
                if slot in spec["deployments"]:
                    spec["policy"] = {"protect": addresses}

    @rule(slot=slots, many=st.sampled_from((1, 2)), then=st.booleans())
    def edit_targets(self, slot: str, many: int, then: bool) -> None:
        with self._editing(then=then) as spec:
            slot = self._slot(spec, slot)
            deployment = spec.get("deployments", {}).get(slot)
            if deployment is not None:
                names = [f"staging-{slot}", f"production-{slot}"]
                many = 3 - many if len(deployment["targets"]) == many else many
                deployment["targets"] = names[:many]
                pins = deployment.pop("pin", {})
                if kept := {key: value for key, value in pins.items() if key in names[:many]}:
                    deployment["pin"] = kept

    @rule(slot=slots, cpus=st.sampled_from((1, 2)), then=st.booleans())
    def edit_resources(self, slot: str, cpus: int, then: bool) -> None:
        with self._editing(then=then) as spec:
            slot = self._slot(spec, slot)
            deployment = spec.get("deployments", {}).get(slot)
            if deployment is not None:
                same = deployment.get("resources") == {"cpus": cpus}
                deployment["resources"] = {"cpus": 3 - cpus if same else cpus}

    # Files ----------------------------------------------------------------------------------------

    @rule(rows=st.integers(0, 3))
    def edit_data(self, rows: int) -> None:
        self.world.write("data/rows.csv", "a,b\n" + "1,2\n" * rows)
        self._did("edited")

    @rule(number=st.integers(0, 2))
    def edit_code(self, number: int) -> None:
        code = self.world.root / "src/train.sh"
        lines = [line for line in code.read_text().splitlines() if not line.startswith("#")]
        self.world.write("src/train.sh", "\n".join([*lines, *["# more"] * number]) + "\n")
        self._did("edited")

    @rule(
        slot=slots,
        path=st.sampled_from(GENERATED),
        delete=st.booleans(),
    )
    def edit_generated(self, slot: str, path: str, delete: bool) -> None:
        slot = self._slot(self.world.spec(), slot)
        path = path.format(name=self.names.get(slot, ""), slot=slot)
        file = self.world.root / path
        if not file.exists():
            self._did("is not there")
        elif delete:
            file.unlink()
            self._did("deleted")
        else:
            self.world.write(path, file.read_bytes() + b"\n")
            self._did("edited")

    @rule(
        slot=slots,
        how=st.sampled_from(("size", "digest", "garbage", "delete", "empty")),
    )
    def edit_lock(self, slot: str, how: str) -> None:
        slot = self._slot(self.world.spec(), slot)
        path = f"pipelines/{self.names.get(slot, '')}/dvc.lock"
        file = self.world.root / path
        if not file.exists():
            self._did("is not there")
            return
        text = file.read_text()
        if how == "delete":
            file.unlink()
        else:
            edited = {
                "size": text.replace("size: 8", "size: 9"),
                "digest": text.replace("md5: ", "md5: 0", 1),
                "garbage": "<<<<<<< HEAD\n" + text,
                "empty": "",
            }
            self.world.write(path, edited[how])
        self._did(how)

    @rule(
        slot=slots,
        what=st.sampled_from(("models/{}.onnx", "metrics/{}.json")),
        over=chance,
    )
    def spoil_output(self, slot: str, what: str, over: int) -> None:
        slot = self._slot(self.world.spec(), slot)
        path = what.format(slot)
        if not (self.world.root / path).exists():
            self._did("is not there")
        elif over < 5:
            (self.world.root / path).unlink()
            self.world.write(path, '{"auc": 1.0}\n')
            self._did("written over")
        else:
            (self.world.root / path).unlink()
            self._did("deleted")

    @rule()
    def lose_cache(self) -> None:
        shutil.rmtree(self.world.root / ".dvc/cache", ignore_errors=True)
        self._did("lost")

    @rule()
    def lose_memory(self) -> None:
        shutil.rmtree(self.world.root / ".mlspec/cache", ignore_errors=True)
        self._did("lost")

    @precondition(lambda self: self.edited)
    @rule()
    def commit(self) -> None:
        self.world.git("add", "--all")
        done = self.world.git("commit", "-q", "-m", "Change", code=None)
        self.edited = False
        self._did("committed" if done.returncode == 0 else "nothing to commit")

    @rule()
    def revert(self) -> None:
        if self.world.git("rev-list", "--count", "HEAD").stdout.strip() == "1":
            self._did("nothing to revert")
            return
        if self.world.git("status", "--porcelain", "--untracked-files=no").stdout:
            self.world.git("commit", "-q", "-a", "-m", "Before a revert")
        done = self.world.git("revert", "--no-edit", "HEAD", code=None)
        if done.returncode != 0:
            self.world.git("revert", "--abort", code=None)
            self._did("conflict")
            return
        self._follow_spec()
        self._did("reverted")

    def _follow_spec(self) -> None:
        """The names of models, after the spec was changed by somebody else than a rule."""
        self.names = {}
        for name, model in self.world.spec().get("models", {}).items():
            slot = model["artifact"]["path"].removeprefix("models/").removesuffix(".onnx")
            self.names[slot] = name

    # Commands -------------------------------------------------------------------------------------

    def _options(self, *, select: tuple[str, ...] = (), jobs: int = 1, adopt: bool = False) -> Verb:
        options = ApplyOptions(
            select=select,
            yes=True,
            allow_delete=True,
            allow_empty=True,
            jobs=jobs,
            adopt=adopt,
        )
        return lambda root, console: apply(root, console, options)

    def _run(self, run: Callable[[], Ended], *, empties: bool = True) -> Ended:
        """Run what may deploy, and check what it did; `empties` if nothing is left to do then."""
        assert self.before is not None
        former, own, spec = self.before, self.world.own_files(), self.world.spec()
        served, trained = self.world.serving(), len(self.world.trained())
        ended = run()
        _note(f"{self._rule}: {ended.code}\n{ended.said}")
        if self.world.own_files() != own:
            raise Broken("a file of the user's was changed")
        if self.world.serving() != served:
            self._check_deploys(spec, former, served)
        self._check_trained(spec, former, self.world.trained()[trained:])
        if ended.code in (-9, 1):
            self._check_whole()
        self._did(f"exit {ended.code}")
        # a pin on the version that this very apply makes is for the next one
        ahead = "which its model does not have" in ended.said
        self.settled = ended.code == 0 and empties and not ahead
        return ended

    def _check_whole(self) -> None:
        git = Git(self.world.root)
        try:
            self._check_ledger(git, thorough=True)
        finally:
            git.close()

    @rule(jobs=st.sampled_from((1, 1, 2)), adopt=chance)
    def apply_all(self, jobs: int, adopt: int) -> None:
        verb = self._options(jobs=jobs, adopt=adopt == 0)
        self._run(lambda: self.world.run(verb), empties=adopt != 0)

    @rule()
    def converge(self) -> None:
        """Once all is well again, one apply comes to the end, or the next one does."""
        for name in ("storage", "remote.git"):
            self.world.come_back(name)
        (self.world.place / BAD).unlink(missing_ok=True)
        for lock in self.world.root.glob("pipelines/*/dvc.lock"):
            if not lock.read_text().startswith("schema"):
                lock.unlink()
        verb = self._options()
        for last in (False, True):
            ended = self._run(lambda: self.world.run(verb))
            if "Git tracks models/" in ended.said:  # a revert took them out of .gitignore
                self.world.git("rm", "-r", "-q", "--cached", "--", "models/*.onnx")
                self.world.git("commit", "-q", "-m", "Outputs are not Git's")
                ended = self._run(lambda: self.world.run(verb))
            if ended.code == 0 or "is protected" in ended.said:
                return
            if last:
                raise Broken(f"two applies do not come to the end: {ended.said}")

    @rule(
        slot=slots,
        kind=st.sampled_from(("model", "deployment", "+deployment", "stage")),
    )
    def apply_some(self, slot: str, kind: str) -> None:
        slot = self._slot(self.world.spec(), slot)
        name = self.names.get(slot, "none")
        what = {
            "model": f"model.{name}",
            "deployment": f"deployment.{slot}",
            "+deployment": f"+deployment.{slot}",
            "stage": f"stage.{name}.train",
        }
        verb = self._options(select=(what[kind],))
        self._run(lambda: self.world.run(verb), empties=False)

    @rule()
    def save_plan(self) -> None:
        file = self.world.place / "plan.json"
        ended = self.world.run(lambda root, console: _plan(root, console, file))
        self.saved = self.saved or file.exists()
        self._did(f"exit {ended.code}")

    @precondition(lambda self: self.saved)
    @rule()
    def apply_saved(self) -> None:
        options = ApplyOptions(
            saved=self.world.place / "plan.json",
            allow_delete=True,
            allow_empty=True,
            jobs=1,
        )
        former = self.before
        ended = self._run(
            lambda: self.world.run(lambda root, console: apply(root, console, options))
        )
        if "is stale" in ended.said:
            self._did("stale")
            if not self.world.shared and self.before is not former:
                raise Broken("a stale plan changed the ledger")

    @rule(at=events)
    def killed(self, at: int) -> None:
        verb = self._options()
        self._run(lambda: self.world.run_killed(verb, at), empties=False)

    @rule(at=events)
    def killed_twice(self, at: int) -> None:
        verb = self._options()
        self._run(lambda: self.world.run_killed(verb, at), empties=False)
        self._run(lambda: self.world.run_killed(verb, 1 + at // 2), empties=False)

    @rule(at=events, times=st.sampled_from((1, 1, 3, 1000)))
    def full_disk(self, at: int, times: int) -> None:
        verb = self._options()
        self._run(lambda: self.world.run_struck(verb, at, fill_disk(times)), empties=False)

    @rule(at=events, name=st.sampled_from(("storage", "remote.git")))
    def goes_down(self, at: int, name: str) -> None:
        verb, act = self._options(), once(lambda: self.world.go_down(name))
        self._run(lambda: self.world.run_struck(verb, at, act), empties=False)

    @precondition(lambda self: any(self.world.place.glob("*.away")))
    @rule()
    def comes_back(self) -> None:
        for name in ("storage", "remote.git"):
            self.world.come_back(name)
        self._did("is back")

    def _down(self) -> bool:
        return self.world.shared and (self.world.place / "remote.git.away").exists()

    @precondition(lambda self: self.world.shared)
    @rule(at=st.integers(0, MOST))
    def rival(self, at: int) -> None:
        """Another clone records something before an apply, or while it goes on."""
        if self._down():
            self._did("the remote is down")
            return
        if at == 0:
            self.world.rival()
            self._did("recorded")
            return
        verb, act = self._options(), once(self.world.rival)
        self._run(lambda: self.world.run_struck(verb, at, act))

    @rule(on=st.booleans())
    def refuse_deploys(self, on: bool) -> None:
        bad = self.world.place / BAD
        self._did("as before" if on == bad.exists() else f"refuses: {on}")
        bad.touch() if on else bad.unlink(missing_ok=True)

    @rule(
        slot=slots,
        kind=kinds,
        to=st.sampled_from((None, None, 1, 2)),
        then=st.booleans(),
    )
    def roll_back(self, slot: str, kind: str, to: int | None, then: bool) -> None:
        slot = self._slot(self.world.spec(), slot)
        if self.world.git("status", "--porcelain", "--", "mlspec.yaml").stdout:
            self.world.git("commit", "-q", "-m", "Before a rollback", "--", "mlspec.yaml")
        before = self.world.spec()
        options = RollbackOptions(to=to, reason="bad", here=True, commit=True, as_json=False)
        name = f"{slot}@{kind}-{slot}"
        ended = self.world.run(lambda root, console: rollback(root, console, name, options))
        _note(ended.said)
        self._did(f"exit {ended.code}")
        if ended.code != 0 and self.world.spec() != before:
            raise Broken("a rollback that was refused changed the spec")
        if then and ended.code == 0:
            self._run(lambda: self.world.run(self._options()))

    @rule(slot=slots, kind=kinds, on=st.booleans())
    def stop_or_start(self, slot: str, kind: str, on: bool) -> None:
        slot = self._slot(self.world.spec(), slot)
        verb, name = (start if on else stop), f"{slot}@{kind}-{slot}"
        ended = self.world.run(lambda root, console: verb(root, console, name=name, lock_timeout=0))
        self._did(f"{'start' if on else 'stop'}, exit {ended.code}")

    @rule()
    def destroy_all(self) -> None:
        ended = self._run(
            lambda: self.world.run(
                lambda root, console: destroy(
                    root, console, yes=True, as_json=False, lock_timeout=0
                )
            ),
            empties=False,
        )
        if ended.code == 0 and self.world.serving():
            raise Broken("something serves after destroy")

    @rule(slot=slots, kind=kinds, how=st.integers(0, 3))
    def tamper(self, slot: str, kind: str, how: int) -> None:
        """A service ends by itself, is lost, serves something else, or nobody has named it."""
        slot = self._slot(self.world.spec(), slot)
        name = f"{kind}-{slot}"
        folder = run_folder(self.world.root, slot, name)
        state = self.world.serving().get(f"{slot}@{name}")
        if state is None:
            self._did("is not there")
        elif how == 0:
            write_state(folder, {**state, "status": "down", "history": []})
            self._did("down")
        elif how == 1:
            shutil.rmtree(folder)
            self._did("lost")
        elif how == 2:
            write_state(folder, {**state, "release": "0" * 64, "tampered": True, "history": []})
            self._did("another release")
        else:
            stray = run_folder(self.world.root, "stray", name)
            stray.mkdir(parents=True, exist_ok=True)
            write_state(stray, {**state, "tampered": True, "history": []})
            self._did("a stray one")

    @rule(seconds=st.sampled_from((-86400.0, -3600.0, 0.0, 86400.0)))
    def clock(self, seconds: float) -> None:
        self._did("jumped" if self.world.clock != seconds else "as before")
        self.world.clock = seconds

    @rule()
    def upgrade(self) -> None:
        """A newer mlspec has another schema, takes the records along, and the older one refuses."""
        if self.kept_schema != snapshot.SCHEMA:
            self._did("was before")
            return
        MIGRATIONS[self.kept_schema] = lambda _path, content: content
        snapshot.SCHEMA = self.kept_schema + 1
        verb = self._options()
        self._run(lambda: self.world.run(verb), empties=False)
        head = read_ledger(self.world.root)
        self._did(f"schema {self._schema()}")
        if self._schema() > self.kept_schema:
            snapshot.SCHEMA = self.kept_schema
            try:
                older = self.world.run(verb)
            finally:
                snapshot.SCHEMA = self.kept_schema + 1
            if older.code == 0 or "this mlspec reads up to" not in older.said:
                raise Broken(f"a newer ledger was used: {older}")
            if read_ledger(self.world.root) != head:
                raise Broken("an older mlspec wrote a newer ledger")
        else:
            snapshot.SCHEMA = self.kept_schema
            MIGRATIONS.pop(self.kept_schema)

    def _schema(self) -> int:
        found = self.world.git("cat-file", "blob", f"{REF}:ledger.json", code=None).stdout
        return int(json.loads(found)["schema"]) if found else 0

    @rule(
        what=st.sampled_from(("byte", "cut", "delete", "ref", "no ref")),
        which=st.integers(0, 20),
        where=st.integers(0, 999),
    )
    def damage(self, what: str, which: int, where: int) -> None:
        """Something spoils the ledger: that is detected, and recovery goes back to what is good."""
        if not self.before or not self.before.commits:
            self._did("no ledger yet")
            return
        git_folder = self.world.root / ".git"
        kept = self.world.place / "kept.git"
        shutil.copytree(git_folder, kept, symlinks=True)
        try:
            self._damage(git_folder, what, which, where)
            self._recover(git_folder, kept, what)
        finally:
            shutil.rmtree(kept, ignore_errors=True)

    def _damage(self, folder: Path, what: str, which: int, where: int) -> None:
        ref = folder / REF
        if what in ("ref", "no ref") and ref.exists():
            if what == "ref":
                ref.write_text("0" * 39 + "\n")
            elif self.world.shared:  # without a remote nothing tells a ledger that is gone
                ref.unlink()
            return
        packs = sorted((folder / "objects/pack").glob("*.pack"), key=lambda p: p.stat().st_mtime_ns)
        if not packs:
            return
        pack = packs[which % len(packs)]
        data = bytearray(pack.read_bytes())
        pack.chmod(0o644)
        if what == "cut":
            pack.write_bytes(data[: len(data) * where // 1000])
        elif what == "delete":
            pack.unlink()
        else:
            data[where * len(data) // 1000] ^= 0x10
            pack.write_bytes(data)

    def _recover(self, folder: Path, kept: Path, what: str) -> None:
        assert self.before is not None
        root = self.world.root
        git = Git(root)
        found = {problem.kind for problem in find_problems(root, git)} - FINE
        if not found:
            if read_ledger(root) != self.before:
                raise Broken("the ledger is damaged, and fsck finds nothing")
            self._did(f"{what}: no harm")
            return
        call(root, lambda root, console: _plan(root, console, None))
        ended = call(root, lambda root, console: recover(root, console, yes=True, lock_timeout=0))
        _note(f"recover: {ended.code} {ended.said}")
        if ended.code != 0:
            self._did(f"{what}: not recovered")
            shutil.rmtree(folder)  # another clone helps
            shutil.copytree(kept, folder, symlinks=True)
            return
        now = read_ledger(root)
        if lost := _told(self.before) - _told(now):
            if "Lost: " not in ended.said:
                raise Broken(f"recovery does not say that {lost} are lost: {ended.said}")
            self._did(f"{what}: recovered, some lost")
        else:
            self._did(f"{what}: recovered whole")
        self.before = now
        self._check_whole()

    # What must hold -------------------------------------------------------------------------------

    @invariant()
    def check(self) -> None:
        """After each step that had an effect."""
        if self.before is None:
            return
        Machine.steps += 1
        if self.idle:
            return
        self.idle = True
        with open_project(self.world.root) as project:
            self._check_plans(project)
            self._check_ledger(project.git)

    def _check_ledger(self, git: Git, *, thorough: bool = False) -> None:
        """It is whole, nothing is lost, and what is said to serve has passed."""
        assert self.before is not None
        now = load_ledger(git, self.before)
        if now is self.before and not thorough:
            return
        if now.serial != len(now.commits):
            raise Broken(f"serial {now.serial} after {len(now.commits)} entries")
        if self.world.shared:
            lost: object = _told(self.before) - _told(now)
        else:
            lost = self.before.commits != now.commits[: len(self.before.commits)]
        if lost:
            raise Broken(f"entries of the audit are lost: {lost}")
        problems = find_problems(self.world.root, git) if thorough else find_faults(git)
        if wrong := [each for each in problems if each.kind not in FINE]:
            raise Broken(f"fsck: {wrong}")
        for path, record in now.records.items():
            if path.startswith("deployments/") and record["status"] != "refused":
                self._check_recorded(path, record, now.records)
        self.before = now

    def _check_recorded(
        self, path: str, deployed: Mapping[str, Any], records: Mapping[str, Any]
    ) -> None:
        version = _version(records, deployed["model"], deployed["version"])
        if version is None:
            raise Broken(f"{path} names a version that is not recorded")
        _check_passed(path, version)

    def _check_plans(self, project: Project) -> None:
        """What is planned from what changed is what is planned from everything."""
        quick, whole = _attempt(project.plan), _attempt(lambda: _whole(project))
        if quick != whole:
            raise Broken(f"of what changed: {_words(quick)}; of everything: {_words(whole)}")
        if self.settled and not (isinstance(quick, Plan) and quick.empty):
            raise Broken(f"not empty after an apply: {_words(quick)}")
        self.settled = False

    def _check_deploys(self, spec: dict[str, Any], former: Read, before: Served) -> None:
        """What was taken into service passed its gates, is not quarantined, and not for nothing."""
        now = read_ledger(self.world.root, former)
        after = self.world.serving()
        for name, state in after.items():
            history = state["history"]
            known = len(before.get(name, {"history": ()})["history"])
            for at in range(known, len(history)):
                away = at == known and before.get(name, {}).get("status") != "serving"
                if not away and at and history[at - 1]["release"] == history[at]["release"]:
                    raise Broken(f"{name} was given the same release twice")
                self._check_served(spec, name, history[at], now.records, former.records)
        protected = {
            *_protected(spec),
            *former.records.get("policy.json", {}).get("protect", ()),
        }
        for name in before.keys() - after.keys():
            if f"deployment.{name.partition('@')[0]}" in protected:
                raise Broken(f"{name} is protected, and was deleted")

    def _check_served(
        self,
        spec: dict[str, Any],
        name: str,
        served: Mapping[str, Any],
        records: Mapping[str, Any],
        former: Mapping[str, Any],
    ) -> None:
        deployment, _, target = name.partition("@")
        said = spec.get("deployments", {}).get(deployment)
        if said is None or target not in said["targets"]:
            raise Broken(f"{name} was deployed, and the spec has no such thing")
        number = served["version"]
        pinned = said.get("pin", {}).get(target)
        if pinned is not None and number != pinned:
            raise Broken(f"{name} was given version {number}, not the pinned {pinned}")
        version = _version(records, said["model"], number)
        if version is None:
            raise Broken(f"{name} was given version {number}, which is not recorded")
        if version["artifact"]["md5"] != _md5(served["artifact"]):
            raise Broken(f"{name} serves other bytes than those of version {number}")
        _check_passed(name, version)
        model = spec["models"][said["model"]]
        for entry in model.get("quarantine", ()):
            bad = _version(records, said["model"], entry["version"])
            if bad and bad["artifact"]["md5"] == version["artifact"]["md5"]:
                raise Broken(f"{name} was given version {number}, which is quarantined")
        path = next((each for each in former if each.endswith(f"/{name}.json")), "")
        kept = former[path]["version"] if path else None
        if pinned is None and kept != number:
            q = json.loads(served["artifact"])["train"]["q"]
            for gate in model["gates"].values():
                if gate.get("level", "fail") == "fail" and q < gate.get("min", q):
                    raise Broken(f"{name} was given a model of {q}, and {gate} is asked for")

    def _check_trained(self, spec: dict[str, Any], former: Read, lines: list[str]) -> None:
        """Nothing that the ledger had was trained once more."""
        if twice := [line for line, count in Counter(lines).items() if count > 1]:
            raise Broken(f"trained twice in one apply: {twice}")
        runs = {
            (path.split("/")[2], _work(record["entry"]))
            for path, record in former.records.items()
            if "/runs/" in path
        }
        known = {path.split("/")[2] for path in former.records if path.startswith("models/")}
        moved = {move["to"]: move["from"] for move in spec.get("moved", ())}
        own = self.world.own_files()
        inputs = (_md5(own["data/rows.csv"]), _md5(own["src/train.sh"]))
        for line in lines:
            params, slot, _ = line.split()
            name = params.split("/")[1]
            wanted = spec["models"][name]["stages"]["train"]["params"]
            work = (f"models/{slot}.onnx", wanted["q"], wanted["w"], *inputs)
            while name not in known and f"model.{name}" in moved:
                name = moved[f"model.{name}"].removeprefix("model.")
            if (name, work) in runs:
                raise Broken(f"{name} was trained again: {line}")


def _note(text: str) -> None:
    """Shown with a failure, if it is Hypothesis who tries things."""
    if currently_in_test_context():
        note(text)


def _plan(root: Path, console: Console, out: Path | None) -> int:
    return plan(
        root,
        console,
        select=(),
        as_json=False,
        out=out,
        detailed_exitcode=False,
        explain=False,
        adopt=False,
    )


def _protected(spec: Mapping[str, Any]) -> list[str]:
    return list(spec.get("policy", {}).get("protect", ()))


def _version(records: Mapping[str, Any], model: str, number: int) -> Any:
    end = f"/{model}/versions/{number}.json"
    return next((record for path, record in records.items() if path.endswith(end)), None)


def _check_passed(where: str, version: Mapping[str, Any]) -> None:
    for verdict in version["verdicts"]:
        if verdict["level"] == "fail" and verdict["result"] != "pass":
            raise Broken(f"{where}: version {version['number']} did not pass: {verdict}")


def _work(entry: Mapping[str, Any]) -> tuple[object, ...]:
    """What a run was: where it wrote, its params, what it read."""
    ((_, params),) = entry["params"].items()
    deps = {dep["path"]: dep["md5"] for dep in entry["deps"]}
    out = next(out["path"] for out in entry["outs"] if out["path"].startswith("models/"))
    wanted = params["train"]
    return out, wanted["q"], wanted["w"], deps["data/rows.csv"], deps["src/train.sh"]


def _md5(content: str | bytes) -> str:
    data = content.encode() if isinstance(content, str) else content
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def _told(ledger: Read) -> Counter[str]:
    """What the entries say, without the serials: others' may come before ours."""
    return Counter(
        entry.model_copy(update={"serial": 0}).model_dump_json() for entry in ledger.entries
    )


def find_faults(git: Git) -> Iterator[Problem]:
    """What is wrong with the ledger, without the rest that `mlspec fsck` looks at."""
    tip = git.ref(REF)
    if tip:
        yield from LedgerCheck(git).check(tip)


def _attempt(make: Callable[[], Plan]) -> Plan | str:
    try:
        return make()
    except MlspecError as error:
        return error.message


def _whole(project: Project) -> Plan:
    project.ledger.ensure_local()
    return project.plan_of(project.survey())


def _words(plan: Plan | str) -> str:
    if isinstance(plan, str):
        return plan
    steps = [f"{step.address} {step.action}: {step.reason}" for step in plan.steps]
    return "; ".join([*steps, *(f"{each.address} held: {each.reason}" for each in plan.held)])
