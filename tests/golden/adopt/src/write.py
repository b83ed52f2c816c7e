import sys
from pathlib import Path

Path(sys.argv[1]).parent.mkdir(exist_ok=True)
Path(sys.argv[1]).write_text('{"score": 1}')
