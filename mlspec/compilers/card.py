"""The card of a model: the spec comes in, `cards/<model>.md` goes out.

It says what the spec says, for people: what the model is for, what it is made of and what it must
show before it serves. Measured values are in the ledger (`mlspec show`), not here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from mlspec.compilers.generated import GeneratedFile, header
from mlspec.compilers.markdown import code, escape, paragraphs, table
from mlspec.plan import Consequence
from mlspec.spec.models import Card, Dataset, Deployment, Gate, Model, Source


def card_path(model: str) -> str:
    return f"cards/{model}.md"


def compile_card(
    name: str,
    model: Model,
    datasets: Mapping[str, Dataset],
    deployments: Mapping[str, Deployment],
) -> GeneratedFile:
    """The card of `model`, called `name`: of what it reads and where it is deployed, by name."""
    text = "\n\n".join(_sections(name, model, datasets, deployments)) + "\n"
    return GeneratedFile(card_path(name), text, f"model.{name}", Consequence.DOCS)


def _sections(
    name: str,
    model: Model,
    datasets: Mapping[str, Dataset],
    deployments: Mapping[str, Deployment],
) -> Iterator[str]:
    card = model.card or Card()
    yield f"<!-- {escape(header(f'model.{name} of mlspec.yaml'))} -->"
    yield f"# {escape(name)}"
    if model.description.strip():
        yield paragraphs(model.description)
    yield from _facts(model, card)
    for title, text in (("Intended use", card.intended_use), ("Limitations", card.limitations)):
        if text.strip():
            yield f"## {title}"
            yield paragraphs(text)
    yield from _data(datasets)
    yield from _gates(model)
    yield from _deployments(deployments)


def _facts(model: Model, card: Card) -> Iterator[str]:
    facts = []
    if model.owner.strip():
        facts.append(f"- **Owner:** {escape(model.owner)}")
    if card.risk:
        facts.append(f"- **Risk:** {card.risk}")
    if model.artifact:
        facts.append(f"- **Artifact:** {code(model.artifact.path)} ({model.artifact.format})")
        if model.artifact.exception:
            facts.append(f"- **Declared exception:** {escape(model.artifact.exception)}")
        if model.artifact.class_:
            facts.append(f"- **Answered by:** {code(model.artifact.class_)}")
    if model.from_:
        how = " (MLflow)" if model.from_.mlflow else ""
        facts.append(f"- **Made by others:** {code(model.from_.place)}{how}")
        facts.append(f"- **Digest:** {code(model.from_.digest)}")
        text = f", {code(model.from_.licence_url)}" if model.from_.licence_url else ""
        facts.append(f"- **Licence:** {escape(model.from_.licence)}{text}")
    if facts:
        yield "\n".join(facts)


def _data(datasets: Mapping[str, Dataset]) -> Iterator[str]:
    if not datasets:
        return
    yield "## Data"
    yield table(
        ("Dataset", "Path", "Description", "Owner", "Source"),
        (
            (
                escape(name),
                code(dataset.path),
                escape(dataset.description),
                escape(dataset.owner),
                _source(dataset.source),
            )
            for name, dataset in sorted(datasets.items())
        ),
    )


def _source(source: Source | None) -> str:
    if source is None:
        return ""
    revision = f" at {code(source.rev)}" if source.rev else ""
    return code(_without_password(source.url or source.git or "")) + revision


def _without_password(url: str) -> str:
    return re.sub(r"//[^/]*@", "//", url, count=1)


def _gates(model: Model) -> Iterator[str]:
    if not model.gates:
        return
    yield "## Gates"
    yield "A candidate becomes a version only when no gate of level `fail` fails."
    yield table(
        ("Gate", "Requires", "Level"),
        ((escape(name), _requirement(gate), gate.level) for name, gate in model.gates.items()),
    )


def _requirement(gate: Gate) -> str:
    metric = code(gate.metric)
    limits = []
    if gate.min is not None:
        limits.append(f"{metric} at least {gate.min}")
    if gate.max is not None:
        limits.append(f"{metric} at most {gate.max}")
    if gate.max_drop is not None:
        limits.append(f"{metric} at most {gate.max_drop} worse than the champion's")
    if gate.min_gain is not None:
        limits.append(f"{metric} at least {gate.min_gain} better than the champion's")
    if gate.max_rise is not None:
        limits.append(f"{metric} at most {gate.max_rise} above the champion's")
    if gate.min_fall is not None:
        limits.append(f"{metric} at least {gate.min_fall} below the champion's")
    if gate.against and gate.without_champion == "fail":
        limits.append("a champion to compare with")
    return ", ".join(limits)


def _deployments(deployments: Mapping[str, Deployment]) -> Iterator[str]:
    rows = [
        (escape(name), escape(target), escape(deployment.owner))
        for name, deployment in sorted(deployments.items())
        for target in deployment.targets
    ]
    if rows:
        yield "## Deployments"
        yield table(("Deployment", "Target", "Owner"), rows)
