"""Which versions can be champion and challenger of each other."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from mlspec.ledger.records import Deployed, Version
from mlspec.planner.challengers import describe_unlike, why_not_beside
from mlspec.planner.facts import Facts
from mlspec.resources import DeploymentResource
from mlspec.spec.models import Challenger, Deployment, Spec

COLUMNS = {"income": "number", "age": "integer"}


def version(model="m", number=1, columns=COLUMNS, missing=(), answers="number"):
    signature = {
        "columns": [
            {"name": name, "type": kind, **({"missing": True} if name in missing else {})}
            for name, kind in columns.items()
        ],
        "outputs": [{"name": "score", "type": answers}],
    }
    return Version(
        model=model,
        number=number,
        fingerprint="f",
        stages={},
        artifact=None,
        signature=signature,
        metrics={},
        verdicts=(),
        commit="c",
    )


@pytest.mark.parametrize(
    ("challenger", "answers", "words"),
    [
        (version(), True, None),
        (version(columns={"age": "integer", "income": "number"}), True, None),
        (version(columns={"income": "number", "age": "number"}), True, None),
        (version(missing=("age",)), True, None),
        (version(answers="string"), False, None),
        (version(answers="string"), True, "it answers string, the champion number"),
        (version(columns={"income": "number"}), False, "it has no column age"),
        (
            version(columns={**COLUMNS, "grade": "string"}),
            False,
            "its column grade is none of the champion's",
        ),
        (
            version(columns={"income": "integer", "age": "integer"}),
            False,
            "its column income is integer, the champion's number",
        ),
        (
            version(columns=dict.fromkeys("abcde", "number")),
            False,
            (
                "it has no column income; it has no column age; "
                "its column a is none of the champion's (and 4 more)"
            ),
        ),
        (version().model_copy(update={"signature": None}), True, None),
    ],
)
def test_columns(challenger, answers, words):
    assert describe_unlike(version(), challenger, answers=answers) == words


def test_what_the_champion_takes_without_a_value():
    words = describe_unlike(version(missing=("age",)), version(), answers=False)
    assert words == "its column age can not be missing"


def facts_of(terms, served, planned=()):
    """A champion `d` of model m and its challenger of model n on target t, and what serves."""
    champion = Deployment(model="m", targets=("t",), challenger=Challenger(model="n", **terms))
    spec = Spec(mlspec=1, project="p", deployments={"d": champion})
    resources = {
        f"deployment.{name}@t": DeploymentResource(name, "t", each, 0, {}, {}, ())
        for name, each in spec.served.items()
    }
    deployed = {
        f"deployment.{name}@t": Deployed(
            deployment=name,
            target="t",
            model=each.model,
            version=each.number,
            release="r",
            status="serving",
            place="",
        )
        for name, each in served.items()
    }
    known = {(each.model, each.number): each for each in served.values()}
    recorded = SimpleNamespace(
        deployed=deployed.get, version=lambda model, number: known.get((model, number))
    )
    facts = Facts(SimpleNamespace(resources=resources), None, recorded)
    facts.steps.update(dict.fromkeys(planned))
    return facts, resources["deployment.d@t"], resources["deployment.d-challenger@t"]


SHADOW, SHARE = {"mode": "shadow"}, {"share": "5%"}
NARROW = version("n", 1, {"income": "number"})


def test_a_challenger_waits_for_a_champion_that_it_fits():
    facts, _, challenger = facts_of(SHADOW, {"d": version()})
    assert why_not_beside(facts, challenger, version("n")) is None
    told = why_not_beside(facts, challenger, NARROW)
    assert told == "version 1 of n can not challenge version 1 of m: it has no column age"
    facts, _, challenger = facts_of(SHADOW, {})
    told = why_not_beside(facts, challenger, version("n"))
    assert told == "deployment.d@t, its champion, is not deployed"


def test_a_champion_that_is_planned_counts():
    facts, _, challenger = facts_of(SHADOW, {"d": version()}, planned=["deployment.d@t"])
    assert why_not_beside(facts, challenger, NARROW) is None, "which version is not known yet"
    facts.versions["deployment.d@t"] = version("m", 2, {"income": "number"})
    assert why_not_beside(facts, challenger, NARROW) is None
    assert why_not_beside(facts, challenger, version("n")) is not None


def test_a_champion_waits_while_its_challenger_answers_and_does_not_fit():
    facts, champion, _ = facts_of(SHARE, {"d": version(), "d-challenger": NARROW})
    told = why_not_beside(facts, champion, version("m", 2))
    assert told is not None
    assert "could not answer what version 2 is asked: it has no column age" in told
    assert why_not_beside(facts, champion, version("m", 2, {"income": "number"})) is None
    # a shadow is in nobody's way
    facts, champion, _ = facts_of(SHADOW, {"d": version(), "d-challenger": NARROW})
    assert why_not_beside(facts, champion, version("m", 2)) is None
