"""`python -m mlspec.providers.local.build VERSION SECONDS`: builds the Bento of this folder.

A child process, because mlspec's own never imports BentoML. The Bento is put into BENTOML_HOME.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime


def main() -> None:
    version, seconds = sys.argv[1], int(sys.argv[2])
    from bentoml.bentos import build_bentofile

    bento = build_bentofile("bentofile.yaml", version=version, build_ctx=".")
    # With the commit's time instead of the clock's, equal sources give equal Bentos.
    object.__setattr__(bento.info, "creation_time", datetime.fromtimestamp(seconds, UTC))
    bento.flush_info()


if __name__ == "__main__":
    main()
