"""Selection: which resources a command is about, as `--select` says it.

Comes in: an expression such as `+model.churn & tag:nightly`, and what the spec declares. Goes out:
the addresses that it stands for. Nothing here looks at files or at Git; what `changed:` stands for
is asked of a function that is handed in.

    text -> Expression   (expression)
         -> Selected     (select, by a graph of who needs whom)
"""

from mlspec.selection.expression import Expression, SelectionError, parse
from mlspec.selection.graph import Graph
from mlspec.selection.select import Selected, select

__all__ = ["Expression", "Graph", "Selected", "SelectionError", "parse", "select"]
