"""Notes outside of the repository which stage really ran."""

import os
from pathlib import Path


def note(stage: str) -> None:
    with Path(os.environ["STAGE_JOURNAL"]).open("a") as journal:
        journal.write(f"{stage}\n")
