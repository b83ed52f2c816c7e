"""Commands that make a project, or take something into it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlspec.cli.app import AsJson, LockTimeout, Yes, console

commands = typer.Typer()


@commands.command()
def init(
    context: typer.Context,
    directory: Annotated[Path, typer.Argument(help="Folder to make the project in.")] = Path(),
    template: Annotated[
        str | None, typer.Option("--template", "-t", help="Which project; --list shows them.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the project; the folder's by default.")
    ] = None,
    yes: Yes = False,
    list_templates: Annotated[bool, typer.Option("--list", help="List the templates.")] = False,
) -> None:
    """Make a project with a spec, code and data."""
    from mlspec.commands.init import init as command

    raise typer.Exit(
        command(
            context.obj / directory,
            console(),
            template=template,
            name=name,
            yes=yes,
            list_templates=list_templates,
        )
    )


@commands.command()
def adopt(
    context: typer.Context,
    model: Annotated[
        str | None,
        typer.Argument(help="With --from-mlflow: MODEL, MODEL/VERSION or MODEL@ALIAS."),
    ] = None,
    from_mlflow: Annotated[
        str | None,
        typer.Option(metavar="WHERE", help="A tracking server (URL) or a folder (mlruns)."),
    ] = None,
    name: Annotated[str, typer.Option(help="What the model is called here.")] = "",
    licence: Annotated[
        str, typer.Option("--licence", "--license", help="If its tags do not say it.")
    ] = "",
    as_json: AsJson = False,
    lock_timeout: LockTimeout = 0,
) -> None:
    """Take over a repository that was run with DVC alone, or a model of others.

    Writes a spec of its pipelines and data; what was run already does not run again. Says what
    could not be taken over, and leaves the old files. With --from-mlflow, a registered model is
    brought here, and pinned by its digest.
    """
    if from_mlflow is None:
        if model or name or licence:
            raise typer.BadParameter("these go with --from-mlflow")
        from mlspec.commands.adopt import adopt as command

        done = command(context.obj, console(), as_json=as_json, lock_timeout=lock_timeout)
        raise typer.Exit(done)
    if model is None:
        raise typer.BadParameter("name the model: MODEL, MODEL/VERSION or MODEL@ALIAS")
    from mlspec.commands.adopt_mlflow import TakeOptions, adopt_mlflow

    options = TakeOptions(from_mlflow, model, name, licence, as_json, lock_timeout)
    raise typer.Exit(adopt_mlflow(context.obj, console(), options))


@commands.command()
def fetch(
    context: typer.Context,
    url: Annotated[str | None, typer.Option(help="https://HOST/FILE")] = None,
    git: Annotated[
        str | None, typer.Option(help="A Git repository, with --rev and --path.")
    ] = None,
    rev: Annotated[str | None, typer.Option(help="A tag of it, or a whole commit.")] = None,
    hf_folder: Annotated[str | None, typer.Option(help="A snapshot of Hugging Face, here.")] = None,
    oci: Annotated[str | None, typer.Option(help="HOST/REPOSITORY of a registry.")] = None,
    path: Annotated[str | None, typer.Option(help="The file in it.")] = None,
    unpack: Annotated[str | None, typer.Option(help="What comes is an archive: tar, zip.")] = None,
    token_env: Annotated[
        str | None, typer.Option(help="The variable that holds a token.", metavar="NAME")
    ] = None,
    digest: Annotated[str, typer.Option(help="What it must be: sha256:...")] = "",
    to: Annotated[str, typer.Option(help="Where to put it; needs --digest.")] = "",
    max_bytes: Annotated[int | None, typer.Option(help="The most that is fetched.", min=1)] = None,
    as_json: AsJson = False,
) -> None:
    """Fetch a model that others made, or tell its digest.

    With --to, it has to be what --digest says, or nothing is kept: that is what the stage `fetch`
    of a model with `from` runs. Without, what to write into the spec is printed.
    """
    if to and not digest:
        raise typer.BadParameter("--to needs --digest; without both, the digest is told")
    if unpack not in (None, "tar", "zip"):
        raise typer.BadParameter("--unpack is tar or zip")
    from mlspec.commands.fetch import run_fetch
    from mlspec.spec.models import Origin

    said = {"url": url, "git": git, "rev": rev, "hf-folder": hf_folder, "oci": oci, "path": path}
    said |= {"unpack": unpack, "token_env": token_env, "digest": digest, "licence": "unknown"}
    origin = Origin.model_validate(said)
    done = run_fetch(context.obj, console(), origin, to=to, most=max_bytes, as_json=as_json)
    raise typer.Exit(done)


@commands.command()
def convert(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="A file of skops, joblib, a booster or PyTorch.")],
    out: Annotated[str, typer.Argument(help="The ONNX file to write.")],
    sample: Annotated[str, typer.Option(help="Rows to compare with: CSV or Parquet.")],
    format: Annotated[  # noqa: A002
        str, typer.Option(help="What the model is, where its name does not tell.")
    ] = "",
    metrics: Annotated[str, typer.Option(help="Where to write the figures, as JSON.")] = "",
    trusted: Annotated[str, typer.Option(help="Why a joblib file may be loaded.")] = "",
    tolerance: Annotated[
        float | None, typer.Option(help="Fail if numbers differ by more, such as 1e-5.")
    ] = None,
    optional: Annotated[
        bool, typer.Option("--optional", help="Do not fail; say in the figures what came of it.")
    ] = False,
    columns: Annotated[
        str, typer.Option(help="Types of the columns of a model of tensors, as JSON.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Write a model as ONNX, and say how alike and how fast it answers.

    Meant to be the command of a stage: its figures are metrics, which gates can judge.
    """
    from mlspec.commands.convert import run_convert

    done = run_convert(
        context.obj,
        console(),
        model,
        out,
        sample=sample,
        format=format,
        metrics=metrics,
        trusted=trusted,
        tolerance=tolerance,
        optional=optional,
        columns=columns,
        as_json=as_json,
    )
    raise typer.Exit(done)


@commands.command()
def declare(
    context: typer.Context,
    path: Annotated[str, typer.Argument(help="The file to write.")],
    text: Annotated[str, typer.Argument(help="A JSON object.")],
) -> None:
    """Write down what a model is that answers over HTTP: the command of the stage `declare`."""
    from mlspec.commands.declare import run_declare

    raise typer.Exit(run_declare(context.obj, console(), path, text))
