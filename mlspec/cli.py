"""The command line: flags to one function of :mod:`mlspec.commands`, its result to an exit code.

Commands are imported when they run, so that `--help` and `--version` stay quick.
"""

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

ledger_app = typer.Typer(help="Mend the ledger.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(ledger_app, name="ledger")
rollout_app = typer.Typer(
    help="Look at the rollout of a deployment, and hold or end it.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(rollout_app, name="rollout")

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


def _console() -> Any:
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


@app.command()
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
            _console(),
            template=template,
            name=name,
            yes=yes,
            list_templates=list_templates,
        )
    )


@app.command()
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

        done = command(context.obj, _console(), as_json=as_json, lock_timeout=lock_timeout)
        raise typer.Exit(done)
    if model is None:
        raise typer.BadParameter("name the model: MODEL, MODEL/VERSION or MODEL@ALIAS")
    from mlspec.commands.adopt_mlflow import TakeOptions, adopt_mlflow

    options = TakeOptions(from_mlflow, model, name, licence, as_json, lock_timeout)
    raise typer.Exit(adopt_mlflow(context.obj, _console(), options))


@app.command()
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
    done = run_fetch(context.obj, _console(), origin, to=to, most=max_bytes, as_json=as_json)
    raise typer.Exit(done)


@app.command()
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
        _console(),
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


@app.command()
def declare(
    context: typer.Context,
    path: Annotated[str, typer.Argument(help="The file to write.")],
    text: Annotated[str, typer.Argument(help="A JSON object.")],
) -> None:
    """Write down what a model is that answers over HTTP: the command of the stage `declare`."""
    from mlspec.commands.declare import run_declare

    raise typer.Exit(run_declare(context.obj, _console(), path, text))


@app.command()
def validate(context: typer.Context, as_json: AsJson = False) -> None:
    """Check the spec and report every problem at once.

    Also that the data, inputs and code that it names exist.
    """
    from mlspec.commands.validate import validate as command

    raise typer.Exit(command(context.obj, _console(), as_json=as_json))


@app.command()
def schema() -> None:
    """Print the JSON Schema of mlspec.yaml, for editors."""
    from mlspec.spec.schema import json_schema

    _console().say_json(json_schema())


@app.command()
def explain(
    code: Annotated[
        str | None, typer.Argument(help="A code such as MLS012; without one, all are listed.")
    ] = None,
) -> None:
    """Explain an error code and how to mend it."""
    from mlspec.commands.explain import explain as command

    raise typer.Exit(command(_console(), code=code))


@app.command("compile", epilog=SELECTIONS)
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
        command(context.obj, _console(), select=select or (), check=check, as_json=as_json)
    )


@app.command(epilog=SELECTIONS)
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
            _console(),
            select=select or (),
            as_json=as_json,
            out=out,
            detailed_exitcode=detailed_exitcode,
            explain=explain,
            adopt=adopt,
        )
    )


@app.command(epilog=SELECTIONS)
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
    raise typer.Exit(command(context.obj, _console(), options))


@app.command()
def pull(context: typer.Context, lock_timeout: LockTimeout = 0) -> None:
    """Bring outputs that the ledger knows; run nothing.

    They come from the cache or from storage, and dvc.lock is written where it lacks a run.
    """
    from mlspec.commands.pull import pull as command

    raise typer.Exit(command(context.obj, _console(), lock_timeout=lock_timeout))


@app.command(epilog=SELECTIONS)
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
        command(context.obj, _console(), select=select or (), show_all=show_all, as_json=as_json)
    )


@app.command()
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
    raise typer.Exit(command(context.obj, _console(), options))


@app.command(epilog=SELECTIONS)
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
        context.obj, _console(), select=select or (), adopt=adopt, yes=yes, as_json=as_json
    )
    raise typer.Exit(code)


@app.command()
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

    raise typer.Exit(command(context.obj, _console(), address=address, as_json=as_json))


@app.command()
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
    raise typer.Exit(command(context.obj, _console(), name, options))


@app.command()
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
        command(context.obj, _console(), identity=identity, folders=folders, as_json=as_json)
    )


@app.command()
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

    raise typer.Exit(command(context.obj, _console(), executor=executor, as_json=as_json))


@app.command()
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
    raise typer.Exit(command(context.obj, _console(), asked, as_json=as_json))


@app.command()
def unlock(
    context: typer.Context,
    lock_id: Annotated[str, typer.Argument(metavar="ID", help="As the refusal tells it.")],
) -> None:
    """Free the lock of an apply that is gone, here and at the remote. Refuses while it lives here.

    Rarely needed: the lock here goes when its process ends, however it ended, and that at the
    remote is taken over when it was not renewed for a minute.
    """
    from mlspec.commands.unlock import unlock as command

    raise typer.Exit(command(context.obj, _console(), lock_id=lock_id))


@ledger_app.command("recover")
def recover_ledger(context: typer.Context, yes: Yes = False, lock_timeout: LockTimeout = 0) -> None:
    """Go back to the last good serial that Git still has, here or at the remote.

    Says what is lost. What is damaged is moved aside, to .git/mlspec-damaged.
    """
    from mlspec.commands.ledger import recover as command

    raise typer.Exit(command(context.obj, _console(), yes=yes, lock_timeout=lock_timeout))


@app.command()
def log(
    context: typer.Context,
    address: Annotated[str | None, typer.Argument(help="Only entries of this address.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many.")] = 30,
    as_json: AsJson = False,
) -> None:
    """Show who did what, when, from which commit."""
    from mlspec.commands.history import show_log as command

    raise typer.Exit(
        command(context.obj, _console(), address=address, limit=limit, as_json=as_json)
    )


@app.command()
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
    raise typer.Exit(command(context.obj, _console(), deployment, options))


@app.command()
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
    raise typer.Exit(command(context.obj, _console(), deployment, options))


@rollout_app.command("status")
def rollout_status(context: typer.Context, deployment: Deployment, as_json: AsJson = False) -> None:
    """Tell its step, what was measured against which limit, and of how many requests."""
    from mlspec.commands.rollout import status as command

    raise typer.Exit(command(context.obj, _console(), name=deployment, as_json=as_json))


@rollout_app.command("pause")
def rollout_pause(context: typer.Context, deployment: Deployment, as_json: AsJson = False) -> None:
    """Keep the shares as they are; a limit that is broken still ends it."""
    from mlspec.commands.rollout import pause as command

    raise typer.Exit(command(context.obj, _console(), name=deployment, as_json=as_json))


@rollout_app.command("resume")
def rollout_resume(context: typer.Context, deployment: Deployment, as_json: AsJson = False) -> None:
    """Go on with a rollout that was paused."""
    from mlspec.commands.rollout import resume as command

    raise typer.Exit(command(context.obj, _console(), name=deployment, as_json=as_json))


@rollout_app.command("abort")
def rollout_abort(context: typer.Context, deployment: Deployment, as_json: AsJson = False) -> None:
    """Give all requests back to what served; that release is not tried again."""
    from mlspec.commands.rollout import abort as command

    raise typer.Exit(command(context.obj, _console(), name=deployment, as_json=as_json))


@app.command()
def stop(context: typer.Context, deployment: Deployment, lock_timeout: LockTimeout = 0) -> None:
    """Stop a deployment until `mlspec start`."""
    from mlspec.commands.deployment import stop as command

    raise typer.Exit(command(context.obj, _console(), name=deployment, lock_timeout=lock_timeout))


@app.command()
def start(context: typer.Context, deployment: Deployment, lock_timeout: LockTimeout = 0) -> None:
    """Start a stopped deployment again."""
    from mlspec.commands.deployment import start as command

    raise typer.Exit(command(context.obj, _console(), name=deployment, lock_timeout=lock_timeout))


@app.command()
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

    raise typer.Exit(command(context.obj, _console(), name=deployment, lines=lines, every=every))


@app.command()
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
    raise typer.Exit(command(context.obj, _console(), options))


@app.command()
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
    raise typer.Exit(command(context.obj, _console(), options))


@app.command()
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
    raise typer.Exit(command(context.obj, _console(), deployment, options))


@app.command()
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
    raise typer.Exit(command(context.obj, _console(), options))


@app.command()
def destroy(
    context: typer.Context, yes: Yes = False, as_json: AsJson = False, lock_timeout: LockTimeout = 0
) -> None:
    """Stop and forget every deployment.

    Versions, data and history are kept.
    """
    from mlspec.commands.destroy import destroy as command

    raise typer.Exit(
        command(context.obj, _console(), yes=yes, as_json=as_json, lock_timeout=lock_timeout)
    )
