"""Commands about what is written."""

from __future__ import annotations

from typing import Annotated

import typer

from mlspec.cli.app import SELECTIONS, AsJson, Select, console

commands = typer.Typer()


@commands.command()
def validate(context: typer.Context, as_json: AsJson = False) -> None:
    """Check the spec and report every problem at once.

    Also that the data, inputs and code that it names exist.
    """
    from mlspec.commands.validate import validate as command

    raise typer.Exit(command(context.obj, console(), as_json=as_json))


@commands.command()
def schema() -> None:
    """Print the JSON Schema of mlspec.yaml, for editors."""
    from mlspec.spec.schema import json_schema

    console().say_json(json_schema())


@commands.command()
def explain(
    code: Annotated[
        str | None, typer.Argument(help="A code such as MLS012; without one, all are listed.")
    ] = None,
) -> None:
    """Explain an error code and how to mend it."""
    from mlspec.commands.explain import explain as command

    raise typer.Exit(command(console(), code=code))


@commands.command("compile", epilog=SELECTIONS)
def compile_files(
    context: typer.Context,
    select: Select = None,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit 1 when a file is out of date.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write the generated files and run nothing.

    They are DVC pipelines, BentoML services, model cards and CI workflows.
    """
    from mlspec.commands.compile import compile_files as command

    raise typer.Exit(
        command(context.obj, console(), select=select or (), check=check, as_json=as_json)
    )
