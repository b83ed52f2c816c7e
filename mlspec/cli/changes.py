"""Commands that tell what is to change, and change it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlspec.cli.app import SELECTIONS, Adopt, AsJson, LockTimeout, Select, Yes, console

commands = typer.Typer()


@commands.command(epilog=SELECTIONS)
def plan(
    context: typer.Context,
    select: Select = None,
    as_json: AsJson = False,
    out: Annotated[
        Path | None, typer.Option("--out", help="Save the plan for `mlspec apply FILE`.")
    ] = None,
    detailed_exitcode: Annotated[
        bool, typer.Option("--detailed-exitcode", help="Exit 2 when there is something to do.")
    ] = False,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain", help="Show each model, every changed field, what waits for what."
        ),
    ] = False,
    adopt: Adopt = False,
) -> None:
    """Show what an apply would do, and why. Runs none of your code and needs no data."""
    from mlspec.commands.plan import plan as command

    raise typer.Exit(
        command(
            context.obj,
            console(),
            select=select or (),
            as_json=as_json,
            out=out,
            detailed_exitcode=detailed_exitcode,
            explain=explain,
            adopt=adopt,
        )
    )


@commands.command(epilog=SELECTIONS)
def apply(
    context: typer.Context,
    saved: Annotated[
        Path | None, typer.Argument(metavar="PLAN", help="A plan saved by `plan --out`.")
    ] = None,
    select: Select = None,
    yes: Yes = False,
    allow_delete: Annotated[
        bool, typer.Option("--allow-delete", help="Let the plan delete models and deployments.")
    ] = False,
    allow_empty: Annotated[
        bool, typer.Option("--allow-empty", help="Let the plan delete everything there is.")
    ] = False,
    adopt: Adopt = False,
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs", "-j", min=1, help="Stages at the same time; without it, one for each core."
        ),
    ] = None,
    fail_fast: Annotated[
        bool,
        typer.Option(
            "--fail-fast/--keep-going",
            help="After a failure, start nothing more, or all that does not come after it.",
        ),
    ] = False,
    as_json: AsJson = False,
    lock_timeout: LockTimeout = 0,
) -> None:
    """Do what the plan says and record each step.

    Plans, asks, then runs stages, judges candidates, registers versions and deploys them.

    Exit codes: 3 a gate failed, 4 locked, 5 remote unreachable, 6 a deployment was rolled back.
    """
    from mlspec.commands.apply import ApplyOptions
    from mlspec.commands.apply import apply as command

    options = ApplyOptions(
        saved=saved,
        select=tuple(select or ()),
        yes=yes,
        allow_delete=allow_delete,
        allow_empty=allow_empty,
        adopt=adopt,
        as_json=as_json,
        lock_timeout=lock_timeout,
        jobs=jobs,
        fail_fast=fail_fast,
    )
    raise typer.Exit(command(context.obj, console(), options))


@commands.command()
def pull(context: typer.Context, lock_timeout: LockTimeout = 0) -> None:
    """Bring outputs that the ledger knows; run nothing.

    They come from the cache or from storage, and dvc.lock is written where it lacks a run.
    """
    from mlspec.commands.pull import pull as command

    raise typer.Exit(command(context.obj, console(), lock_timeout=lock_timeout))


@commands.command(epilog=SELECTIONS)
def status(
    context: typer.Context,
    select: Select = None,
    show_all: Annotated[
        bool, typer.Option("--all", help="A row for each, however many are in step or alike.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show what is desired and what runs.

    And what is recorded, and whether all agree.
    """
    from mlspec.commands.status import status as command

    raise typer.Exit(
        command(context.obj, console(), select=select or (), show_all=show_all, as_json=as_json)
    )


@commands.command()
def reconcile(
    context: typer.Context,
    watch: Annotated[
        bool, typer.Option("--watch/--once", help="Go on until a signal, or look once.")
    ] = False,
    interval: Annotated[str, typer.Option(help="Time between two looks, such as 30s.")] = "30s",
    remote: Annotated[str, typer.Option(help="The Git remote to follow.")] = "origin",
    branch: Annotated[str, typer.Option(help="The branch to follow.")] = "main",
    allow_delete: Annotated[
        bool, typer.Option("--allow-delete", help="Let commits delete models and deployments.")
    ] = False,
    self_heal: Annotated[
        bool, typer.Option("--self-heal", help="Mend drift, as `reconcile.self_heal` in the spec.")
    ] = False,
    retry: Annotated[
        bool, typer.Option("--retry", help="Try the newest commit again if it failed.")
    ] = False,
    listen: Annotated[
        str | None,
        typer.Option(metavar="127.0.0.1:PORT", help="Serve /healthz and /metrics there."),
    ] = None,
    jobs: Annotated[
        int | None, typer.Option("--jobs", "-j", min=1, help="Stages at the same time.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print events as lines of JSON.")] = False,
) -> None:
    """Follow a branch of a remote in this clone and apply each new commit once.

    For a clone that nobody else works in. Exit codes of --once: those of `apply` for the newest
    commit; 2 when drift is left.
    """
    from mlspec.commands.reconcile import ReconcileOptions
    from mlspec.commands.reconcile import reconcile as command

    options = ReconcileOptions(
        watch=watch,
        interval=interval,
        remote=remote,
        branch=branch,
        allow_delete=allow_delete,
        self_heal=self_heal,
        retry=retry,
        listen=listen,
        jobs=jobs,
        as_json=as_json,
    )
    raise typer.Exit(command(context.obj, console(), options))


@commands.command(epilog=SELECTIONS)
def drift(
    context: typer.Context,
    select: Select = None,
    adopt: Annotated[
        bool, typer.Option("--adopt", help="Take what is live into the spec, as a patch to it.")
    ] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Show what differs though nobody asked for it, and what mends it.

    Holds generated files, the ledger and dvc.lock, outputs, and what runs here against the spec.
    Exit code 2 when there is drift.
    """
    from mlspec.commands.drift import drift as command

    code = command(
        context.obj, console(), select=select or (), adopt=adopt, yes=yes, as_json=as_json
    )
    raise typer.Exit(code)
