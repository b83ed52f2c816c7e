"""What a command does with a deployment on a cluster: observe, deploy, go back, stop, start.

What was last applied and found good is kept beside it in the namespace (`kept.py`): any machine can
observe it, go back to it and take it away. A release that does not get ready is replaced by that;
what served goes on serving all the while, since a pod of it ends only when a new one is ready.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from mlspec.atomic import make_own_folder
from mlspec.compilers.kubernetes import (
    CANARY,
    CONTAINER,
    RELEASE,
    STABLE,
    TRACK,
    Object,
    Track,
    Workload,
    compile_kubernetes,
    compile_trial,
    key_of,
    selector,
)
from mlspec.errors import MlspecError, RolledBack
from mlspec.providers.images.build import image_of
from mlspec.providers.kubernetes.compare import Difference, compare_objects
from mlspec.providers.kubernetes.kept import (
    Kept,
    describe_running,
    describe_trouble,
    load_kept,
    make_record,
    record_name,
)
from mlspec.providers.kubernetes.kubectl import Kubectl, Refused
from mlspec.providers.kubernetes.smoke import check_smoke
from mlspec.providers.kubernetes.trial import KubernetesTrial, needs_gateway, read_counts
from mlspec.providers.target import Release, Running
from mlspec.rollouts.counts import Counts
from mlspec.spec.models import challenger_name

KINDS = (
    "deployments.apps,services,horizontalpodautoscalers.autoscaling,"
    "poddisruptionbudgets.policy,networkpolicies.networking.k8s.io"
)
"""Kinds that every cluster has and that may be mlspec's."""
EXTRA = {
    "HTTPRoute": "httproutes.gateway.networking.k8s.io",
    "ServiceMonitor": "servicemonitors.monitoring.coreos.com",
}
"""Kinds that a cluster has if somebody installed them."""
SHARES = 1000
"""What the weights of a route add up to while there are two releases."""
LOG_LINES = 2000
TROUBLE_LINES = 15
BACK_SECONDS = 60.0
"""More than a release has, for going back: pods of what served are there already."""


@dataclass(frozen=True, slots=True)
class KubernetesTarget:
    """A target of kind `kubernetes`. `place` is what the spec says of it, and the project."""

    root: Path
    name: str
    port: int
    place: Mapping[str, Any]
    kind: ClassVar[str] = "kubernetes"
    kinds: ClassVar[str] = KINDS

    @property
    def kubectl(self) -> Kubectl:
        return Kubectl(str(self.place["context"]), str(self.place["namespace"]))

    @property
    def ready_seconds(self) -> float:
        return float(self.place.get("ready") or 300.0)

    def observe(self, deployment: str) -> Running | None:
        live = self.kubectl.get(
            f"{self.kinds},configmaps,pods", f"--selector={self._labels(deployment)}"
        )
        kept = load_kept(live)
        main = next((each for each in live if key_of(each) == ("Deployment", deployment)), None)
        if kept is None and main is None:
            return None
        differs: tuple[Difference, ...] = ()
        if kept is not None:
            live += self._extra(kept.objects)
            differs = tuple(compare_objects(kept.expected, live))
        spec, status = (main or {}).get("spec", {}), (main or {}).get("status", {})
        return describe_running(
            self._url(deployment, kept),
            kept,
            main,
            live,
            differs,
            workers=int(spec.get("replicas") or 0),
            ready=int(status.get("readyReplicas") or 0),
        )

    def release(self, deployment: str) -> Release | None:  # noqa: ARG002
        return None  # its files are in an image, and no longer here

    def deploy(
        self, deployment: str, release: Release, smoke: Sequence[Mapping[str, Any]]
    ) -> Running:
        kubectl, where = self.kubectl, self._address(deployment)
        before = self._unless_later(deployment, release)
        image = self._image(deployment, release)
        workload = self._workload(deployment, release, image)
        objects = self._compile(workload)
        # What the cluster refuses is told before anything changes.
        kubectl.apply(objects, dry=True)
        if smoke and (failed := self._try(workload, smoke)):
            raise RolledBack(f"{where}: {not_taken(release)}: {failed}")
        self._take(deployment, release, image, objects, before)
        self._join(release.settings, joined=True)
        return self._observed(deployment)

    @contextmanager
    def try_out(
        self,
        deployment: str,
        release: Release,
        smoke: Sequence[Mapping[str, Any]],
        *,
        splits: bool,
    ) -> Iterator[KubernetesTrial]:
        kubectl, where = self.kubectl, self._address(deployment)
        before = self._unless_later(deployment, release)
        if before is None:
            raise MlspecError(f"{where}: nothing serves there, beside which to try a release")
        if splits and not self.place.get("gateway"):
            raise needs_gateway(where)
        image = self._image(deployment, release)
        stable = Track(before.model, before.version, before.release, before.image)
        new = Track(release.model, release.version, release.digest, image)

        def parted(share: float) -> tuple[Object, ...]:
            weight = round(share * SHARES)
            workload = self._of(
                deployment, release.settings, replace(stable, weight=SHARES - weight)
            )
            canary = replace(new, weight=weight, copies=workload.copies[0])
            return compile_kubernetes(replace(workload, canary=canary))

        def give(share: float) -> None:
            route = [each for each in parted(share) if each["kind"] == "HTTPRoute"]
            if splits:
                kubectl.apply(route)

        def take() -> None:
            objects = compile_kubernetes(self._of(deployment, release.settings, new))
            give(1.0)  # while its pods take the places of the others
            self._take(deployment, release, image, objects, before)

        def leave() -> None:
            with suppress(MlspecError):  # at once, if it can be told to
                give(0.0)
            self._go_back(deployment, before)

        beside = [each for each in parted(0.0) if each["metadata"]["labels"].get(TRACK) == CANARY]
        kubectl.apply(beside, dry=True)
        kubectl.apply(beside)
        if failed := self._ask(f"{deployment}-{CANARY}", deployment, release.digest, smoke):
            leave()
            raise RolledBack(f"{where}: {not_taken(release)}: {failed}")
        labels = self._labels(deployment)
        yield KubernetesTrial(
            kubectl,
            f"{labels},{TRACK}={STABLE}",
            f"{labels},{TRACK}={CANARY}",
            CONTAINER,
            give=give,
            take=take,
            leave=leave,
        )

    def _unless_later(self, deployment: str, release: Release) -> Kept | None:
        """What is kept of the deployment, unless a later apply than this one left it."""
        before = self._kept(deployment)
        if before is not None and before.token > release.token:
            raise MlspecError(
                f"{self._address(deployment)}: a later apply deployed here meanwhile",
                hint="plan again and apply",
            )
        return before

    def _take(
        self,
        deployment: str,
        release: Release,
        image: str,
        objects: Sequence[Object],
        before: Kept | None,
    ) -> None:
        """Apply, wait, prune and keep; or go back. Routes come last: they name what is ready."""
        routes = [each for each in objects if each["kind"] == "HTTPRoute"]
        self.kubectl.apply([each for each in objects if each not in routes])
        try:
            self._await(deployment, release.digest)
        except Refused as late:
            why = self._why_late(deployment, release.digest, late)
            self._go_back(deployment, before)
            raise RolledBack(f"{self._address(deployment)}: {not_taken(release)}: {why}") from None
        if routes:
            self.kubectl.apply(routes)
        self._prune(deployment, objects, before)
        kept = Kept(
            release.digest,
            release.model,
            release.version,
            "serving",
            release.token,
            image,
            dict(release.settings),
            objects,
        )
        self._keep(deployment, kept)

    def stop(self, deployment: str) -> None:
        kept = self._kept(deployment)
        if kept is None or kept.status == "stopped":
            return
        self._join(kept.settings, joined=False)
        self._halt(deployment, kept)
        self._keep(deployment, replace(kept, status="stopped"))

    def start(self, deployment: str) -> Running:
        kept = self._kept(deployment)
        if kept is None:
            raise MlspecError(
                f"{self._address(deployment)} was never deployed there", hint="run `mlspec apply`"
            )
        serving = replace(kept, status="serving")
        self._restore(deployment, serving)
        self._keep(deployment, serving)
        self._join(kept.settings, joined=True)
        return self._observed(deployment)

    def rename(self, deployment: str, name: str) -> None:
        kept = self._kept(deployment)
        if kept is None:
            return
        if self._kept(name) is None:
            self._make_alike(kept, name)
        self.destroy(deployment)

    def _make_alike(self, kept: Kept, name: str) -> None:
        """Have the release of one deployment under another name, too."""
        track = Track(kept.model, kept.version, kept.release, kept.image)
        objects = self._compile(self._of(name, kept.settings, track))
        self.kubectl.apply(objects)
        renamed = replace(kept, objects=objects)
        if kept.status == "stopped":
            self._halt(name, renamed)
        else:
            self._await(name, kept.release)
        self._keep(name, renamed)

    def destroy(self, deployment: str) -> None:
        kept = self._kept(deployment)
        if kept is not None:
            self._join(kept.settings, joined=False)
        for kind, plural in EXTRA.items():
            if kept and any(each["kind"] == kind for each in kept.objects):
                self.kubectl.delete(plural, deployment)
        labels = self._labels(deployment)
        self.kubectl.delete(f"{self.kinds},configmaps", f"--selector={labels}")

    def counts(self, deployment: str) -> Counts | None:
        pods = f"{self._labels(deployment)},{TRACK}={STABLE}"
        return read_counts(self.kubectl, pods, CONTAINER)

    def logs(self, deployment: str) -> tuple[Path, ...]:
        """What its pods said lately, fetched into a file."""
        text = self.kubectl.run(
            "logs",
            f"--selector={self._labels(deployment)}",
            "--all-containers",
            "--prefix",
            f"--tail={LOG_LINES}",
            "--max-log-requests=50",
        )
        if not text.strip():
            return ()
        path = make_own_folder(self.root, "logs", "clusters") / f"{deployment}@{self.name}.log"
        path.write_text(text, encoding="utf-8")
        return (path,)

    def _try(self, workload: Workload, smoke: Sequence[Mapping[str, Any]]) -> str | None:
        """Run one pod that gets no requests, and ask it; why it is not good, or nothing."""
        kubectl, trial = self.kubectl, compile_trial(workload)
        name = trial["metadata"]["name"]
        kubectl.apply([trial])
        try:
            return self._ask(name, workload.deployment, workload.stable.release, smoke)
        finally:
            with suppress(MlspecError):
                kubectl.delete(f"deployment/{name}")

    def _ask(
        self, name: str, deployment: str, release: str, smoke: Sequence[Mapping[str, Any]]
    ) -> str | None:
        """Wait for pods beside those that serve, and ask them; why they are not good, if so."""
        try:
            self._await_deployment(name)
            return check_smoke(self.kubectl, name, smoke) if smoke else None
        except Refused as late:
            return self._why_late(deployment, release, late)

    def _compile(self, workload: Workload) -> tuple[Object, ...]:
        return compile_kubernetes(workload)

    def _await(self, deployment: str, release: str, more: float = 0.0) -> None:  # noqa: ARG002
        """Until what serves is this release; :class:`Refused` if it is not ready in time."""
        self._await_deployment(deployment, more)

    def _await_deployment(self, workload: str, more: float = 0.0) -> None:
        seconds = self.ready_seconds + more
        self.kubectl.run(
            "rollout",
            "status",
            f"deployment/{workload}",
            f"--timeout={int(seconds)}s",
            seconds=seconds + 30.0,
        )

    def _go_back(self, deployment: str, before: Kept | None) -> None:
        """Have again what was there, or nothing if nothing was."""
        if before is None:
            self.destroy(deployment)
            return
        self._restore(deployment, before)
        self._prune(deployment, before.objects, before)

    def _restore(self, deployment: str, kept: Kept) -> None:
        self.kubectl.apply(kept.expected)
        if kept.status != "stopped":
            self._wake(deployment, kept)
        self._await(deployment, kept.release, BACK_SECONDS)

    def _halt(self, deployment: str, kept: Kept) -> None:  # noqa: ARG002
        """End all pods."""
        self.kubectl.run("scale", f"deployment/{deployment}", "--replicas=0")

    def _wake(self, deployment: str, kept: Kept) -> None:
        """An autoscaler leaves alone what has no pods."""
        main = next(each for each in kept.objects if key_of(each) == ("Deployment", deployment))
        if "replicas" in main["spec"]:
            return
        found = self.kubectl.get(f"deployment/{deployment}")
        if found and not found[0].get("spec", {}).get("replicas"):
            least = int((kept.settings.get("replicas") or {}).get("min", 1))
            self.kubectl.run("scale", f"deployment/{deployment}", f"--replicas={least}")

    def _prune(self, deployment: str, wanted: Sequence[Object], before: Kept | None) -> None:
        """Remove what is the deployment's and is not wanted any more."""
        keep = {key_of(each) for each in wanted}
        live = self.kubectl.get(self.kinds, f"--selector={self._labels(deployment)}")
        if before is not None:
            live += self._extra(before.objects)
        for each in live:
            kind, name = key_of(each)
            if (kind, name) not in keep:
                self.kubectl.delete(EXTRA.get(kind, kind.lower()), name)

    def _extra(self, objects: Sequence[Object]) -> list[dict[str, Any]]:
        """Those of the kinds that not every cluster has."""
        found: list[dict[str, Any]] = []
        for each in objects:
            kind, name = key_of(each)
            if kind in EXTRA:
                with suppress(Refused):
                    found += self.kubectl.get(EXTRA[kind], name)
        return found

    def _keep(self, deployment: str, kept: Kept) -> None:
        labels, namespace = self._selector(deployment), str(self.place["namespace"])
        self.kubectl.apply([make_record(deployment, namespace, labels, kept)])

    def _kept(self, deployment: str) -> Kept | None:
        return load_kept(self.kubectl.get(f"configmap/{record_name(deployment)}"))

    def _why_late(self, deployment: str, release: str, late: Refused) -> str:
        """What kubectl said last, and why the pods of a release are not ready."""
        last = late.said.splitlines()[-1] if late.said else late.message
        return f"{last}\n{self._trouble(deployment, release)}".rstrip()

    def _trouble(self, deployment: str, release: str) -> str:
        """Why the pods of a release are not ready, as far as the cluster says."""
        lines: list[str] = []
        with suppress(MlspecError):
            pods = self.kubectl.get("pods", f"--selector={self._labels(deployment)}")
            for pod in pods:
                about = pod.get("metadata", {})
                if (about.get("annotations") or {}).get(RELEASE) != release:
                    continue
                lines += describe_trouble(pod)
                with suppress(MlspecError):
                    call = ("logs", about["name"], "--all-containers", f"--tail={TROUBLE_LINES}")
                    text = self.kubectl.run(*call)
                    lines += text.splitlines()
        return "\n".join(lines[: 2 * TROUBLE_LINES])

    def _observed(self, deployment: str) -> Running:
        running = self.observe(deployment)
        if running is None:
            raise MlspecError(f"{self._address(deployment)} is gone from {self.kubectl.where}")
        return running

    def _image(self, deployment: str, release: Release) -> str:
        return image_of(self.root, deployment, release, self.kind)

    def _workload(self, deployment: str, release: Release, image: str) -> Workload:
        track = Track(release.model, release.version, release.digest, image)
        return self._of(deployment, release.settings, track)

    def _of(self, deployment: str, settings: Mapping[str, Any], track: Track) -> Workload:
        project, joined = str(self.place["project"]), False
        if _answers(settings):
            beside = self._kept(challenger_name(deployment))
            joined = beside is not None and beside.status == "serving"
        return Workload(
            deployment, self.name, project, settings, track, kind=self.kind, joined=joined
        )

    def _join(self, settings: Mapping[str, Any], *, joined: bool) -> None:
        """Have the champion's route name a challenger, of these settings, that is ready; or not."""
        name = settings.get("challenges")
        champion = self._kept(str(name)) if name else None
        if champion is None or not _answers(champion.settings):
            return
        track = Track(champion.model, champion.version, champion.release, champion.image)
        workload = replace(self._of(str(name), champion.settings, track), joined=joined)
        routes = {
            key_of(each): each
            for each in compile_kubernetes(workload)
            if each["kind"] == "HTTPRoute"
        }
        self.kubectl.apply(list(routes.values()))
        objects = [routes.get(key_of(each), each) for each in champion.objects]
        self._keep(str(name), replace(champion, objects=objects))

    def _labels(self, deployment: str) -> str:
        labels = self._selector(deployment)
        return ",".join(f"{key}={value}" for key, value in sorted(labels.items()))

    def _selector(self, deployment: str) -> dict[str, str]:
        return selector(deployment, self.name, str(self.place["project"]))

    def _address(self, deployment: str) -> str:
        return f"deployment.{deployment}@{self.name}"

    def _url(self, deployment: str, kept: Kept | None = None) -> str:
        gateway = self.place.get("gateway")
        if gateway and not (kept and kept.settings.get("challenges")):
            return f"https://{gateway['host']}/{deployment}"
        return f"http://{deployment}.{self.place['namespace']}:{self.port}"


def _answers(settings: Mapping[str, Any]) -> bool:
    """Whether the challenger of a deployment of these settings answers clients."""
    part: Mapping[str, Any] | None = settings.get("challenger")
    return part is not None and not part["shadow"]


def not_taken(release: Release) -> str:
    """How a release that goes back is told of."""
    return f"version {release.version} of {release.model} was not taken into service"
