"""What is different on a cluster where KServe makes the pods of one `InferenceService`.

KServe's labels reach what it makes of the object, so only the object itself is asked for by label,
and pruned. That a release is ready is told by the object's conditions and by pods of that release.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from mlspec.compilers.kserve import CONTAINER, KIND, REVISION, STOP, compile_kserve, revision_of
from mlspec.compilers.kubernetes import TRACK, TRIAL, Object, Workload
from mlspec.errors import MlspecError, RolledBack
from mlspec.providers.kubernetes.client import KubernetesTarget, not_taken
from mlspec.providers.kubernetes.compare import Difference, compare_objects
from mlspec.providers.kubernetes.kept import Kept, describe_running, load_kept
from mlspec.providers.kubernetes.kubectl import Refused
from mlspec.providers.kubernetes.trial import KubernetesTrial
from mlspec.providers.target import Release, Running

PLURAL = "inferenceservices.serving.kserve.io"
LOOK_SECONDS = 2.0
FIRST_SECONDS = 0.2
"""Until the second look; then it grows."""
WAITS_AT_LEAST = 60.0
"""How long pods may take to end."""


@dataclass(frozen=True, slots=True)
class KServeTarget(KubernetesTarget):
    """A target of kind `kserve`. `place` is what the spec says of it, and the project."""

    kind: ClassVar[str] = "kserve"
    kinds: ClassVar[str] = PLURAL

    def observe(self, deployment: str) -> Running | None:
        live = self.kubectl.get(
            f"{PLURAL},configmaps,pods", f"--selector={self._labels(deployment)}"
        )
        kept, main = load_kept(live), _service(live)
        if kept is None and main is None:
            return None
        differs: tuple[Difference, ...] = ()
        pods: list[Mapping[str, Any]] = []
        if kept is not None:
            differs = tuple(compare_objects(kept.expected, live))
            differs += tuple(_added(kept, main))
            pods = _pods(live, kept.release)
        ready = sum(map(_is_ready, pods)) if _condition(main, "Ready") == "True" else 0
        url = str((main or {}).get("status", {}).get("url") or self._url(deployment))
        return describe_running(url, kept, main, live, differs, workers=len(pods), ready=ready)

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
        if self.place["mode"] != "knative" or not splits:
            raise MlspecError(
                f"{where}: KServe splits requests in mode knative, and only for a canary",
                hint="write `mode: knative` and `strategy: canary`, or leave `rollout` out",
            )
        before = self._unless_later(deployment, release)
        if before is None:
            raise MlspecError(f"{where}: nothing serves there, beside which to try a release")
        new = self._workload(deployment, release, self._image(deployment, release))

        def parted(share: float) -> tuple[Object, ...]:
            canary = replace(new.stable, weight=round(share * 100))
            return self._compile(replace(new, canary=canary))

        def give(share: float) -> None:
            kubectl.apply(parted(share))

        def take() -> None:
            self._take(deployment, release, new.stable.image, self._compile(new), before)

        def leave() -> None:
            with suppress(
                MlspecError
            ):  # at once; what was before is a new revision, which takes time
                give(0.0)
            self._go_back(deployment, before)

        kubectl.apply(parted(0.0), dry=True)
        if smoke and (failed := self._try(new, smoke)):
            raise RolledBack(f"{where}: {not_taken(release)}: {failed}")
        give(0.0)
        try:
            self._await(deployment, release.digest)
        except Refused as late:
            why = self._why_late(deployment, release.digest, late)
            leave()
            raise RolledBack(f"{where}: {not_taken(release)}: {why}") from None
        labels = self._labels(deployment)
        yield KubernetesTrial(
            kubectl,
            f"{labels},{REVISION}={revision_of(before.release)}",
            f"{labels},{REVISION}={revision_of(release.digest)}",
            CONTAINER,
            give=give,
            take=take,
            leave=leave,
        )

    def destroy(self, deployment: str) -> None:
        labels = self._labels(deployment)
        self.kubectl.delete(f"{PLURAL},configmaps", f"--selector={labels}")
        self._end_trial(deployment)

    def _compile(self, workload: Workload) -> tuple[Object, ...]:
        return compile_kserve(workload)

    def _prune(self, deployment: str, wanted: Sequence[Object], before: Kept | None) -> None:
        KubernetesTarget._prune(self, deployment, wanted, before)
        self._end_trial(deployment)

    def _end_trial(self, deployment: str) -> None:
        """What an apply that was killed left: the one Deployment that is not KServe's."""
        selector = f"--selector={self._labels(deployment)},{TRACK}={TRIAL}"
        self.kubectl.delete("deployments.apps", selector)

    def _await(self, deployment: str, release: str, more: float = 0.0) -> None:
        seconds = self.ready_seconds + more
        end, pause = time.monotonic() + seconds, FIRST_SECONDS
        while True:
            live = self._live(deployment)
            service = _service(live)
            if service is not None and STOP in service["metadata"].get("annotations", {}):
                return  # it has no pods, and is to have none
            if service is not None and _is_current(service):
                wanted = int(service["spec"]["predictor"].get("minReplicas") or 1)
                ready = sum(map(_is_ready, _pods(live, release)))
                if _condition(service, "Ready") == "True" and ready >= wanted:
                    return
            if time.monotonic() >= end:
                said = _troubles(service) or "it does not say why"
                raise Refused(
                    f"{self._address(deployment)}: KServe did not have it ready in time: {said}",
                    f"not ready after {seconds:.0f} s: {said}",
                )
            time.sleep(pause)
            pause = min(LOOK_SECONDS, 2 * pause)

    def _live(self, deployment: str) -> list[dict[str, Any]]:
        return self.kubectl.get(f"{PLURAL},pods", f"--selector={self._labels(deployment)}")

    def _halt(self, deployment: str, kept: Kept) -> None:
        self.kubectl.apply(replace(kept, status="stopped").expected)
        end, pause = time.monotonic() + max(WAITS_AT_LEAST, self.ready_seconds), FIRST_SECONDS
        while _pods(self._live(deployment), kept.release):
            if time.monotonic() >= end:
                raise MlspecError(
                    f"{self._address(deployment)}: KServe keeps its pods",
                    hint=f"KServe 0.16 and later take them away by the annotation {STOP}",
                )
            time.sleep(pause)
            pause = min(LOOK_SECONDS, 2 * pause)

    def _wake(self, deployment: str, kept: Kept) -> None:
        """Nothing: KServe does so when the annotation is gone."""

    def _url(self, deployment: str, kept: Kept | None = None) -> str:  # noqa: ARG002
        return f"http://{deployment}-predictor.{self.place['namespace']}"


def _service(live: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    return next((each for each in live if each.get("kind") == KIND), None)


def _pods(live: Sequence[Mapping[str, Any]], release: str) -> list[Mapping[str, Any]]:
    """The pods of a release that requests may come to."""
    return [
        each
        for each in live
        for labels in [each.get("metadata", {}).get("labels") or {}]
        if each.get("kind") == "Pod"
        and labels.get(TRACK) != TRIAL
        and labels.get(REVISION) == revision_of(release)
    ]


def _is_ready(pod: Mapping[str, Any]) -> bool:
    conditions = pod.get("status", {}).get("conditions") or ()
    return any(each.get("type") == "Ready" and each.get("status") == "True" for each in conditions)


def _is_current(service: Mapping[str, Any]) -> bool:
    """Whether what KServe says is of what was applied last, as far as it says of what it is."""
    seen = service.get("status", {}).get("observedGeneration")
    return seen is None or int(seen) >= int(service["metadata"].get("generation") or 0)


def _condition(service: Mapping[str, Any] | None, name: str) -> str:
    for each in (service or {}).get("status", {}).get("conditions") or ():
        if each.get("type") == name:
            return str(each.get("status"))
    return ""


def _troubles(service: Mapping[str, Any] | None) -> str:
    """What the conditions say that is not as it should be."""
    lines = [
        f"{each['type']}: {each.get('reason', '')}: {each.get('message', '')}".rstrip(": ")
        for each in (service or {}).get("status", {}).get("conditions") or ()
        if each.get("status") != "True" and each.get("type") not in ("Ready", "Stopped")
    ]
    return "; ".join(lines)


def _added(kept: Kept, main: Mapping[str, Any] | None) -> Iterator[Difference]:
    """What a rollout that was killed left: the comparison does not look for what is more."""
    if main is None or kept.status == "stopped":
        return
    weight = main["spec"]["predictor"].get("canaryTrafficPercent")
    if weight is not None:
        name = main["metadata"]["name"]
        yield f"{KIND}/{name}.spec.predictor.canaryTrafficPercent", None, weight
