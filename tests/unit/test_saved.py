"""A saved plan that was changed is refused, whatever was changed; the refusal names the file."""

from __future__ import annotations

import copy
import json
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlspec.commands.saved import load_saved_plan, render_saved
from mlspec.errors import ExitCode, MlspecError
from mlspec.plan import (
    Action,
    Base,
    Consequence,
    Estimate,
    FieldChange,
    Held,
    Plan,
    Scope,
    Step,
    digest_of_body,
)

MUTATIONS = 1000


def make_plan() -> Plan:
    """A plan with steps of all kinds of contents."""
    change = FieldChange("params.rate", 1, 2)
    write = Step("file.dvc.yaml", Action.UPDATE, Consequence.NONE, "differs")
    train = Step(
        "stage.risk.train",
        Action.RUN,
        Consequence.RETRAIN,
        "params.rate changed: 1 → 2",
        after=(write.address,),
        changes=(change,),
        estimate=Estimate(12.5, 3, 0.25, "EUR"),
    )
    register = Step(
        "model.risk", Action.REGISTER, Consequence.RETRAIN, "a new version", (train.address,)
    )
    deploy = Step("deployment.risk@prod", Action.DEPLOY, Consequence.REDEPLOY, "v2", certain=False)
    return Plan(
        Base(spec="s" * 64, commit="c" * 40, ledger="1" * 40),
        (write, train, register, deploy),
        held=(Held("model.churn", "its gate failed"),),
        unchanged=7,
        mlspec="0.1.0",
        scope=Scope("tag:risk", 4, 12),
    )


Body = dict[str, Any]
Bytes = Callable[[bytearray, random.Random], None]
Edit = Callable[[Body, random.Random], None]


def flip(data: bytearray, chance: random.Random) -> None:
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def drop(data: bytearray, chance: random.Random) -> None:
    del data[chance.randrange(len(data))]


def insert(data: bytearray, chance: random.Random) -> None:
    data.insert(chance.randrange(len(data) + 1), chance.randrange(256))


def add_space(data: bytearray, chance: random.Random) -> None:
    data.insert(chance.randrange(len(data) + 1), chance.choice(b" \n\t\r"))


def double(data: bytearray, chance: random.Random) -> None:
    at = chance.randrange(len(data))
    data.insert(at, data[at])


def cut(data: bytearray, chance: random.Random) -> None:
    del data[chance.randrange(len(data)) :]


def grow(data: bytearray, chance: random.Random) -> None:
    data += data[: chance.randrange(1, 40)]


def swap_lines(data: bytearray, chance: random.Random) -> None:
    lines = bytes(data).splitlines(keepends=True)
    one, other = chance.sample(range(len(lines)), 2)
    lines[one], lines[other] = lines[other], lines[one]
    data[:] = b"".join(lines)


def drop_line(data: bytearray, chance: random.Random) -> None:
    lines = bytes(data).splitlines(keepends=True)
    del lines[chance.randrange(len(lines))]
    data[:] = b"".join(lines)


def step_of(body: Body, chance: random.Random) -> Body:
    step = chance.choice(body["steps"])
    assert isinstance(step, dict)
    return step


def reorder_steps(body: Body, chance: random.Random) -> None:
    chance.shuffle(body["steps"])


def drop_step(body: Body, chance: random.Random) -> None:
    body["steps"].remove(step_of(body, chance))


def repeat_step(body: Body, chance: random.Random) -> None:
    body["steps"].append(step_of(body, chance))


def other_address(body: Body, chance: random.Random) -> None:
    step_of(body, chance)["address"] = f"model.m{chance.randrange(99)}"


def other_action(body: Body, chance: random.Random) -> None:
    step = step_of(body, chance)
    step["action"] = chance.choice([each.value for each in Action if each != step["action"]])


def other_consequence(body: Body, chance: random.Random) -> None:
    step_of(body, chance)["consequence"] = chance.choice(["breaking", "docs", "none of these"])


def other_reason(body: Body, chance: random.Random) -> None:
    step_of(body, chance)["reason"] += chance.choice(["!", " ", "\u200b"])


def other_order(body: Body, chance: random.Random) -> None:
    step_of(body, chance)["after"] = [f"stage.x{chance.randrange(9)}.y"]


def other_base(body: Body, chance: random.Random) -> None:
    body["base"][chance.choice(["spec", "commit", "ledger"])] = chance.randbytes(20).hex()


def other_selection(body: Body, chance: random.Random) -> None:
    body["selection"] = chance.choice(["", "tag:other", "risk+"])


def other_count(body: Body, chance: random.Random) -> None:
    body["summary"][chance.choice(sorted(body["summary"]))] += 1


def drop_key(body: Body, chance: random.Random) -> None:
    del body[chance.choice([key for key in body if key != "digest"])]


def add_key(body: Body, chance: random.Random) -> None:
    body[f"key{chance.randrange(9)}"] = chance.choice([None, 1, "x", []])


def no_list(body: Body, chance: random.Random) -> None:
    body[chance.choice(["steps", "held", "base"])] = chance.choice([None, 1, "x", {}, [1]])


BYTES: tuple[Bytes, ...] = (
    flip,
    drop,
    insert,
    add_space,
    double,
    cut,
    grow,
    swap_lines,
    drop_line,
)
EDITS: tuple[Edit, ...] = (
    reorder_steps,
    drop_step,
    repeat_step,
    other_address,
    other_action,
    other_consequence,
    other_reason,
    other_order,
    other_base,
    other_selection,
    other_count,
    drop_key,
    add_key,
    no_list,
)
KEPT, WRONG, RIGHT = "digest kept", "digest of something else", "digest made anew"


def mutate(body: Body, number: int, chance: random.Random) -> tuple[str, bytes]:
    """What kind of change it is, and the file after it."""
    original = render_saved(body).encode()
    kinds = (*BYTES, *EDITS)
    kind = number % len(kinds)
    while True:
        if kind < len(BYTES):
            data = bytearray(original)
            BYTES[kind](data, chance)
            how, altered = BYTES[kind].__name__, bytes(data)
        else:
            edit = EDITS[kind - len(BYTES)]
            digest = (KEPT, WRONG, RIGHT)[number // len(kinds) % 3]
            how, changed = f"{edit.__name__}, {digest}", copy.deepcopy(body)
            edit(changed, chance)
            rest = {key: value for key, value in changed.items() if key != "digest"}
            if digest == RIGHT:
                changed["digest"] = digest_of_body(rest)
            elif digest == WRONG:
                changed["digest"] = digest_of_body(body)
            altered = render_saved(changed).encode()
        if altered != original:
            return how, altered


def test_what_was_saved_is_read(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text(render_saved(make_plan().as_dict()))
    load_saved_plan(path).check_current(make_plan())


def test_what_was_changed_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    plan = make_plan()
    body = json.loads(render_saved(plan.as_dict()))
    chance, kinds = random.Random(0), Counter[str]()
    for number in range(MUTATIONS):
        how, altered = mutate(body, number, chance)
        kinds[how] += 1
        path.write_bytes(altered)
        with pytest.raises(MlspecError) as refused:
            load_saved_plan(path).check_current(plan)
        error = refused.value
        assert error.exit_code == ExitCode.ERROR, how
        assert error.message.startswith(str(path)), how
        said = "altered" in error.message
        if RIGHT in how:  # as if it was the plan of another moment
            said = said or "changed since it was planned" in error.message
        assert said, f"{how}: {error.message}"
        assert error.hint, how
    assert len(kinds) == len(BYTES) + 3 * len(EDITS)
    assert kinds.total() == MUTATIONS
