"""The command line: flags to one function of :mod:`mlspec.commands`, its result to an exit code.

Commands are imported when they run, so that `--help` and `--version` stay quick.
"""

from mlspec.cli import changes, projects, records, removal, rollouts, services, specs
from mlspec.cli.app import app, run

__all__ = ["app", "run"]

for group in (projects, specs, changes, records, rollouts, services, removal):
    app.add_typer(group.commands)
