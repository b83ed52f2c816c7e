"""`python tests/crash/faulty.py apply --yes` is `mlspec apply --yes` with something wrong in it.

What, the environment says: `MLSPEC_FAILPOINT` and `CRASH_RECORD` (`failpoints.py`), `CRASH_SEEDED`
(`seeded.py`); `CRASH_TARGET` has deployments on a target that only notes them (`standin.py`).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from mlspec.__main__ import main


def run(arguments: Sequence[str]) -> NoReturn:
    """Install what is wanted, then be mlspec."""
    sys.argv = ["mlspec", *arguments]
    if os.environ.get("CRASH_TARGET"):
        import standin

        standin.install()
    if seeded := os.environ.get("CRASH_SEEDED"):
        import seeded as faults

        faults.SEEDED[seeded]()
    wanted, record = (os.environ.get(name, "") for name in ("MLSPEC_FAILPOINT", "CRASH_RECORD"))
    if wanted or record:
        import failpoints

        failpoints.install(wanted, record)
    main()


if __name__ == "__main__":
    run(sys.argv[1:])
