"""Has the ledger know a version of each of two models; the second takes other columns."""

from pathlib import Path

from mlspec.git import Git
from mlspec.ledger.entry import make_entry
from mlspec.ledger.paths import candidate_path, deployment_path, state_path, version_path
from mlspec.ledger.records import Candidate, Deployed, File, ModelState, Record, Version
from mlspec.ledger.store import Ledger

git = Git(Path.cwd())
records: dict[str, Record | None] = {}
for model, letter, columns in (("risk", "a", ["income", "age"]), ("forest", "b", ["income"])):
    made = {"fingerprint": letter * 64, "stages": {"train": letter * 64}, "commit": git.head()}
    signature = {
        "columns": [{"name": name, "type": "number"} for name in columns],
        "outputs": [{"name": "score", "type": "number"}],
    }
    file = File(path=f"models/{model}.onnx", format="onnx", md5=letter * 32, size=1)
    records[state_path(model)] = ModelState(version=1)
    records[version_path(model, 1)] = Version(
        model=model, number=1, artifact=file, signature=signature, metrics={}, verdicts=(), **made
    )
    records[candidate_path(model, letter * 64)] = Candidate(status="accepted", version=1, **made)
records[deployment_path("risk", "production")] = Deployed(
    deployment="risk",
    target="production",
    model="risk",
    version=1,
    release="c" * 64,
    status="serving",
    place="another machine",
)
Ledger(git).record(records, make_entry(git, "apply"))
