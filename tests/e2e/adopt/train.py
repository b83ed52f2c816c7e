"""Trains as params.yaml says. `train.py READ WRITE`"""

import os
import sys
from pathlib import Path

import yaml

with Path(os.environ["STAGE_JOURNAL"]).open("a") as journal:
    journal.write("train\n")
params = yaml.safe_load(Path("params.yaml").read_text())
Path(sys.argv[2]).parent.mkdir(parents=True, exist_ok=True)
Path(sys.argv[2]).write_text(f"{params['train']}{Path(sys.argv[1]).read_text()}")
