"""A saved plan of which one byte changed is refused, whatever the byte is."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from mlspec.commands.saved import load_saved_plan, render_saved
from mlspec.errors import MlspecError
from mlspec.plan import Action, Base, Consequence, FieldChange, Plan, Step

MUTATIONS = 1000


def make_plan() -> Plan:
    """A plan with a step of a stage and what comes after it."""
    change = FieldChange("params.rate", 1, 2)
    train = Step(
        "stage.risk.train",
        Action.RUN,
        Consequence.RETRAIN,
        "params.rate changed",
        changes=(change,),
    )
    register = Step(
        "model.risk", Action.REGISTER, Consequence.RETRAIN, "a new version", after=(train.address,)
    )
    return Plan(Base(spec="s" * 64, commit="c" * 40, ledger="1" * 40), (train, register))


def mutate(data: bytes, chance: random.Random) -> bytes:
    """`data` with one byte flipped, cut out or doubled, or with a line moved or missing."""
    place = chance.randrange(len(data))
    lines = data.splitlines(keepends=True)
    one, other = (chance.randrange(len(lines)) for _ in range(2))
    match chance.randrange(7):
        case 0:
            return (
                data[:place] + bytes([data[place] ^ 1 << chance.randrange(8)]) + data[place + 1 :]
            )
        case 1:
            return data[:place] + data[place + 1 :]
        case 2:
            return data[:place] + data[place : place + 1] + data[place:]
        case 3:
            return data[:place] + b" " + data[place:]
        case 4:
            return data[:place]
        case 5:
            lines[one], lines[other] = lines[other], lines[one]
            return b"".join(lines)
        case _:
            return b"".join(lines[:one] + lines[one + 1 :])


def test_what_was_saved_is_read(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text(render_saved(make_plan().as_dict()))
    load_saved_plan(path).check_current(make_plan())


def test_a_changed_byte_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    original = render_saved(make_plan().as_dict()).encode()
    chance = random.Random(0)
    tried = 0
    while tried < MUTATIONS:
        altered = mutate(original, chance)
        if altered == original:
            continue
        tried += 1
        path.write_bytes(altered)
        with pytest.raises(MlspecError):
            load_saved_plan(path).check_current(make_plan())
