"""Commands that take away."""

from __future__ import annotations

from typing import Annotated

import typer

from mlspec.cli.app import AsJson, LockTimeout, Yes, console

commands = typer.Typer()


@commands.command()
def gc(
    context: typer.Context,
    keep_days: Annotated[
        int, typer.Option("--keep-days", min=0, help="Keep what was made or used since then.")
    ] = 30,
    keep_versions: Annotated[
        int, typer.Option("--keep-versions", min=1, help="Keep so many newest of each model.")
    ] = 5,
    data: Annotated[
        bool,
        typer.Option("--data", help="Also earlier data, which no run can make again."),
    ] = False,
    shared: Annotated[
        bool,
        typer.Option("--shared", help="Also from storage that others may use."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="Show the plan and remove nothing.")
    ] = False,
    yes: Yes = False,
    as_json: AsJson = False,
    lock_timeout: LockTimeout = 0,
) -> None:
    """Remove files that nothing needs any more, from DVC's cache and from storage.

    Plans, asks, then removes outputs of runs, versions, releases and logs for good; the ledger
    keeps its records of them. Kept is all that serves or is pinned, what one goes back to from
    there, what any branch, tag, stash or worktree names, here or at the remote, each model's newest
    versions, and what is recent. What this repository did not make is never touched.
    """
    from mlspec.commands.gc import GcOptions
    from mlspec.commands.gc import gc as command

    options = GcOptions(
        keep_days=keep_days,
        keep_versions=keep_versions,
        data=data,
        shared=shared,
        dry_run=dry_run,
        yes=yes,
        as_json=as_json,
        lock_timeout=lock_timeout,
    )
    raise typer.Exit(command(context.obj, console(), options))


@commands.command()
def destroy(
    context: typer.Context, yes: Yes = False, as_json: AsJson = False, lock_timeout: LockTimeout = 0
) -> None:
    """Stop and forget every deployment.

    Versions, data and history are kept.
    """
    from mlspec.commands.destroy import destroy as command

    raise typer.Exit(
        command(context.obj, console(), yes=yes, as_json=as_json, lock_timeout=lock_timeout)
    )
