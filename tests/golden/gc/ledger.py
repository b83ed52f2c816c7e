"""Has the ledger know six versions, with their files in DVC's cache and in storage.

Two of them serve on other machines. The gates hold for all but the fourth.
"""

import hashlib
from pathlib import Path

from mlspec.git import Git
from mlspec.ledger.entry import make_entry
from mlspec.ledger.paths import (
    candidate_path,
    deployment_path,
    run_path,
    state_path,
    version_path,
)
from mlspec.ledger.records import Candidate, Deployed, File, ModelState, Record, Run, Version
from mlspec.ledger.store import Ledger

git = Git(Path.cwd())
records: dict[str, Record | None] = {
    state_path("risk"): ModelState(version=6, runs={"train": "6" * 64}, candidate="6" * 64)
}
for number in range(1, 7):
    data = f"risk {number}\n".encode() * 1000
    md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
    for place in (".dvc/cache", ".mlspec/storage"):
        path = Path(place, "files/md5", md5[:2], md5[2:])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        path.chmod(0o444)
    fingerprint = f"{number}" * 64
    out = {"path": "models/risk.onnx", "hash": "md5", "md5": md5, "size": len(data)}
    entry = {"cmd": "python src/train.py", "outs": [out]}
    records[run_path("risk", "train", fingerprint)] = Run(
        stage="train", fingerprint=fingerprint, entry=entry, seconds=1, commit="", dirty=True
    )
    made = {"fingerprint": fingerprint, "stages": {"train": fingerprint}, "commit": ""}
    file = File(path="models/risk.onnx", format="onnx", md5=md5, size=len(data))
    records[version_path("risk", number)] = Version(
        model="risk", number=number, artifact=file, signature=None, metrics={}, verdicts=(), **made
    )
    status = "rejected" if number == 4 else "accepted"
    records[candidate_path("risk", fingerprint)] = Candidate(status=status, version=number, **made)
for target, number in (("staging", 6), ("production", 5)):
    records[deployment_path("risk", target)] = Deployed(
        deployment="risk",
        target=target,
        model="risk",
        version=number,
        release="c" * 64,
        status="serving",
        place=target,
    )
Ledger(git).record(records, make_entry(git, "apply"))
