"""Makes the image of a release, unless there is one: a staged release in, a pinned name out.

What was made is kept beside the releases, so that the next target takes the very same image::

    .mlspec/images/<inputs12>/image.json   name with digest, and what built it
    .mlspec/images/<inputs12>/sbom.json    its bill of materials

`inputs` is the digest of the recipe and of every file in it. The image's tag has it, so another
machine finds the image in the registry and takes it too: what was judged is never built again.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlspec.atomic import make_own_folder
from mlspec.compilers.bento import ON_SAGEMAKER
from mlspec.compilers.containerfile import APP, FILE, INPUTS, compile_containerfile
from mlspec.errors import MlspecError
from mlspec.fingerprint import digest_of
from mlspec.providers.images.bom import LIST_CODE, render_bom
from mlspec.providers.images.builder import Builder, find_builder
from mlspec.providers.target import Release

RECORD, BOM = "image.json", "sbom.json"
LOCAL = "localhost/mlspec"
"""Stands before the names of images that are in no registry."""
EPOCH = 315_532_800
"""Stands in an image for when it was made: 1980, in seconds. Archives cannot tell earlier times."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What an image is made of. `app` is the folder with the service's files, `commit` may be
    unknown."""

    deployment: str
    model: str
    version: int
    commit: str
    app: Path
    base: str
    bentoml: bool
    workers: int


@dataclass(frozen=True, slots=True)
class Built:
    """An image in a registry: `reference` is its name with its digest."""

    reference: str
    bom: Path


def image_of(
    root: Path, deployment: str, release: Release, kind: str = "kubernetes", program: str = ""
) -> str:
    """The image of a staged release for its target of this kind, by its digest.

    It is in the target's registry; without one, only where `program` has its images.
    """
    place: Mapping[str, Any] = release.settings[kind]
    model = json.loads((release.bento / "src/model/model.json").read_bytes())
    recipe = Recipe(
        deployment=deployment,
        model=release.model,
        version=release.version,
        commit=str(model.get("commit") or ""),
        app=release.bento / "src",
        base=str(place["base"]),
        bentoml=(release.bento / "bento.yaml").is_file(),
        workers=release.workers,
    )
    image: Mapping[str, Any] | None = place["image"]
    if image is None:
        return ensure_local_image(root, recipe, program).reference
    built = ensure_image(
        root, recipe, str(image["repository"]), image.get("auth_env"), program, release.judged
    )
    if program:  # it may be known, and gone from there
        find_builder(image.get("auth_env"), program).fetch(built.reference)
    return built.reference


def ensure_image(
    root: Path,
    recipe: Recipe,
    repository: str,
    auth_env: str | None,
    program: str = "",
    judged: str = "",
) -> Built:
    """The image of a recipe in a registry: the one that is known, or there, else a new one.

    The one that was `judged` is taken before any other: as it is, where it is in the same
    repository, else a copy of it. Raises :class:`MlspecError` if it is of other inputs.
    """
    inputs = _inputs(recipe)
    name = f"{repository}/{recipe.deployment}"
    folder = make_own_folder(root, "images") / inputs[:12]
    known = _known(folder, name)
    if known and (known.reference == judged or not judged.startswith(f"{name}@")):
        return known
    builder = find_builder(auth_env, program)
    if judged.startswith(f"{name}@"):
        if builder.pull(judged, inputs, INPUTS) is None:
            raise MlspecError(
                f"{judged} was judged on the target before, and the registry does not have it "
                "with what this release is made of",
                hint="deploy to the target before anew: it may have been removed there",
            )
        return _keep(folder, builder, recipe, judged, judged)
    tag = f"{name}:{_tag(recipe, inputs)}"
    digest = builder.pull(tag, inputs, INPUTS)
    if digest is None:
        source = _have_copy(builder, recipe, judged, inputs)
        if source is None:
            _build(builder, recipe, tag, inputs)
        else:
            builder.tag(source, tag)
        digest = builder.push(tag)
    return _keep(folder, builder, recipe, tag, f"{name}@{digest}")


def _have_copy(builder: Builder, recipe: Recipe, judged: str, inputs: str) -> str | None:
    """The same image in another place, that the builder can have here; none if there is none."""
    for place in filter(None, (judged, f"{LOCAL}/{recipe.deployment}:{_tag(recipe, inputs)}")):
        if "/" in place and place == judged:
            with suppress(MlspecError):
                builder.fetch(place)
        if builder.find(place, inputs, INPUTS) is not None:
            return place
    return None


def _tag(recipe: Recipe, inputs: str) -> str:
    return f"v{recipe.version}-{inputs[:12]}"


def ensure_local_image(root: Path, recipe: Recipe, program: str) -> Built:
    """The image of a recipe where `program` has its images, in no registry; named by its digest."""
    inputs = _inputs(recipe)
    builder = find_builder(None, program)
    tag = f"{LOCAL}/{recipe.deployment}:{_tag(recipe, inputs)}"
    found = builder.find(tag, inputs, INPUTS)
    if found is None:
        _build(builder, recipe, tag, inputs)
        found = builder.find(tag, inputs, INPUTS)
        if found is None:
            raise MlspecError(f"{tag} was built, and {builder.name} does not have it")
    folder = make_own_folder(root, "images") / inputs[:12]
    known = _known(folder, f"{LOCAL}/{recipe.deployment}")
    if known is None or not known.reference.endswith(found):
        known = _keep(folder, builder, recipe, tag, f"{LOCAL}/{recipe.deployment}@{found}")
    return Built(found, known.bom)


def _build(builder: Builder, recipe: Recipe, tag: str, inputs: str) -> None:
    with tempfile.TemporaryDirectory(prefix="mlspec-image-") as staging:
        _stage(Path(staging), recipe, inputs)
        builder.build(Path(staging), tag, EPOCH)


def _inputs(recipe: Recipe) -> str:
    """Digest of the recipe's text and of each file that it takes."""
    files = {path.relative_to(recipe.app).as_posix(): _sha256(path) for path in _files(recipe.app)}
    text = _text(recipe, "")
    return digest_of({"recipe": text, "files": files, "epoch": EPOCH})


def _text(recipe: Recipe, inputs: str) -> str:
    labels = {
        "dev.mlspec.deployment": recipe.deployment,
        "dev.mlspec.model": recipe.model,
        "org.opencontainers.image.revision": recipe.commit,
        "org.opencontainers.image.title": recipe.deployment,
        "org.opencontainers.image.version": str(recipe.version),
        INPUTS: inputs,
    }
    owner = f"deployment.{recipe.deployment}"
    return compile_containerfile(
        owner,
        recipe.base,
        labels,
        bentoml=recipe.bentoml,
        workers=recipe.workers,
        serve_file=ON_SAGEMAKER if (recipe.app / ON_SAGEMAKER).is_file() else "",
    )


def _stage(folder: Path, recipe: Recipe, inputs: str) -> None:
    """Only the files of the release, readable by all, whatever their modes are here."""
    for path in _files(recipe.app):
        copy = folder / APP / path.relative_to(recipe.app)
        copy.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
        copy.chmod(0o644)
    (folder / FILE).write_text(_text(recipe, inputs), encoding="utf-8")
    for path in (folder / APP, *(each for each in (folder / APP).rglob("*") if each.is_dir())):
        path.chmod(0o755)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _known(folder: Path, name: str) -> Built | None:
    try:
        kept: Mapping[str, str] = json.loads((folder / RECORD).read_bytes())
        reference = kept["reference"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not reference.startswith(f"{name}@") or not (folder / BOM).is_file():
        return None
    return Built(reference, folder / BOM)


def _keep(folder: Path, builder: Builder, recipe: Recipe, tag: str, reference: str) -> Built:
    packages = [tuple(each) for each in json.loads(builder.run_python(tag, LIST_CODE))]
    name, _, digest = reference.rpartition("@")
    about = {"name": name, "version": str(recipe.version), "digest": digest}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / BOM).write_text(render_bom(about, packages), encoding="utf-8")
    kept = {"reference": reference, "tag": tag, "builder": builder.name}
    (folder / RECORD).write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")
    return Built(reference, folder / BOM)
