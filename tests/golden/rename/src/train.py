import json
import sys
from pathlib import Path

weight = json.loads(Path(sys.argv[1]).read_text())["train"]["weight"]
print("training")
Path("models/leaving.txt").write_text(f"{weight}\n")
Path("metrics/leaving.json").write_text('{"accuracy": 0.9}')
