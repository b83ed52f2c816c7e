"""A stage: notes that it ran, reads files, writes files. `step.py NAME READ... -- WRITE...`"""

import json
import os
import sys
from pathlib import Path

name, *rest = sys.argv[1:]
cut = rest.index("--")
with Path(os.environ["STAGE_JOURNAL"]).open("a") as journal:
    journal.write(f"{name}\n")
text = name + "".join(Path(path).read_text() for path in rest[:cut])
for path in map(Path, rest[cut + 1 :]):
    if path.suffix:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"score": len(text)}) if path.suffix == ".json" else text)
    else:
        path.mkdir(parents=True, exist_ok=True)
        (path / "a.txt").write_text(text)
        (path / "b.txt").write_text(text[::-1])
