# ruff: noqa: T201
"""A stand-in for podman, buildah and docker: notes how it was called, and builds nothing.

The folder BUILDER_STANDIN has `calls`, and `registry` with what was pushed. A file `refuse` there
makes every build fail with its text.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path

ROOT = Path(os.environ["BUILDER_STANDIN"])


def main():
    arguments = sys.argv[1:]
    with (ROOT / "calls").open("a") as file:
        file.write(json.dumps([Path(sys.argv[0]).name, *arguments]) + "\n")
    registry = ROOT / "registry"
    registry.mkdir(exist_ok=True)
    verb = next(a for a in arguments if a in VERBS)
    VERBS[verb](arguments, registry)


def digest_of(reference):
    return "sha256:" + hashlib.sha256(reference.encode()).hexdigest()


def stored(registry, reference):
    return registry / hashlib.sha256(reference.encode()).hexdigest()


def build(arguments, _registry):
    if (ROOT / "refuse").exists():
        print((ROOT / "refuse").read_text(), file=sys.stderr)
        raise SystemExit(125)
    context = Path(arguments[-1])
    listed = sorted(p.relative_to(context).as_posix() for p in context.rglob("*") if p.is_file())
    (ROOT / "context").write_text(json.dumps(listed))
    (ROOT / "Containerfile").write_text((context / "Containerfile").read_text())


def push(arguments, registry):
    reference = arguments[-1]
    if reference.startswith("dir:"):
        config = json.dumps({"container": "c0ffee", "config": {"Hostname": "c0ffee"}}).encode()
        name = hashlib.sha256(config).hexdigest()
        folder = Path(reference.removeprefix("dir:"))
        (folder / name).write_bytes(config)
        manifest = {"config": {"digest": f"sha256:{name}", "size": len(config)}}
        (folder / "manifest.json").write_text(json.dumps(manifest))
        return
    label = (ROOT / "Containerfile").read_text().partition('dev.mlspec.inputs="')[2][:64]
    for name in (reference, f"{reference.rpartition(':')[0]}@{digest_of(reference)}"):
        stored(registry, name).write_text(label)
    if "--digestfile" in arguments:
        Path(arguments[arguments.index("--digestfile") + 1]).write_text(digest_of(reference))


def pull(arguments, registry):
    if arguments[-1].startswith("dir:"):
        folder = Path(arguments[-1].removeprefix("dir:"))
        (ROOT / "taken").write_bytes(b"".join(p.read_bytes() for p in sorted(folder.iterdir())))
        print("0123456789ab")
        return
    if not stored(registry, arguments[-1]).exists():
        print("manifest unknown", file=sys.stderr)
        raise SystemExit(125)


def inspect(arguments, registry):
    reference = arguments[-1]
    name = reference.rpartition(":")[0]
    labels = {"dev.mlspec.inputs": stored(registry, reference).read_text()}
    digest = digest_of(reference)
    if "--type" in arguments:  # buildah
        about = {"FromImageDigest": digest, "Docker": {"config": {"Labels": labels}}}
        print(json.dumps(about))
        return
    about = {"Id": digest, "RepoDigests": [f"{name}@{digest}"], "Config": {"Labels": labels}}
    print(json.dumps([about]))


def run(_arguments, _registry):
    print(json.dumps([["numpy", "2.4.6", "BSD"], ["My_Package", "1.0", ""]]))


VERBS = {
    "build": build,
    "push": push,
    "pull": pull,
    "inspect": inspect,
    "run": run,
    "from": lambda *_: print("working-container"),
    "tag": lambda *_: None,
    "rm": lambda *_: None,
}
main()
