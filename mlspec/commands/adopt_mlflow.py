"""`mlspec adopt --from-mlflow`: take over a model that others registered with MLflow.

Its file comes into the repository, the spec says where from, and pins it by its digest. Nothing of
it is loaded in this process, and a pickle is not loaded at all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlspec.adoption.carry import ignoring
from mlspec.adoption.flavours import MLMODEL, Flavour, read_flavour
from mlspec.adoption.names import make_name
from mlspec.adoption.registry import Registered, Registry, open_registry, parse_wanted
from mlspec.atomic import make_own_folder, sync_folder, write_atomic
from mlspec.commands.adopt import take_back
from mlspec.dvc.hashing import md5_of_file, sha256_of_file
from mlspec.dvc.scm import Scm
from mlspec.errors import MlspecError, SpecError
from mlspec.formats import inspect_artifact
from mlspec.git import Git
from mlspec.ledger.lock import acquire
from mlspec.render.console import Console
from mlspec.render.style import escape
from mlspec.spec.edit import add_member, has, put_value
from mlspec.spec.load import ROOT, Loaded, load_spec
from mlspec.spec.models import Model
from mlspec.spec.show import show
from mlspec.undo import Undo, whole_or_not_at_all
from mlspec.worktree import Worktree

PART = "adopting.part"
"""What is being downloaded; one at a time, for there is a lock."""
_ANOTHER_NAME = "give what is taken over another name: --name"


@dataclass(frozen=True, slots=True)
class TakeOptions:
    """What a user asks for. `model`: MODEL, MODEL/VERSION or MODEL@ALIAS."""

    where: str
    model: str
    name: str
    licence: str
    as_json: bool
    lock_timeout: float


@dataclass(frozen=True, slots=True)
class _Taken:
    """A model that was downloaded; `name` is that in the spec, `path` where it belongs."""

    source: str
    flavour: Flavour
    name: str
    path: str
    digest: str
    size: int
    licence: str

    @property
    def address(self) -> str:
        return f"{'model' if self.flavour.format else 'dataset'}.{self.name}"

    @property
    def origin(self) -> dict[str, int | str]:
        return {"mlflow": self.source, "digest": self.digest, "licence": self.licence}


def adopt_mlflow(start: Path, console: Console, options: TakeOptions) -> int:
    """Write the model's file and what the spec says of it; everything or nothing."""
    root = Git(start).toplevel
    with acquire(Git(root), options.lock_timeout), whole_or_not_at_all(root) as undo:
        take_back(root, undo, console)
        loaded = load_spec(root) if (root / ROOT).exists() else None
        registry = open_registry(options.where, start=start)
        version = registry.find(parse_wanted(options.model))
        part = make_own_folder(root) / PART
        try:
            taken = _take(registry, version, options, loaded, part)
            known = _known(loaded, taken)
            lost = not _is_there(root, taken)
            if lost:
                _place(root, taken, part, undo, ours=known is not None)
            changed = _say(root, loaded, taken, known, undo) or lost
        finally:
            part.unlink(missing_ok=True)
    if options.as_json:
        console.say_json(_as_dict(taken, changed=changed))
    else:
        console.say("\n".join(_render(taken, changed=changed)))
    return 0


def _take(
    registry: Registry,
    version: Registered,
    options: TakeOptions,
    loaded: Loaded | None,
    part: Path,
) -> _Taken:
    """The model's file at `part`, looked at as far as that is safe."""
    said_by = f"{registry.address}#{version}"
    flavour = read_flavour(registry.read(version, MLMODEL), said_by)
    taken = set(loaded.spec.models) | set(loaded.spec.datasets) if loaded else set()
    name = make_name(options.name or version.name, (), otherwise="model")
    if options.name not in ("", name):
        raise MlspecError(f"{show(options.name)} is no name in a spec", hint=f"--name {name}")
    known = loaded.spec.models.get(name) if loaded else None
    if known is not None and known.from_ is None:
        raise MlspecError(
            f"model.{name} is this repository's own",
            hint=_ANOTHER_NAME,
        )
    if known is not None and known.from_ is not None and not _is_same_model(known, said_by):
        raise MlspecError(
            f"model.{name} was taken from {known.from_.place}",
            hint=_ANOTHER_NAME,
        )
    if known is None and name in taken and flavour.format:
        raise MlspecError(f"dataset.{name} has this name", hint=_ANOTHER_NAME)
    licence = options.licence or version.licence or flavour.licence
    if not licence and known is not None and known.from_ is not None:
        licence = known.from_.licence
    if not licence:
        raise MlspecError(
            f"nothing says under which licence {said_by} may be used",
            hint="say it: --licence Apache-2.0, or --licence unknown; or tag it in the registry",
        )
    registry.download(version, flavour.file, part)
    if not part.stat().st_size:
        raise MlspecError(f"{flavour.file} of {said_by} is empty")
    if flavour.format:
        try:
            inspect_artifact(part, flavour.format)
        except MlspecError as error:
            message = error.message.replace(str(part), f"{flavour.file} of {said_by}")
            raise MlspecError(f"{message}; nothing was changed", hint=error.hint) from error
    own = flavour.format not in ("onnx", "skops")
    suffix = Path(flavour.file).suffix if own else f".{flavour.format}"
    path = known.artifact.path if known and known.artifact else f"models/{name}{suffix}"
    if known is not None and known.artifact and known.artifact.format != flavour.format:
        raise MlspecError(
            f"model.{name} is {known.artifact.format}, and {said_by} is {flavour.kind}",
            hint=_ANOTHER_NAME,
        )
    size = part.stat().st_size
    digest = f"sha256:{sha256_of_file(part)}"
    return _Taken(said_by, flavour, name, path, digest, size, licence)


def _is_same_model(known: Model, source: str) -> bool:
    assert known.from_ is not None
    return (known.from_.mlflow or "").rpartition("/")[0] == source.rpartition("/")[0]


def _known(loaded: Loaded | None, taken: _Taken) -> Model | None:
    return loaded.spec.models.get(taken.name) if loaded else None


def _is_there(root: Path, taken: _Taken) -> bool:
    place = root / taken.path
    kept = place.is_file() and (root / f"{taken.path}.dvc").is_file()
    return kept and f"sha256:{sha256_of_file(place)}" == taken.digest


def _place(root: Path, taken: _Taken, part: Path, undo: Undo, *, ours: bool) -> None:
    """Have the file where it belongs: Git ignores it, and DVC knows it by its own digest."""
    Worktree(root).check_place(taken.path)
    place, scm = root / taken.path, Scm(root, Git(root))
    if scm.is_tracked(taken.path):
        raise MlspecError(
            f"Git tracks {taken.path}, which is DVC's to keep",
            hint=f"git rm --cached {taken.path}",
        )
    if not ours and place.exists() and f"sha256:{sha256_of_file(place)}" != taken.digest:
        raise MlspecError(
            f"there is another file at {taken.path}; nothing was changed",
            hint=f"move it away, or {_ANOTHER_NAME}",
        )
    pointer = f"{taken.path}.dvc"
    if pointer in scm.ignored([pointer]):
        raise MlspecError(
            f"Git would ignore {pointer}, which has to be committed; nothing was changed",
            hint=f"let it through in .gitignore: `git check-ignore -v {pointer}` tells the line; "
            "for `/models/` write `/models/*`, `!/models/.gitignore` and `!/models/*.dvc`",
        )
    undo.keep([taken.path, pointer, ignoring(taken.path)])
    place.parent.mkdir(parents=True, exist_ok=True)
    if not scm.listed(taken.path):
        scm.ignore(taken.path)
    md5, size = md5_of_file(part), part.stat().st_size
    part.chmod(0o644)
    part.replace(place)
    sync_folder(place.parent)
    text = f"outs:\n- md5: {md5}\n  size: {size}\n  hash: md5\n  path: {place.name}\n"
    write_atomic(root / pointer, text)


def _say(root: Path, loaded: Loaded | None, taken: _Taken, known: Model | None, undo: Undo) -> bool:
    """Have the spec say it; whether that is new. Raises if it could not be planned then."""
    texts = dict(_edits(root, loaded, taken, known))
    undo.keep(texts)
    for path, text in texts.items():
        write_atomic(root / path, text)
    try:
        load_spec(root)
    except SpecError as error:
        first = error.diagnostics[0]
        raise MlspecError(
            f"the spec would not be right with it: {first.message} ({first.code})",
            hint=first.hint,
        ) from error
    return bool(texts)


def _edits(
    root: Path, loaded: Loaded | None, taken: _Taken, known: Model | None
) -> Iterator[tuple[str, str]]:
    """The new text of the file of the spec that changes, if one does."""
    if loaded is None:
        name = make_name(root.name, (), otherwise="project")
        made = _added(f"mlspec: 1\nproject: {name}\n", taken)
        assert made is not None
        yield ROOT, made
        return
    if not taken.flavour.format and taken.name in loaded.spec.datasets:
        if loaded.spec.datasets[taken.name].path != taken.path:
            raise MlspecError(
                f"dataset.{taken.name} is another one",
                hint=_ANOTHER_NAME,
            )
        return
    if known is None:
        text = (root / ROOT).read_bytes().decode()
        edited = _added(text, taken)
        file = ROOT
    else:
        assert known.from_ is not None
        old = known.from_.model_dump()
        changed = {key: value for key, value in taken.origin.items() if old[key] != value}
        if not changed:
            return
        place = loaded.place(("models", taken.name))
        file = place.path if place else ROOT
        edited = (root / file).read_bytes().decode()
        if not has(edited, ("models", taken.name, "from")):
            edited = None
        for key, value in changed.items():
            edited = edited and put_value(edited, ("models", taken.name, "from"), key, value)
    if edited is None:
        raise MlspecError(
            f"{file} is written in a way that is not safe to edit",
            hint=f"write it by hand: {_by_hand(taken)}",
        )
    yield file, edited


def _added(text: str, taken: _Taken) -> str | None:
    if not taken.flavour.format:
        about = f"{taken.source}, {taken.flavour.kind}; {taken.digest}, licence {taken.licence}"
        return add_member(text, "datasets", taken.name, {"path": taken.path, "description": about})
    artifact = {"path": taken.path, "format": taken.flavour.format}
    return add_member(text, "models", taken.name, {"from": taken.origin, "artifact": artifact})


def _by_hand(taken: _Taken) -> str:
    said = ", ".join(f"{key}: {value}" for key, value in taken.origin.items())
    return f"in models.{taken.name} `from: {{{said}}}`, and `artifact`"


# what is said -------------------------------------------------------------------------------------


def _render(taken: _Taken, *, changed: bool) -> Iterator[str]:
    if not changed:
        yield f"{escape(taken.address)} is {escape(taken.source)} already."
        return
    yield f"Took over {escape(taken.source)} as {escape(taken.address)}:"
    yield f"  {escape(taken.path)}, {taken.size:,} bytes, {escape(taken.flavour.kind)}"
    yield f"  {taken.digest}"
    yield f"  licence: {escape(taken.licence)}"
    if taken.flavour.format:
        yield f"{ROOT} says so. `mlspec apply` makes it a version; commit {ROOT} and"
        yield f"{escape(taken.path)}.dvc, which stands for the file."
    else:
        yield f"It cannot be served: {escape(taken.flavour.why)}."
        yield "So it was taken over as data. To serve it, convert it to ONNX, or log it with"
        yield "serialization_format='skops', and adopt that."


def _as_dict(taken: _Taken, *, changed: bool) -> dict[str, Any]:
    return {
        "address": taken.address,
        "path": taken.path,
        "format": taken.flavour.format or None,
        "kind": taken.flavour.kind,
        "size": taken.size,
        "changed": changed,
        **taken.origin,
    }
