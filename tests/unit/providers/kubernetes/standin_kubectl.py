# ruff: noqa: T201
"""A stand-in for kubectl and a cluster: objects are files of a folder, named by KUBECTL_STANDIN.

It is no cluster: it merges what is applied into what is there, lets Deployments get ready at once,
and honours get, apply, delete, scale, rollout, exec and logs as mlspec calls them, and nothing
else. A test tells it what to do otherwise by a file of the folder:

    context       the one context that it knows (`test` without the file)
    unreachable   any: the cluster does not answer
    refuse        a word: an object whose JSON has it is refused, in a dry run too
    unready       a word: pods whose template has it never get ready
    keeps         any: KServe knows no annotation that ends pods
    metrics-POD   what a pod says of its metrics
    smoke.json    what a pod answers, [[status, text], ...]; without the file 200 to each row
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

ROOT = Path(os.environ["KUBECTL_STANDIN"])
KINDS = {
    "deployments": "Deployment",
    "deployment": "Deployment",
    "services": "Service",
    "service": "Service",
    "horizontalpodautoscalers": "HorizontalPodAutoscaler",
    "horizontalpodautoscaler": "HorizontalPodAutoscaler",
    "poddisruptionbudgets": "PodDisruptionBudget",
    "poddisruptionbudget": "PodDisruptionBudget",
    "networkpolicies": "NetworkPolicy",
    "networkpolicy": "NetworkPolicy",
    "configmaps": "ConfigMap",
    "configmap": "ConfigMap",
    "pods": "Pod",
    "httproutes": "HTTPRoute",
    "servicemonitors": "ServiceMonitor",
    "inferenceservices": "InferenceService",
    "inferenceservice": "InferenceService",
}


def fail(text):
    print(text, file=sys.stderr)
    raise SystemExit(1)


def told(name):
    path = ROOT / name
    return path.read_text().strip() if path.exists() else None


def path_of(kind, name):
    return ROOT / "objects" / f"{kind}.{name}.json"


def load(kind, name):
    path = path_of(kind, name)
    return json.loads(path.read_text()) if path.exists() else None


def save(item):
    path = path_of(item["kind"], item["metadata"]["name"])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(item, indent=1))


def everything():
    return [json.loads(path.read_text()) for path in sorted((ROOT / "objects").glob("*.json"))]


def ready(item):
    word = told("unready")
    return not (word and word in json.dumps(item["spec"]["template"]))


def settle(item):
    """What a cluster adds: a count of pods, their state, an address."""
    if item["kind"] == "Deployment":
        wanted = item["spec"].setdefault("replicas", 1)
        item["status"] = {"readyReplicas": wanted if ready(item) else 0}
        pod = {
            "kind": "Pod",
            "metadata": {
                "name": f"{item['metadata']['name']}-1",
                **item["spec"]["template"]["metadata"],
            },
            "status": {"containerStatuses": [{"name": "service", "restartCount": 0}]},
        }
        if not ready(item):
            waiting = {"reason": "CrashLoopBackOff", "message": "back-off restarting"}
            pod["status"]["containerStatuses"][0]["state"] = {"waiting": waiting}
        save(pod)
    if item["kind"] == "Service":
        item["spec"].setdefault("clusterIP", "10.0.0.1")
    if item["kind"] == "InferenceService":
        serve(item)
    return item


def serve(item):
    """What KServe does: a pod for each release that gets requests, conditions, an address."""
    name, predictor = item["metadata"]["name"], item["spec"]["predictor"]
    about = item["metadata"].get("annotations", {})
    well = not ((word := told("unready")) and word in json.dumps(predictor))
    stopped = about.get("serving.kserve.io/stop") == "true" and told("keeps") is None
    new = f"{name}-{predictor['labels']['mlspec.dev/revision']}"
    for pod in everything():
        if pod["kind"] == "Pod" and pod["metadata"].get("of") == name:
            last = new not in pod["metadata"]["name"] and "canaryTrafficPercent" in predictor
            if not last and (well or stopped):
                path_of("Pod", pod["metadata"]["name"]).unlink()
    if not stopped:
        labels = {**item["metadata"]["labels"], **predictor["labels"]}
        state = {"name": "kserve-container", "restartCount": 0}
        if not well:
            state["state"] = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}}
        for number in range(predictor["minReplicas"]):
            save(
                {
                    "kind": "Pod",
                    "metadata": {
                        "name": f"{new}-{number}",
                        "of": name,
                        "labels": labels,
                        "annotations": predictor["annotations"],
                    },
                    "status": {
                        "containerStatuses": [state],
                        "conditions": [{"type": "Ready", "status": "True" if well else "False"}],
                    },
                }
            )
    conditions = [{"type": "Ready", "status": "True" if well and not stopped else "False"}]
    if not well:
        why = {"reason": "RevisionFailed", "message": "the container does not start"}
        conditions.append({"type": "PredictorReady", "status": "False", **why})
    item["status"] = {"conditions": conditions, "url": f"http://{name}.ml.example.org"}


def apply(options):
    assert "--server-side" in options and "--field-manager=mlspec" in options, options
    assert "--force-conflicts" in options and "--filename=-" in options, options
    items = json.load(sys.stdin)["items"]
    for item in items:
        word = told("refuse")
        if word and word in json.dumps(item):
            fail(f'Error from server (Forbidden): {item["kind"]} "x" is forbidden: {word}')
    if "--dry-run=server" in options:
        return
    for item in items:
        kind, name = item["kind"], item["metadata"]["name"]
        before = load(kind, name) or {}
        merged = {**item, "status": before.get("status", {})}
        if kind == "Deployment" and "replicas" not in item["spec"] and before:
            merged["spec"] = {**item["spec"], "replicas": before["spec"]["replicas"]}
        save(settle(merged))


def select(what, options, names):
    kinds = {KINDS[each.partition(".")[0]] for each in what.partition("/")[0].split(",")}
    names = [*names, *([what.partition("/")[2]] if "/" in what else [])]
    labels = [o.partition("=")[2] for o in options if o.startswith("--selector=")]
    wanted = dict(pair.split("=") for each in labels for pair in each.split(","))
    for item in everything():
        has = item["metadata"].get("labels", {})
        if item["kind"] not in kinds or (names and item["metadata"]["name"] not in names):
            continue
        if all(has.get(key) == value for key, value in wanted.items()):
            yield item


def main():
    with (ROOT / "calls").open("a") as file:
        file.write(json.dumps(sys.argv[1:]) + "\n")
    arguments = sys.argv[1:]
    context = next(a.partition("=")[2] for a in arguments if a.startswith("--context="))
    assert any(a.startswith("--namespace=") for a in arguments), arguments
    if context != (told("context") or "test"):
        fail(f'error: context "{context}" does not exist')
    if told("unreachable") is not None:
        fail("Unable to connect to the server: dial tcp 127.0.0.1:1: connect: connection refused")
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    options = [a for a in arguments[:cut] if a.startswith("-")]
    verb, *rest = [a for a in arguments[:cut] if not a.startswith("-") and a != "json"]
    if verb == "get":
        found = list(select(rest[0], options, rest[1:]))
        if found:
            print(json.dumps({"kind": "List", "items": found}))
    elif verb == "apply":
        apply(options)
    elif verb == "delete":
        for item in select(rest[0], options, rest[1:]):
            path_of(item["kind"], item["metadata"]["name"]).unlink()
            if item["kind"] == "Deployment":
                path_of("Pod", f"{item['metadata']['name']}-1").unlink()
            for pod in everything() if item["kind"] == "InferenceService" else ():
                if pod["kind"] == "Pod" and pod["metadata"].get("of") == item["metadata"]["name"]:
                    path_of("Pod", pod["metadata"]["name"]).unlink()
    elif verb == "scale":
        item = load("Deployment", rest[0].partition("/")[2])
        item["spec"]["replicas"] = int(options[-1].partition("=")[2])
        save(settle(item))
    elif verb == "rollout":
        assert rest[0] == "status", rest
        item = load("Deployment", rest[1].partition("/")[2])
        if not ready(item):
            fail("error: timed out waiting for the condition")
    elif verb == "exec":
        if "/metrics" in arguments[-1]:
            print(told(f"metrics-{rest[0]}") or "")
            return
        rows = json.load(sys.stdin)
        print(told("smoke.json") or json.dumps([[200, ""] for _ in rows]))
    elif verb == "logs":
        print("[pod/service] loaded the model")
    else:
        fail(f"the stand-in does not know {verb}")


main()
