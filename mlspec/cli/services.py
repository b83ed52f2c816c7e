"""Commands about what serves, and models to be tried."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlspec.cli.app import (
    AsJson,
    Deployment,
    LockTimeout,
    Model,
    ModelVersion,
    WorkingTree,
    console,
)

commands = typer.Typer()


@commands.command()
def stop(context: typer.Context, deployment: Deployment, lock_timeout: LockTimeout = 0) -> None:
    """Stop a deployment until `mlspec start`."""
    from mlspec.commands.deployment import stop as command

    raise typer.Exit(command(context.obj, console(), name=deployment, lock_timeout=lock_timeout))


@commands.command()
def start(context: typer.Context, deployment: Deployment, lock_timeout: LockTimeout = 0) -> None:
    """Start a stopped deployment again."""
    from mlspec.commands.deployment import start as command

    raise typer.Exit(command(context.obj, console(), name=deployment, lock_timeout=lock_timeout))


@commands.command()
def logs(
    context: typer.Context,
    deployment: Deployment,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, help="How many.")] = 50,
    every: Annotated[
        bool, typer.Option("--all", help="Also of earlier releases and of the supervisor.")
    ] = False,
) -> None:
    """Show the last lines that a deployment logged."""
    from mlspec.commands.deployment import logs as command

    raise typer.Exit(command(context.obj, console(), name=deployment, lines=lines, every=every))


@commands.command()
def serve(
    context: typer.Context,
    model: Model,
    version: ModelVersion = None,
    working_tree: WorkingTree = False,
    port: Annotated[
        int, typer.Option("--port", "-p", min=0, max=65535, help="Else any that is free.")
    ] = 0,
) -> None:
    """Serve a model here until Ctrl-C, with a page to try rows. Needs no deployment.

    What answers POST /predict is the service that a deployment would have. Only this machine can
    reach it, nothing is recorded, and nothing is left afterwards.
    """
    from mlspec.commands.serve import ServeOptions
    from mlspec.commands.serve import serve as command
    from mlspec.commands.staging import Wanted

    options = ServeOptions(Wanted(model, version, working_tree), port)
    raise typer.Exit(command(context.obj, console(), options))


@commands.command()
def predict(
    context: typer.Context,
    model: Model,
    file: Annotated[Path, typer.Argument(help="Rows as .csv, .tsv, .jsonl or .parquet.")],
    out: Annotated[
        Path | None,
        typer.Option(help="Where to, as .csv, .jsonl or .parquet; else lines of JSON are printed."),
    ] = None,
    version: ModelVersion = None,
    working_tree: WorkingTree = False,
    release: Annotated[
        Path | None,
        typer.Option(
            help="The file that names the version: services/NAME/release.json of a batch."
        ),
    ] = None,
    identity: Annotated[
        str | None, typer.Option("--id", metavar="COLUMN", help="Put this column beside the rows.")
    ] = None,
    batch_size: Annotated[
        int, typer.Option(min=1, max=1000, help="Rows that the model gets at once.")
    ] = 1000,
    skip_bad: Annotated[
        bool,
        typer.Option(
            "--skip-bad", help="Write rows that are wrong to OUT.bad.jsonl, and score the others."
        ),
    ] = False,
) -> None:
    """Score the rows of a file, as the service would answer them.

    Takes the columns of the model and tells which it left. Refuses the whole file for a row that is
    wrong, told by row and column; then nothing is written. Needs no deployment.

    Each prediction comes with the number of its row, counted from 1, and the version of the model.
    """
    from mlspec.commands.predict import PredictOptions
    from mlspec.commands.predict import predict as command
    from mlspec.commands.staging import Wanted

    options = PredictOptions(
        file=context.obj / file,
        out=out and context.obj / out,
        wanted=Wanted(model, version, working_tree),
        batch_size=batch_size,
        skip_bad=skip_bad,
        identity=identity,
        release=release and context.obj / release,
    )
    raise typer.Exit(command(context.obj, console(), options))


@commands.command()
def bench(
    context: typer.Context,
    deployment: Deployment,
    connections: Annotated[
        str, typer.Option(metavar="N,...", help="How many ask at once; one after the other.")
    ] = "1,16",
    seconds: Annotated[float, typer.Option(min=0.1, help="How long with each number.")] = 10.0,
    rows: Annotated[int, typer.Option(min=1, max=1000, help="Rows of each request.")] = 1,
    token_env: Annotated[
        str | None,
        typer.Option(
            "--token-env",
            metavar="NAME",
            help="The environment variable with a token, if clients need one; on a local target "
            "mlspec has its own.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure how fast a deployment that runs here answers, and its CPU time for each request.

    Sends its smoke rows, or else the example of what the model takes. These requests are not
    captured; in /metrics they count like others. Exit code 1 if one was not answered with 200.
    """
    from mlspec.commands.bench import BenchOptions
    from mlspec.commands.bench import bench as command

    options = BenchOptions(connections, seconds, rows, token_env, as_json)
    raise typer.Exit(command(context.obj, console(), deployment, options))
