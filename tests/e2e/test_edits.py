"""For each kind of edit: what the plan says, which stages run, whether the service restarts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow
TABLE = Path(__file__).parents[2] / "build" / "edits.md"
DEPLOYMENT = "deployment.loans@local"
EVERY = ("prepare", "train", "evaluate")
JUDGED = {
    "gate.loans.accuracy": ("reevaluate", "the candidate has not been judged"),
    "gate.loans.no-worse": ("reevaluate", "the candidate has not been judged"),
}
RETRAINED = {
    **JUDGED,
    "model.loans": ("retrain", "a new version, if no gate fails"),
    DEPLOYMENT: ("redeploy", "the version that model.loans registers"),
}
PIPELINE = {
    "file.pipelines/loans/params.json": ("none", "differs from what the spec compiles to"),
}
SERVICE = ("redeploy", "differs from what the spec compiles to")


@dataclass(frozen=True)
class Edit:
    """An edit, the steps that it must lead to (address: consequence and reason), and what runs."""

    name: str
    change: Callable[[Any], None]
    steps: dict[str, tuple[str, str]] = field(default_factory=dict)
    ran: tuple[str, ...] = ()
    restarts: bool = False


def replace(old: str, new: str, path: str = "mlspec.yaml") -> Callable[[Any], None]:
    return lambda project: project.edit(old, new, path)


def add_row(project: Any) -> None:
    project.write("data/loans.csv", project.read("data/loans.csv") + "77,41,1\n")


def remember(stage: str, path: str) -> dict[str, tuple[str, str]]:
    """A later stage that reads what an earlier one may write anew."""
    return {
        f"stage.loans.{stage}": (
            "retrain" if stage == "train" else "reevaluate",
            f"{path} may change; known after it is made again",
        )
    }


EDITS = (
    Edit(
        "a param",
        replace("threshold: 45", "threshold: 46"),
        {
            **PIPELINE,
            "stage.loans.train": ("retrain", "params.threshold changed"),
            **remember("evaluate", "models/loans.onnx"),
            **RETRAINED,
        },
        ran=("train", "evaluate"),
        restarts=True,
    ),
    Edit(
        "a line of training code",
        replace("AGE_WEIGHT = 0.0", "AGE_WEIGHT = 0.001", "src/train.py"),
        {
            "stage.loans.train": ("retrain", "src/train.py changed"),
            **remember("evaluate", "models/loans.onnx"),
            **RETRAINED,
        },
        ran=("train", "evaluate"),
        restarts=True,
    ),
    Edit(
        "a module that it imports",
        replace("SCALE = 1.0", "SCALE = 2.0", "src/linear.py"),
        {
            "stage.loans.train": ("retrain", "src/linear.py changed"),
            **remember("evaluate", "models/loans.onnx"),
            **RETRAINED,
        },
        ran=("train", "evaluate"),
        restarts=True,
    ),
    Edit("an unrelated module", replace('"Loans"', '"All loans"', "src/report.py")),
    Edit("a comment in the spec", replace("# Loans are", "# As a rule, loans are")),
    Edit(
        "a description",
        replace("Whether a loan is repaid", "Whether a loan will be repaid"),
        {"file.cards/loans.md": ("docs", "differs from what the spec compiles to")},
    ),
    Edit(
        "a gate's limit",
        replace("min: 0.90", "min: 0.91"),
        {
            "file.cards/loans.md": ("docs", "differs from what the spec compiles to"),
            "gate.loans.accuracy": ("reevaluate", "min changed"),
            "model.loans": ("reevaluate", "version 4 is judged by other gates than before"),
        },
    ),
    Edit(
        "memory of the service",
        replace("resources: {cpus: 1}", "resources: {cpus: 1, memory: 2GiB}"),
        {DEPLOYMENT: ("redeploy", "its service or resources changed")},
        restarts=True,
    ),
    Edit(
        "cpus of the service",
        replace("resources: {cpus: 1", "resources: {cpus: 2"),
        {
            "file.services/loans/service.py": SERVICE,
            DEPLOYMENT: ("redeploy", "its service or resources changed"),
        },
        restarts=True,
    ),
    Edit(
        "the data",
        add_row,
        {
            "stage.loans.prepare": ("retrain", "data/loans.csv changed"),
            **remember("train", "build/rows.csv"),
            **remember("evaluate", "build/rows.csv"),
            **RETRAINED,
        },
        ran=EVERY,
        restarts=True,
    ),
    Edit(
        "a requirement",
        replace("onnx==1.23.2", "onnx==1.23.1", "requirements.txt"),
        {
            "stage.loans.prepare": ("retrain", "requirements.txt changed"),
            "stage.loans.train": ("retrain", "requirements.txt changed"),
            "stage.loans.evaluate": ("reevaluate", "requirements.txt changed"),
            **RETRAINED,
        },
        ran=EVERY,
        restarts=True,
    ),
    Edit(
        "the evaluation code",
        replace("round(right / len(rows), 4)", "round(right / len(rows), 6)", "src/evaluate.py"),
        {
            "stage.loans.evaluate": ("reevaluate", "src/evaluate.py changed"),
            **JUDGED,
            "model.loans": ("reevaluate", "a new version, if no gate fails"),
            DEPLOYMENT: ("redeploy", "the version that model.loans registers"),
        },
        ran=("evaluate",),
        restarts=True,
    ),
)


@pytest.fixture(scope="module")
def project(make_project: Any) -> Any:
    """One project that takes all edits, one after another."""
    return make_project(serve=True)


@pytest.fixture(scope="module")
def table() -> Iterator[list[str]]:
    """The rows of build/edits.md, written at the end of a whole run."""
    rows: list[str] = []
    yield rows
    if len(rows) == len(EDITS):
        head = ["edit", "planned: consequence and reason", "stages that ran", "service restarted"]
        lines = [head, ["---"] * len(head)]
        TABLE.parent.mkdir(exist_ok=True)
        text = "\n".join([*(f"| {' | '.join(line)} |" for line in lines), *rows, ""])
        TABLE.write_text(text, encoding="utf-8")


@pytest.mark.parametrize("edit", EDITS, ids=[edit.name for edit in EDITS])
def test_an_edit_does_only_what_it_requires(edit: Edit, project: Any, table: list[str]) -> None:
    before, deployed = project.serving(), project.json("log", DEPLOYMENT)
    edit.change(project)
    plan = project.plan()
    ran = project.apply()
    after = project.serving()
    project.commit(f"Change {edit.name}")
    restarted = after["ready"] != before["ready"]
    table.append(_row(edit, plan, ran, restarted))
    assert {a: (s["consequence"], s["reason"]) for a, s in plan.items()} == edit.steps
    assert ran == list(edit.ran)
    assert restarted is edit.restarts
    assert len(project.json("log", DEPLOYMENT)) == len(deployed) + edit.restarts
    assert after["pid"] == before["pid"], "the supervisor itself is never restarted"
    project.check_settled()


def _row(edit: Edit, plan: dict[str, Any], ran: list[str], restarted: bool) -> str:
    steps = [
        f"`{address}` {step['consequence']}: {step['reason']}" for address, step in plan.items()
    ]
    cells = (
        edit.name,
        "<br>".join(steps) or "no changes",
        ", ".join(ran) or "none",
        "yes" if restarted else "no",
    )
    return f"| {' | '.join(cells)} |"
