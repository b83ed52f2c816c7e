"""Commands about what was done, and by whom."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlspec.cli.app import AsJson, Deployment, LockTimeout, Yes, console

commands = typer.Typer()
ledger = typer.Typer(
    name="ledger", help="Mend the ledger.", no_args_is_help=True, rich_markup_mode=None
)
commands.add_typer(ledger)


@commands.command()
def show(
    context: typer.Context,
    address: Annotated[
        str, typer.Argument(help="NAME, model.NAME, model.NAME@2, deployment.NAME@TARGET…")
    ],
    as_json: AsJson = False,
) -> None:
    """Show a resource with its lineage.

    From a version to its artifact, stages, data, commit and verdicts.
    """
    from mlspec.commands.show import show as command

    raise typer.Exit(command(context.obj, console(), address=address, as_json=as_json))


@commands.command()
def compare(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="DEPLOYMENT", help="The one with a challenger.")],
    captures: Annotated[
        list[Path] | None,
        typer.Option(metavar="FOLDER", help="Look there too, as for captures of another machine."),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="What was right: CSV or lines of JSON, by `id`."),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(
            help="accuracy, absolute_error or squared_error; without it, what suits them."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare a deployment with its challenger, by what both answered.

    A shadow is compared request by request; one that answers clients by what each was asked in the
    same time. With labels also by which of both was right.
    """
    from mlspec.commands.compare import CompareOptions
    from mlspec.commands.compare import compare as command

    options = CompareOptions(
        folders=tuple(context.obj / folder for folder in captures or ()),
        labels=context.obj / labels if labels else None,
        metric=metric,
        as_json=as_json,
    )
    raise typer.Exit(command(context.obj, console(), name, options))


@commands.command()
def trace(
    context: typer.Context,
    identity: Annotated[
        str, typer.Argument(metavar="ID", help="The `id` of an answer, or its x-request-id.")
    ],
    captures: Annotated[
        list[Path] | None,
        typer.Option(metavar="FOLDER", help="Look there too, as for captures of another machine."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Find a prediction in captures, and what made it.

    From the id of an answer to its rows, the version that answered, who deployed that and when, and
    the version's commit, stages, data and verdicts. Needs `capture` in the deployment.
    """
    from mlspec.commands.trace import trace as command

    folders = [context.obj / folder for folder in captures or ()]
    raise typer.Exit(
        command(context.obj, console(), identity=identity, folders=folders, as_json=as_json)
    )


@commands.command()
def doctor(
    context: typer.Context,
    executor: Annotated[
        str | None, typer.Option("--executor", help="Look at this one only; by name.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Tell what this machine and the workers of executors lack.

    Looks at Python, Git, DVC, storage, the repository and the disk. Runs none of your code.
    """
    from mlspec.commands.doctor import doctor as command

    raise typer.Exit(command(context.obj, console(), executor=executor, as_json=as_json))


@commands.command()
def fsck(
    context: typer.Context,
    anchor: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COMMIT", help="A commit of the ledger noted before: it must still hold it."
        ),
    ] = None,
    signed: Annotated[
        bool, typer.Option("--signed", help="Its commits must be signed by whom Git trusts.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check that the ledger and all else that mlspec keeps is whole. Changes nothing.

    Exit code 1 if anything is wrong.
    """
    from mlspec.commands.fsck import Asked
    from mlspec.commands.fsck import fsck as command

    asked = Asked(tuple(anchor or ()), signed)
    raise typer.Exit(command(context.obj, console(), asked, as_json=as_json))


@commands.command()
def unlock(
    context: typer.Context,
    lock_id: Annotated[str, typer.Argument(metavar="ID", help="As the refusal tells it.")],
) -> None:
    """Free the lock of an apply that is gone, here and at the remote. Refuses while it lives here.

    Rarely needed: the lock here goes when its process ends, however it ended, and that at the
    remote is taken over when it was not renewed for a minute.
    """
    from mlspec.commands.unlock import unlock as command

    raise typer.Exit(command(context.obj, console(), lock_id=lock_id))


@ledger.command("recover")
def recover_ledger(context: typer.Context, yes: Yes = False, lock_timeout: LockTimeout = 0) -> None:
    """Go back to the last good serial that Git still has, here or at the remote.

    Says what is lost. What is damaged is moved aside, to .git/mlspec-damaged.
    """
    from mlspec.commands.ledger import recover as command

    raise typer.Exit(command(context.obj, console(), yes=yes, lock_timeout=lock_timeout))


@commands.command()
def log(
    context: typer.Context,
    address: Annotated[str | None, typer.Argument(help="Only entries of this address.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many.")] = 30,
    as_json: AsJson = False,
) -> None:
    """Show who did what, when, from which commit."""
    from mlspec.commands.history import show_log as command

    raise typer.Exit(command(context.obj, console(), address=address, limit=limit, as_json=as_json))


@commands.command()
def rollback(
    context: typer.Context,
    deployment: Deployment,
    to: Annotated[
        int | None,
        typer.Option(
            "--to", min=1, help="The version; by default the newest good one before what serves."
        ),
    ] = None,
    reason: Annotated[
        str, typer.Option("--reason", "-m", help="What is wrong with what serves now.")
    ] = "",
    here: Annotated[
        bool, typer.Option("--here", help="Commit on the current branch, also with a remote.")
    ] = False,
    commit: Annotated[
        bool, typer.Option("--commit/--no-commit", help="Or only edit the spec.")
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Prepare a commit that goes back to an earlier version.

    It pins that version and quarantines the one that serves now; an apply of it trains nothing.
    With a remote it is a new branch, pushed, to be merged; else a commit on the current branch.
    """
    from mlspec.commands.rollback import RollbackOptions
    from mlspec.commands.rollback import rollback as command

    options = RollbackOptions(to=to, reason=reason, here=here, commit=commit, as_json=as_json)
    raise typer.Exit(command(context.obj, console(), deployment, options))


@commands.command()
def approve(
    context: typer.Context,
    deployment: Deployment,
    message: Annotated[
        str, typer.Option("--message", "-m", help="What was looked at, or why.")
    ] = "",
    release: Annotated[
        str,
        typer.Option(
            "--release", metavar="DIGEST", help="Only this one, as the plan told; its beginning."
        ),
    ] = "",
    withdraw: Annotated[bool, typer.Option("--withdraw", help="Take your approval back.")] = False,
    as_json: AsJson = False,
) -> None:
    """Approve the release that a deployment waits with, where its target asks for `approvals`.

    It is recorded in the ledger, under the name and address that Git knows you by. It holds for
    this release alone: another version, service or setting has to be approved anew.
    """
    from mlspec.commands.approve import ApproveOptions
    from mlspec.commands.approve import approve as command

    options = ApproveOptions(message, release, withdraw, as_json)
    raise typer.Exit(command(context.obj, console(), deployment, options))
