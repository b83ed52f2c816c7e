"""Takes out of an image what only tells where and when it was built: a folder in, the same out.

The layers of two builds of one release are the same bytes; what podman and buildah note beside them
is not: the names of their working containers and of the images in between. The folder is one that
they write and read themselves (`dir:`): `manifest.json`, and a file for each part by its sha256.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"


def scrub(folder: Path) -> None:
    """Rewrite the image's configuration, and the manifest that names it."""
    manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_bytes())
    named = folder / manifest["config"]["digest"].removeprefix("sha256:")
    config: dict[str, Any] = json.loads(named.read_bytes())
    for key in ("container", "parent"):
        config.pop(key, None)
    for part in ("config", "container_config"):
        for key in ("Hostname", "Image"):
            if config.get(part):
                config[part].pop(key, None)
    for step in config.get("history") or ():
        step.pop("comment", None)
    content = json.dumps(config, separators=(",", ":"), sort_keys=True).encode()
    digest = hashlib.sha256(content).hexdigest()
    named.unlink()
    (folder / digest).write_bytes(content)
    manifest["config"] |= {"digest": f"sha256:{digest}", "size": len(content)}
    (folder / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
