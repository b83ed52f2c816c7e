"""Has the ledger know two versions, of which the first one serves on two other machines."""

from pathlib import Path

from mlspec.git import Git
from mlspec.ledger.entry import make_entry
from mlspec.ledger.paths import candidate_path, deployment_path, state_path, version_path
from mlspec.ledger.records import Candidate, Deployed, File, ModelState, Record, Version
from mlspec.ledger.store import Ledger

git = Git(Path.cwd())
records: dict[str, Record | None] = {state_path("risk"): ModelState(version=2)}
for number, letter in enumerate("ab", 1):
    made = {"fingerprint": letter * 64, "stages": {"train": letter * 64}, "commit": git.head()}
    file = File(path="models/risk.onnx", format="onnx", md5=letter * 32, size=1)
    records[version_path("risk", number)] = Version(
        model="risk", number=number, artifact=file, signature=None, metrics={}, verdicts=(), **made
    )
    records[candidate_path("risk", letter * 64)] = Candidate(
        status="accepted", version=number, **made
    )
for target in ("staging", "production"):
    records[deployment_path("risk", target)] = Deployed(
        deployment="risk",
        target=target,
        model="risk",
        version=1,
        release="c" * 64,
        status="serving",
        place=target,
    )
Ledger(git).record(records, make_entry(git, "apply"))
