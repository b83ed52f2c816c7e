# ruff: noqa: T201
"""A stand-in for docker: containers are files of a folder, named by ENGINE_STANDIN.

Most tests call it themselves, for a program of its own takes longer than what is tried. It runs
nothing: a container is asked what a file says. HAProxy is a file with the weights that it was told,
and reaches what runs. What mlspec calls is honoured, and nothing else. A test tells it what
to do otherwise by a file of the folder:

    unreachable   any: the daemon does not answer
    taken         a port, or nothing for any: it is another one's
    unready       a word: containers whose labels have it are never ready
    ends          a word: containers whose labels have it end by themselves
    smoke.json    what a container answers, [[status, text], ...]; without the file 200 to each row
    metrics       what a container says of its metrics
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from pathlib import Path

ROOT = Path(os.environ["ENGINE_STANDIN"])
PLACES = 16


def fail(text):
    print(text, file=sys.stderr)
    raise SystemExit(125)


def told(name):
    path = ROOT / name
    return path.read_text().strip() if path.exists() else None


def path_of(name):
    return ROOT / "containers" / f"{name}.json"


def load(name):
    for each in everything():
        if name in (each["Name"], each["Id"]):
            return each
    return fail(f"Error: no such container {name}")


def save(item):
    path_of(item["Name"]).parent.mkdir(exist_ok=True)
    path_of(item["Name"]).write_text(json.dumps(item, indent=1))


def everything():
    return [json.loads(path.read_text()) for path in sorted((ROOT / "containers").glob("*.json"))]


def values(arguments, option):
    return [a.partition("=")[2] for a in arguments if a.startswith(f"{option}=")]


def identity(text):
    return hashlib.sha256(text.encode()).hexdigest()


def runs(ending):
    return any(each["Name"].endswith(ending) and each["State"]["Running"] for each in everything())


def has(item, word):
    return bool(word) and word in json.dumps(item["Config"]["Labels"])


def build(arguments):
    context = Path(arguments[-1])
    label = (context / "Containerfile").read_text().partition('dev.mlspec.inputs="')[2][:64]
    images = ROOT / "images"
    images.mkdir(exist_ok=True)
    name = arguments[arguments.index("--tag") + 1]
    about = {"Id": identity(label), "Config": {"Labels": {"dev.mlspec.inputs": label}}}
    (images / identity(name)).write_text(json.dumps(about))


def inspect(arguments):
    kind = next(iter(values(arguments, "--type")), "image")
    names = [a for a in arguments if not a.startswith("-") and a not in ("image", "inspect")]
    if kind == "container":
        print(json.dumps([each for each in everything() if each["Id"] in names]))
        return
    [name] = names
    path = ROOT / "images" / identity(name)
    if path.exists():
        print(json.dumps([json.loads(path.read_text())]))
    elif name.startswith("localhost/mlspec/"):
        fail("Error: no such image")
    else:
        print(json.dumps([{"Id": name.removeprefix("sha256:")}]))


def run(arguments):
    if "-c" in arguments:
        code = arguments[arguments.index("-c") + 1]
        if "metadata" in code:
            print("[]")
        return
    labels = dict(each.partition("=")[::2] for each in values(arguments, "--label"))
    [name] = values(arguments, "--name")
    published = values(arguments, "--publish")
    taken = told("taken")
    if taken is not None and any(taken in each for each in published):
        fail("Error: rootlessport listen tcp 127.0.0.1:3000: bind: address already in use")
    image = next(a for a in arguments[1:] if not a.startswith("-"))
    cpus, memory = values(arguments, "--cpus"), values(arguments, "--memory")
    running = {"Running": not any(word and word in json.dumps(labels) for word in [told("ends")])}
    ports = {}
    for each in published:
        host, port, inner = each.split(":")
        ports[f"{inner}/tcp"] = [{"HostIp": host, "HostPort": port}]
    item = {
        "Id": identity(name),
        "Name": name,
        "Image": image.removeprefix("sha256:"),
        "State": running,
        "RestartCount": 0,
        "Config": {
            "Labels": labels,
            "User": values(arguments, "--user")[0],
            "Env": [*values(arguments, "--env"), "PATH=/bin"],
        },
        "HostConfig": {
            "NanoCpus": int(float(cpus[0]) * 1e9) if cpus else 0,
            "Memory": int(memory[0]) if memory else 0,
            "ReadonlyRootfs": "--read-only" in arguments,
            "PortBindings": ports,
        },
        "NetworkSettings": {"Networks": {}},
    }
    if "--rm" not in arguments:
        save(item)
    mounted = next(iter(values(arguments, "--volume")), "")
    config = Path(mounted.partition(":")[0]) / "haproxy.cfg"
    if config.is_file():
        weights = dict(re.findall(r"server ([a-z]+)1 .* weight (\d+)", config.read_text()))
        (ROOT / "weights").write_text(json.dumps(weights))


def proxied(command):
    weights = json.loads((ROOT / "weights").read_text())
    if command.startswith("set server"):
        parts = command.split(";")
        for part in parts:
            if found := re.fullmatch(r"set server releases/([a-z]+)\d+ weight (\d+)", part):
                weights[found[1]] = found[2]
        (ROOT / "weights").write_text(json.dumps(weights))
        with (ROOT / "weighed").open("a") as file:
            file.write(json.dumps(weights) + "\n")
        return "\n" * len(parts)
    if command.startswith("show stat"):
        return "# pxname,svname,scur,weight\n" + "".join(
            f"releases,{slot}1,0,{weight}\n" for slot, weight in weights.items()
        )
    lines = ["1", "# be_id be_name srv_id srv_name srv_addr srv_op_state admin uweight"]
    for slot, weight in weights.items():
        for number in range(1, PLACES + 1):
            state = 2 if runs(f"-{slot}-{number}") else 0
            lines.append(f"3 releases {number} {slot}{number} - {state} 0 {weight}")
    return "\n".join(lines) + "\n"


def ps(arguments):
    wanted = [each.removeprefix("label=").split("=", 1) for each in values(arguments, "--filter")]
    for each in everything():
        if all(each["Config"]["Labels"].get(key) == value for key, value in wanted):
            print(each["Id"])


def execute(arguments):
    name = next(a for a in arguments[1:] if not a.startswith("-"))
    item, code = load(name), arguments[-1]
    if "readyz" in code:
        if has(item, told("unready")):
            fail("urllib.error.URLError: <urlopen error [Errno 111] Connection refused>")
    elif "/metrics" in code:
        print(told("metrics") or "")
    elif "socket" in code:
        print(json.dumps([proxied(command) for command in json.load(sys.stdin)]))
    else:
        print(told("smoke.json") or json.dumps([[200, ""] for _ in json.load(sys.stdin)]))


def stop(arguments):
    for name in arguments[2:]:
        save({**load(name), "State": {"Running": False}})


def network(arguments):
    if arguments[1] == "connect":
        item = load(arguments[-1])
        item["NetworkSettings"]["Networks"][arguments[-2]] = {}
        save(item)


def remove(arguments):
    for name in (a for a in arguments[1:] if not a.startswith("-")):
        path_of(name).unlink(missing_ok=True)


VERBS = {
    "build": build,
    "image": inspect,
    "inspect": inspect,
    "run": run,
    "ps": ps,
    "exec": execute,
    "stop": stop,
    "rm": remove,
    "logs": lambda _: print("loaded the model"),
    "network": network,
    "volume": lambda _: None,
    "version": lambda _: None,
}


def main(arguments):
    with (ROOT / "calls").open("a") as file:
        file.write(json.dumps(arguments) + "\n")
    if told("unreachable") is not None:
        fail("Cannot connect to the Docker daemon at unix:///var/run/docker.sock.")
    VERBS[arguments[0]](arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
