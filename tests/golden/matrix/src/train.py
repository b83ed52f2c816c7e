"""Trains the model of one region."""

import json
import sys
from pathlib import Path

region = sys.argv[1]
Path("models").mkdir(exist_ok=True)
Path(f"models/{region}.onnx").write_text(json.dumps({"region": region}))
