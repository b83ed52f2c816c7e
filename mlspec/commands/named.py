"""What a person names, in the ledger: the address of a name alone, and what is near to one."""

from __future__ import annotations

from mlspec.errors import MlspecError
from mlspec.ledger.state import Recorded
from mlspec.render.style import escape
from mlspec.spec.suggest import closest, did_you_mean, known_words

FORMS = (
    "addresses are model.NAME, model.NAME@VERSION, stage.MODEL.NAME, gate.MODEL.NAME, "
    "deployment.NAME@TARGET, dataset.NAME; `mlspec status --all` lists what there is, "
    "`mlspec log ADDRESS` what was tried and failed"
)
_KINDS = ("model", "stage", "gate", "deployment", "dataset")


def find_address(written: str, recorded: Recorded) -> str:
    """An address as it is; of a name alone, the model, dataset or else deployment that has it.

    As in selections, a model and a dataset go before a deployment. `NAME@VERSION` is a version of a
    model. Raises :class:`MlspecError` when nothing has the name, or several have.
    """
    if "." in written:
        return written
    name, at, _ = written.partition("@")
    found = []
    if recorded.model_state(name) is not None:
        found.append(f"model.{written}")
    if not at and recorded.imported(name) is not None:
        found.append(f"dataset.{name}")
    deployed = f"deployment.{written}" if at else f"deployment.{written}@"
    found = found or [each for each in recorded.deployments() if each.startswith(deployed)]
    if len(found) == 1:
        return found[0]
    if found:
        raise MlspecError(
            f"more than one thing has the name `{escape(name)}`",
            hint=f"write one of: {', '.join(found)}",
        )
    deployments = (each.partition("@")[0] for each in recorded.deployments())
    known = (*recorded.models(), *(each.removeprefix("deployment.") for each in deployments))
    raise MlspecError(
        f"the ledger has nothing of the name `{escape(written)}`",
        hint=did_you_mean(name, known) or FORMS,
    )


def unknown_address(address: str, recorded: Recorded) -> MlspecError:
    """What is said of an address that the ledger has nothing at."""
    return MlspecError(
        f"the ledger has nothing at {escape(address)}", hint=_near(address, recorded) or FORMS
    )


def _near(address: str, recorded: Recorded) -> str:
    """What is recorded and may have been meant."""
    kind, _, rest = address.partition(".")
    model, dot, inner = rest.partition("." if kind in ("stage", "gate") else "@")
    match kind:
        case "model" | "stage" | "gate" if recorded.model_state(model) is None:
            meant = closest(model, recorded.models())
            return f"did you mean `{kind}.{meant}{dot}{inner}`?" if meant else ""
        case "model":
            versions = [f"model.{model}@{each.number}" for each in recorded.versions(model)]
            return known_words(versions) if versions else "no version of it is registered yet"
        case "stage":
            state = recorded.model_state(model)
            runs = {each: f"stage.{model}.{each}" for each in (state.runs if state else ())}
            if not runs:
                return "no run of it is recorded yet"
            meant = closest(inner, runs)
            return f"did you mean `{runs[meant]}`?" if meant else known_words(runs.values())
        case "deployment":
            return did_you_mean(address, recorded.deployments())
        case _:
            meant = closest(kind, _KINDS)
            return f"did you mean `{meant}.{rest}`?" if meant and meant != kind else ""
