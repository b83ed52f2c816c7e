"""The application: options and types that commands share, and how it ends."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mlspec import __version__
from mlspec.errors import ExitCode

UsageError: Any = typer.BadParameter.__base__
"""Click's; typer may have a click of its own."""

app = typer.Typer(
    help="Declare datasets, models, gates and deployments in mlspec.yaml; plan and apply them.",
    epilog="Start with `mlspec init my-project --template tabular-classification`.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Deployment = Annotated[
    str, typer.Argument(help="deployment.NAME@TARGET, or NAME if it has one target.")
]
Model = Annotated[str, typer.Argument(help="Name of the model.")]
ModelVersion = Annotated[
    int | None, typer.Option("--version", min=1, help="Which; by default the newest good one.")
]
WorkingTree = Annotated[
    bool, typer.Option("--working-tree", help="Take the artifact here, registered or not.")
]
Adopt = Annotated[
    bool,
    typer.Option("--adopt", help="Trust runs that dvc.lock has and the ledger does not know."),
]
Select = Annotated[
    list[str] | None,
    typer.Option(
        "--select",
        "-s",
        metavar="EXPR",
        help="Only these resources, as said below; more than once: all of them.",
    ),
]
SELECTIONS = """\b
Selections (--select); quote them, for the shell has a use for their signs:
  model.shop-a         the model with its stages, gates and generated files
  stage.shop-a.train   also gate.MODEL.NAME, dataset.NAME, deployment.NAME@TARGET
  shop-a               a model or dataset by its name alone
  'model.shop-*'       every address like this; '*' is everything
  +model.shop-a        with all that it needs
  dataset.sales+       with all that needs it; +X+ is both
  tag:nightly          everything with the tag; owner:ada likewise
  changed:main...HEAD  what this branch touched; changed:HEAD: since the commit
  'A & B'              in both
  'A ^ B'              in A and not in B
  'A | B'  A,B  'A B'  in one of them
+ binds tightest, then &, then ^, then |; parentheses group."""
LockTimeout = Annotated[
    float, typer.Option(help="Seconds to wait while another apply holds the lock.", min=0)
]


def run() -> int:
    """Run the command of this process and give its exit code; wrong usage is an error like others.

    Click's own code for wrong usage is 2, which `plan --detailed-exitcode` has a meaning for.
    """
    try:
        return app(prog_name="mlspec", standalone_mode=False) or ExitCode.OK
    except UsageError as error:
        error.show()
        return ExitCode.ERROR
    except (typer.Abort, KeyboardInterrupt):
        return ExitCode.INTERRUPTED


def console() -> Any:
    from mlspec.render.console import Console

    return Console()


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mlspec {__version__}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    directory: Annotated[
        Path, typer.Option("--directory", "-C", help="Run as if started in this folder.")
    ] = Path(),
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Options of every command."""
    context.obj = directory.resolve()
