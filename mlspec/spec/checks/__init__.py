"""What a spec must be beyond its types: one file for each topic.

Each check yields :class:`~mlspec.spec.tree.Problem` and knows nothing of files or of the others.
A model is checked by itself; what concerns several is checked on their faces. The checks of
:mod:`~mlspec.spec.checks.disk` alone look at the disk.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping

from mlspec.spec.checks import (
    approvals,
    artifacts,
    batch,
    challengers,
    conversion,
    executors,
    gates,
    moves,
    names,
    origins,
    overlaps,
    params,
    paths,
    pipelines,
    references,
    rollouts,
    sagemaker,
    services,
    targets,
    values,
    versions,
)
from mlspec.spec.checks.disk import Disk
from mlspec.spec.checks.names import Names
from mlspec.spec.interfaces import Face
from mlspec.spec.models import Model, Spec
from mlspec.spec.tree import Node, Problem

__all__ = ["Disk", "Names", "check_head", "check_model", "check_together"]


def check_model(
    name: str, model: Model, datasets: Container[str] = (), written: Node | None = None
) -> Iterator[Problem]:
    """Every problem of one model whose types are right, whatever else there is.

    `written` is how the values of the spec were written; without it no limit may be written `-0`.
    An input that is not in `datasets` is a path.
    """
    yield from pipelines.check_model(name, model)
    yield from artifacts.check_model(name, model)
    yield from conversion.check_model(name, model)
    yield from params.check_model(name, model)
    yield from gates.check_model(name, model, written)
    yield from paths.check_model(name, model, datasets)
    yield from values.check_model(name, model)
    yield from origins.check_model(name, model)
    yield from versions.check_model(name, model)
    yield from names.check_tags(model.tags, ("models", name))


def check_head(spec: Spec) -> Iterator[Problem]:
    """Every problem of what is not a model."""
    yield from paths.check(spec)
    yield from values.check(spec)
    yield from rollouts.check(spec)
    yield from challengers.check(spec)
    yield from sagemaker.check(spec)
    yield from targets.check(spec)
    yield from approvals.check(spec)
    yield from batch.check(spec)
    yield from services.check(spec)
    for name, dataset in spec.datasets.items():
        yield from names.check_tags(dataset.tags, ("datasets", name))
    for name, deployment in spec.deployments.items():
        yield from names.check_tags(deployment.tags, ("deployments", name))


def check_together(
    spec: Spec, faces: Mapping[str, Face], known: Names, families: Mapping[str, str]
) -> Iterator[Problem]:
    """Every problem between models, and between them and the rest.

    `families`: of each member of a matrix, the name of the model that it was written as.
    """
    yield from references.check(spec, faces, known)
    yield from moves.check(spec, known)
    yield from executors.check(spec, faces)
    yield from overlaps.check(spec, faces, families)
    yield from batch.check_written(spec, faces)
    yield from pipelines.check(spec, faces)
