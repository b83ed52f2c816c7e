"""Has the ledger know a version that serves, how it came about, and a prediction that it made."""

import json
from pathlib import Path

from mlspec.git import Git
from mlspec.ledger.entry import make_entry
from mlspec.ledger.paths import deployment_path, run_path, state_path, version_path
from mlspec.ledger.records import Deployed, File, ModelState, Record, Run, Verdict, Version
from mlspec.ledger.store import Ledger

git = Git(Path.cwd())
entry = {
    "cmd": "python src/train.py",
    "deps": [{"path": "data/loans.csv", "md5": "d" * 32}],
    "outs": [{"path": "models/risk.onnx", "md5": "a" * 32}],
}
verdict = Verdict(
    gate="accuracy", metric="accuracy", level="fail", result="pass", value=0.9, detail="0.9 >= 0.8"
)
made = {"fingerprint": "a" * 64, "commit": git.head()}
records: dict[str, Record | None] = {
    state_path("risk"): ModelState(version=1),
    run_path("risk", "train", "e" * 64): Run(
        stage="train", entry=entry, seconds=3, **{**made, "fingerprint": "e" * 64}
    ),
    version_path("risk", 1): Version(
        model="risk",
        number=1,
        stages={"train": "e" * 64},
        artifact=File(path="models/risk.onnx", format="onnx", md5="a" * 32, size=1),
        signature=None,
        metrics={"accuracy": 0.9},
        verdicts=(verdict,),
        **made,
    ),
}
served = Deployed(
    deployment="risk",
    target="staging",
    model="risk",
    version=1,
    release="c" * 64,
    status="serving",
    place="staging",
)
ledger = Ledger(git)
ledger.record(records, make_entry(git, "apply"))
done = make_entry(git, "apply").about(
    "deployment.risk@staging", "deploy", "done", "version 1 serves at http://127.0.0.1:3000"
)
ledger.record({deployment_path("risk", "staging"): served}, done)

captured = Path(".mlspec/run/risk@staging/capture")
captured.mkdir(parents=True)
line = {
    "id": "order 7",
    "row": 0,
    "ts": "9999-01-01T00:00:00.000+00:00",
    "model": "risk",
    "model_version": 1,
    "inputs": {"income": 70.5},
    "output": {"prediction": 1},
}
unknown = {**line, "id": "order 9", "model_version": 9}
del unknown["model"]  # as an older service wrote it
lines = [json.dumps(each, separators=(",", ":")) + "\n" for each in (line, unknown)]
(captured / "1.jsonl").write_text("".join(lines))
