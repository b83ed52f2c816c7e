"""Commands about a rollout that is under way."""

from __future__ import annotations

import typer

from mlspec.cli.app import AsJson, Deployment, console

commands = typer.Typer(
    name="rollout",
    help="Look at the rollout of a deployment, and hold or end it.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@commands.command("status")
def status(context: typer.Context, deployment: Deployment, as_json: AsJson = False) -> None:
    """Tell its step, what was measured against which limit, and of how many requests."""
    from mlspec.commands.rollout import status as command

    raise typer.Exit(command(context.obj, console(), name=deployment, as_json=as_json))


@commands.command("pause")
def pause(context: typer.Context, deployment: Deployment, as_json: AsJson = False) -> None:
    """Keep the shares as they are; a limit that is broken still ends it."""
    from mlspec.commands.rollout import pause as command

    raise typer.Exit(command(context.obj, console(), name=deployment, as_json=as_json))


@commands.command("resume")
def resume(context: typer.Context, deployment: Deployment, as_json: AsJson = False) -> None:
    """Go on with a rollout that was paused."""
    from mlspec.commands.rollout import resume as command

    raise typer.Exit(command(context.obj, console(), name=deployment, as_json=as_json))


@commands.command("abort")
def abort(context: typer.Context, deployment: Deployment, as_json: AsJson = False) -> None:
    """Give all requests back to what served; that release is not tried again."""
    from mlspec.commands.rollout import abort as command

    raise typer.Exit(command(context.obj, console(), name=deployment, as_json=as_json))
