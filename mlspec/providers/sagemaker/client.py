"""What a command does with an endpoint: observe, deploy, go back, stop, start.

What is there is kept in tags: of an endpoint which release it has, by whose apply, and its
configuration; of a configuration, if the endpoint was stopped, that it was. AWS itself goes over
from one configuration to the next: machines of the new one take over when they answer `/ping`, and
those of the one before end then, so no request fails.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mlspec.atomic import make_own_folder
from mlspec.compilers.sagemaker import (
    CONFIG,
    DEPLOYMENT,
    MODEL,
    PROJECT,
    RELEASE,
    SHARES,
    STATUS,
    TARGET,
    TOKEN,
    VERSION,
    Place,
    Variant,
    about,
    compile_config,
    compile_model,
    compile_tags,
    endpoint_name,
    load_tags,
)
from mlspec.errors import MlspecError, RolledBack
from mlspec.providers.images.build import image_of
from mlspec.providers.sagemaker.aws import Aws, Gone, Refused, There
from mlspec.providers.sagemaker.trial import SageMakerTrial
from mlspec.providers.target import Release, Running

READY = "InService"
SETTLED = (READY, "Failed", "OutOfService", "UpdateRollbackFailed")
"""States of an endpoint in which it can be told to do something."""
ANSWERS = (READY, "Updating", "SystemUpdating", "RollingBack")
"""States in which it answers."""
FIRST_SECONDS = 0.2
LOOK_SECONDS = 10.0
SETTLE_SECONDS = 1800.0
"""How long AWS may be busy with an endpoint before it can be told to go back."""
LOG_LINES = 2000
LOG_SECONDS = 86_400
MAX_TEXT = 200


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint as it is found: its state, configuration, variants, and what its tags say."""

    status: str
    config: str
    arn: str
    why: str
    since: str
    variants: Sequence[Mapping[str, Any]]
    tags: Mapping[str, str]

    @property
    def token(self) -> int:
        return _token_of(self.tags)


@dataclass(slots=True)
class SageMakerTarget:
    """A target of kind `sagemaker`. `place` is what the spec says of it, and the project."""

    root: Path
    name: str
    port: int
    place: Mapping[str, Any]
    _aws: Aws | None = field(default=None)

    @property
    def aws(self) -> Aws:
        if self._aws is None:
            self._aws = Aws(str(self.place["region"]), self.place.get("profile"))
        return self._aws

    @property
    def ready_seconds(self) -> float:
        return float(self.place["ready"])

    def observe(self, deployment: str) -> Running | None:
        found = self._own(deployment)
        if found is None:
            return self._stopped(deployment)
        tags = found.tags
        wanted = sum(int(each.get("DesiredInstanceCount") or 0) for each in found.variants)
        there = sum(int(each.get("CurrentInstanceCount") or 0) for each in found.variants)
        return self._running(
            deployment,
            tags,
            status="serving" if found.status in ANSWERS else "down",
            since=found.since,
            workers=wanted,
            ready=there if found.status in ANSWERS else 0,
            differs=tuple(self._differences(found)),
        )

    def release(self, deployment: str) -> Release | None:  # noqa: ARG002
        return None  # its files are in an image, and no longer here

    def deploy(
        self, deployment: str, release: Release, smoke: Sequence[Mapping[str, Any]]
    ) -> Running:
        before = self._unless_later(deployment, release)
        new = self._variant(deployment, release)
        if before is not None and smoke:
            with self._beside(deployment, release, new, before, smoke):
                pass
        config = self._make(deployment, [new])
        if before is None:
            tags = compile_tags(self._record(deployment, new, config, release.token))
            name = self._endpoint(deployment)
            self._ask("create_endpoint", EndpointName=name, EndpointConfigName=config, Tags=tags)
        else:
            self._update(deployment, config)
        problem = self._await(deployment, config)
        if problem is None and before is None and smoke:
            problem = self._smoke(deployment, new, smoke)
        if problem is not None:
            self._go_back(deployment, before)
            raise self._rolled_back(deployment, release, problem)
        self._keep(deployment, new, config, release.token)
        return self._observed(deployment)

    @contextmanager
    def try_out(
        self,
        deployment: str,
        release: Release,
        smoke: Sequence[Mapping[str, Any]],
        *,
        splits: bool,  # noqa: ARG002 weights give each any share
    ) -> Iterator[SageMakerTrial]:
        before = self._unless_later(deployment, release)
        if before is None:
            raise MlspecError(
                f"{self._address(deployment)}: nothing serves there, beside which to try a release"
            )
        new = self._variant(deployment, release)
        with self._beside(deployment, release, new, before, smoke) as champion:

            def give(share: float) -> None:
                self._weigh(deployment, {champion: 1 - share, new.name: share})

            def take() -> None:
                config = self._make(deployment, [new])
                self._update(deployment, config)
                if problem := self._await(deployment, config):
                    self._go_back(deployment, before)
                    raise self._rolled_back(deployment, release, problem)
                self._keep(deployment, new, config, release.token)

            def leave() -> None:
                with suppress(MlspecError):  # at once, if it can be told to
                    give(0.0)
                self._go_back(deployment, before)

            yield SageMakerTrial(
                self.aws,
                self._endpoint(deployment),
                champion,
                new.name,
                give=give,
                take=take,
                leave=leave,
            )

    @contextmanager
    def _beside(
        self,
        deployment: str,
        release: Release,
        new: Variant,
        before: Endpoint,
        smoke: Sequence[Mapping[str, Any]],
    ) -> Iterator[str]:
        """Have a release on machines of its own that get no requests, and ask it; the name of the
        variant that serves. `RolledBack` if it is not good."""
        [champion, *others] = self._variants(before.config)
        if others:
            raise MlspecError(
                f"{self._address(deployment)}: two releases answer there",
                hint="`mlspec apply` takes the one away that an earlier apply left",
            )
        beside = self._make(deployment, [new], [{**champion, "InitialVariantWeight": SHARES}])
        self._update(deployment, beside)
        problem = self._await(deployment, beside)
        problem = problem or (self._smoke(deployment, new, smoke) if smoke else None)
        if problem is not None:
            self._go_back(deployment, before)
            raise self._rolled_back(deployment, release, problem)
        yield str(champion["VariantName"])

    def stop(self, deployment: str) -> None:
        """SageMaker has no endpoint without machines: it is deleted, its configuration is kept."""
        found = self._own(deployment)
        if found is None:
            return
        self._tag_config(found.config, {**found.tags, STATUS: "stopped"})
        self._delete(deployment)

    def start(self, deployment: str) -> Running:
        if self._own(deployment) is not None:
            return self._observed(deployment)
        kept = self._kept(deployment)
        if kept is None:
            raise MlspecError(
                f"{self._address(deployment)} was never deployed there", hint="run `mlspec apply`"
            )
        config, tags = kept
        self._ask(
            "create_endpoint",
            EndpointName=self._endpoint(deployment),
            EndpointConfigName=config,
            Tags=compile_tags({**tags, STATUS: "serving", CONFIG: config}),
        )
        if problem := self._await(deployment, config):
            raise MlspecError(f"{self._address(deployment)}: it did not start: {problem}")
        self._tag_config(config, {STATUS: "serving"})
        return self._observed(deployment)

    def rename(self, deployment: str, name: str) -> None:
        """An endpoint keeps its name: one with the new name is made of the same image."""
        found = self._own(deployment)
        if found is None:
            self._rename_stopped(deployment, name)
            return
        made = self._own(name)
        config = self._make_alike(found, name) if made is None else made.config
        if problem := self._await(name, config):
            self.destroy(name)
            raise MlspecError(f"{self._address(name)}: it did not start: {problem}")
        self.destroy(deployment)

    def _rename_stopped(self, deployment: str, name: str) -> None:
        kept = self._kept(deployment)
        if kept is None:
            return
        variant = self._variant_of(*kept)
        config = self._make(name, [variant])
        record = self._record(name, variant, config, _token_of(kept[1]))
        self._tag_config(config, {**record, STATUS: "stopped"})
        self._prune(deployment, "")

    def _variant_of(self, config: str, tags: Mapping[str, str]) -> Variant:
        """The release of a configuration that these tags tell of."""
        [champion, *_] = self._variants(config)
        model = self._ask("describe_model", ModelName=champion["ModelName"])
        return Variant(
            tags[MODEL],
            int(tags[VERSION]),
            tags[RELEASE],
            str(model["PrimaryContainer"]["Image"]),
            int(champion["InitialInstanceCount"]),
        )

    def _make_alike(self, found: Endpoint, name: str) -> str:
        """An endpoint with another name for the release of one; its configuration."""
        variant = self._variant_of(found.config, found.tags)
        config = self._make(name, [variant])
        tags = compile_tags(self._record(name, variant, config, found.token))
        endpoint = self._endpoint(name)
        self._ask("create_endpoint", EndpointName=endpoint, EndpointConfigName=config, Tags=tags)
        return config

    def destroy(self, deployment: str) -> None:
        if self._own(deployment) is not None:
            self._delete(deployment)
        self._prune(deployment, "")

    def logs(self, deployment: str) -> tuple[Path, ...]:
        """What its machines said in the last day, fetched from CloudWatch into a file."""
        group = f"/aws/sagemaker/Endpoints/{self._endpoint(deployment)}"
        start = int((time.time() - LOG_SECONDS) * 1000)
        lines: list[str] = []
        try:
            for page in self.aws.pages(
                "logs", "filter_log_events", logGroupName=group, startTime=start
            ):
                lines += [
                    f"{each.get('logStreamName', '')}: {str(each.get('message', '')).rstrip()}"
                    for each in page.get("events", ())
                ]
                lines = lines[-LOG_LINES:]
        except Gone:
            return ()
        path = make_own_folder(self.root, "logs", "clusters") / f"{deployment}@{self.name}.log"
        path.write_text("\n".join([f"# {group} in {self.aws.where}", *lines, ""]), "utf-8")
        return (path,)

    def _variant(self, deployment: str, release: Release) -> Variant:
        replicas = release.settings.get("replicas") or {}
        return Variant(
            release.model,
            release.version,
            release.digest,
            image_of(self.root, deployment, release, "sagemaker"),
            int(replicas.get("min", 1)),
        )

    def _make(
        self,
        deployment: str,
        variants: Sequence[Variant],
        others: Sequence[Mapping[str, Any]] = (),
    ) -> str:
        """Models and a configuration of these variants, unless they are there; its name. Beside
        `others` they get no requests at first."""
        where = self._where(deployment)
        for each in variants:
            with suppress(There):
                self._ask("create_model", **compile_model(where, each))
        found = [replace(each, weight=0.0) for each in variants] if others else variants
        config = compile_config(where, found, others)
        with suppress(There):
            self._ask("create_endpoint_config", **config)
        return str(config["EndpointConfigName"])

    def _keep(self, deployment: str, variant: Variant, config: str, token: int) -> None:
        """Say in tags what is there now, and take away what belongs to earlier releases."""
        found = self._find(deployment)
        if found is not None:
            self._tag(found.arn, self._record(deployment, variant, config, token))
            self._tag_config(config, {STATUS: "serving"})  # it may be of one that was stopped
        self._prune(deployment, config)

    def _record(self, deployment: str, variant: Variant, config: str, token: int) -> dict[str, str]:
        own = self._where(deployment).tags
        said = {STATUS: "serving", CONFIG: config, TOKEN: str(token)}
        return {**own, **about(variant), **said}

    def _prune(self, deployment: str, keep: str) -> None:
        """Delete configurations of the deployment but this one, and models that none names."""
        needed = {each["ModelName"] for each in self._variants(keep)} if keep else set()
        for config, _ in self._configs(deployment):
            if config != keep:
                with suppress(Gone):
                    self._ask("delete_endpoint_config", EndpointConfigName=config)
        prefix = f"{self._endpoint(deployment)}-"
        for page in self.aws.pages("sagemaker", "list_models", NameContains=prefix):
            for each in page.get("Models", ()):
                name = str(each["ModelName"])
                if name not in needed and self._is_own(str(each["ModelArn"]), deployment):
                    with suppress(Gone):
                        self._ask("delete_model", ModelName=name)

    def _configs(self, deployment: str) -> Iterator[tuple[str, Mapping[str, str]]]:
        prefix = f"{self._endpoint(deployment)}-"
        for page in self.aws.pages("sagemaker", "list_endpoint_configs", NameContains=prefix):
            for each in page.get("EndpointConfigs", ()):
                tags = self._tags(str(each["EndpointConfigArn"]))
                if self._has(tags, deployment):
                    yield str(each["EndpointConfigName"]), tags

    def _kept(self, deployment: str) -> tuple[str, Mapping[str, str]] | None:
        """The configuration of an endpoint that was stopped, and its tags."""
        for config, tags in self._configs(deployment):
            if tags.get(STATUS) == "stopped":
                return config, tags
        return None

    def _stopped(self, deployment: str) -> Running | None:
        kept = self._kept(deployment)
        if kept is None:
            return None
        return self._running(deployment, kept[1], status="stopped")

    def _running(self, deployment: str, tags: Mapping[str, str], **seen: Any) -> Running:
        region, name = self.place["region"], self._endpoint(deployment)
        version = tags.get(VERSION, "")
        told = {"since": "", "workers": 0, "ready": 0, "restarts": 0, **seen}
        return Running(
            release=tags.get(RELEASE, ""),
            model=tags.get(MODEL, ""),
            version=int(version) if version.isdecimal() else 0,
            url=f"https://runtime.sagemaker.{region}.amazonaws.com/endpoints/{name}/invocations",
            **told,
        )

    def _differences(self, found: Endpoint) -> Iterator[tuple[str, Any, Any]]:
        """What is not as it was deployed; while AWS is at work, only which configuration it has."""
        wanted = found.tags.get(CONFIG)
        if wanted != found.config:
            yield "endpoint.config", wanted, found.config
            return
        if found.status != READY:
            return
        there = {str(each["VariantName"]): each for each in found.variants}
        for each in self._variants(found.config):
            name = str(each["VariantName"])
            seen = there.get(name, {})
            pairs = (
                ("weight", "InitialVariantWeight", "DesiredWeight"),
                ("instances", "InitialInstanceCount", "DesiredInstanceCount"),
            )
            for key, before, now in pairs:
                if now in seen and float(seen[now]) != float(each[before]):
                    yield f"variant[{name}].{key}", each[before], seen[now]

    def _own(self, deployment: str) -> Endpoint | None:
        """The endpoint of the deployment; one of somebody else that is called so is none."""
        found = self._find(deployment)
        return found if found is not None and self._has(found.tags, deployment) else None

    def _find(self, deployment: str) -> Endpoint | None:
        try:
            found = self._ask("describe_endpoint", EndpointName=self._endpoint(deployment))
        except Gone:
            return None
        arn = str(found["EndpointArn"])
        since = found.get("CreationTime")
        return Endpoint(
            status=str(found["EndpointStatus"]),
            config=str(found.get("EndpointConfigName", "")),
            arn=arn,
            why=str(found.get("FailureReason") or "")[:MAX_TEXT],
            since=since.isoformat() if since is not None else "",
            variants=found.get("ProductionVariants") or (),
            tags=self._tags(arn),
        )

    def _unless_later(self, deployment: str, release: Release) -> Endpoint | None:
        """What is there, unless a later apply than this one left it, or it is another's."""
        found, where = self._find(deployment), self._address(deployment)
        if found is None:
            return None
        if not self._has(found.tags, deployment):
            raise MlspecError(
                f"{where}: there is an endpoint {self._endpoint(deployment)} that is not its own",
                hint="rename the deployment, or delete that endpoint if nobody needs it",
            )
        if found.token > release.token:
            raise MlspecError(
                f"{where}: a later apply deployed here meanwhile", hint="plan again and apply"
            )
        if found.status not in SETTLED:
            self._settle(deployment)
            found = self._find(deployment)
        if found is not None and found.status == "Failed":
            self._delete(deployment)  # a first release that did not come up; AWS changes it no more
            return None
        if found is not None and (recorded := found.tags.get(CONFIG)):
            with suppress(Gone):  # what an apply that was killed left is nothing to go back to
                self._variants(recorded)
                return replace(found, config=recorded)
        return found

    def _update(self, deployment: str, config: str) -> None:
        found = self._settle(deployment)
        name = self._endpoint(deployment)
        if found is None or found.config != config or found.status != READY:
            self._ask("update_endpoint", EndpointName=name, EndpointConfigName=config)
        elif any(self._differences(replace(found, tags={CONFIG: config}))):
            wanted = [
                {
                    "VariantName": each["VariantName"],
                    "DesiredWeight": each["InitialVariantWeight"],
                    "DesiredInstanceCount": each["InitialInstanceCount"],
                }
                for each in self._variants(config)
            ]
            self._ask(
                "update_endpoint_weights_and_capacities",
                EndpointName=name,
                DesiredWeightsAndCapacities=wanted,
            )

    def _weigh(self, deployment: str, shares: Mapping[str, float]) -> None:
        weights = [
            {"VariantName": name, "DesiredWeight": round(share * SHARES, 3)}
            for name, share in shares.items()
        ]
        self._settle(deployment)
        self._ask(
            "update_endpoint_weights_and_capacities",
            EndpointName=self._endpoint(deployment),
            DesiredWeightsAndCapacities=weights,
        )
        self._settle(deployment)

    def _await(self, deployment: str, config: str) -> str | None:
        """Until it has this configuration and answers; why it has not, if so."""
        found = self._settle(deployment, self.ready_seconds)
        if found is None:
            return "the endpoint is gone"
        if found.status not in SETTLED:
            return f"not ready after {self.ready_seconds:.0f} s: it is {found.status}"
        if found.status != READY or found.config != config:
            return f"{found.status}: {found.why or 'AWS went back to what was there before'}"
        return None

    def _settle(self, deployment: str, seconds: float = SETTLE_SECONDS) -> Endpoint | None:
        """The endpoint when AWS is not at work on it, or when the time is over."""
        end, pause = time.monotonic() + seconds, FIRST_SECONDS
        while True:
            found = self._find(deployment)
            if found is None or found.status in SETTLED or time.monotonic() >= end:
                return found
            time.sleep(pause)
            pause = min(LOOK_SECONDS, 2 * pause)

    def _go_back(self, deployment: str, before: Endpoint | None) -> None:
        """Have again what was there, or nothing if nothing was."""
        if before is None:
            self.destroy(deployment)
            return
        self._update(deployment, before.config)
        self._settle(deployment)
        self._prune(deployment, before.config)

    def _delete(self, deployment: str) -> None:
        self._settle(deployment)
        with suppress(Gone):
            self._ask("delete_endpoint", EndpointName=self._endpoint(deployment))
        end, pause = time.monotonic() + SETTLE_SECONDS, FIRST_SECONDS
        while self._find(deployment) is not None:
            if time.monotonic() >= end:
                raise MlspecError(f"{self._address(deployment)}: AWS does not delete its endpoint")
            time.sleep(pause)
            pause = min(LOOK_SECONDS, 2 * pause)

    def _smoke(
        self, deployment: str, variant: Variant, rows: Sequence[Mapping[str, Any]]
    ) -> str | None:
        """Why a row was not answered as it should be; nothing if all were."""
        for number, row in enumerate(rows, start=1):
            try:
                self.aws.call(
                    "sagemaker-runtime",
                    "invoke_endpoint",
                    EndpointName=self._endpoint(deployment),
                    TargetVariant=variant.name,
                    ContentType="application/json",
                    Body=json.dumps({"rows": [dict(row)]}).encode(),
                )
            except Refused as error:
                return f"smoke request {number} of {len(rows)}: {error.message}"
        return None

    def _variants(self, config: str) -> list[Mapping[str, Any]]:
        found = self._ask("describe_endpoint_config", EndpointConfigName=config)
        return list(found["ProductionVariants"])

    def _tags(self, arn: str) -> dict[str, str]:
        found: dict[str, str] = {}
        for page in self.aws.pages("sagemaker", "list_tags", ResourceArn=arn):
            found |= load_tags(page.get("Tags", ()))
        return found

    def _tag(self, arn: str, tags: Mapping[str, str]) -> None:
        own = {key: value for key, value in tags.items() if not key.startswith("aws:")}
        self._ask("add_tags", ResourceArn=arn, Tags=compile_tags(own))

    def _tag_config(self, config: str, tags: Mapping[str, str]) -> None:
        found = self._ask("describe_endpoint_config", EndpointConfigName=config)
        self._tag(str(found["EndpointConfigArn"]), tags)

    def _is_own(self, arn: str, deployment: str) -> bool:
        return self._has(self._tags(arn), deployment)

    def _has(self, tags: Mapping[str, str], deployment: str) -> bool:
        own = {DEPLOYMENT: deployment, TARGET: self.name, PROJECT: str(self.place["project"])}
        return all(tags.get(key) == value for key, value in own.items())

    def _ask(self, operation: str, **values: Any) -> Mapping[str, Any]:
        return self.aws.call("sagemaker", operation, **values)

    def _where(self, deployment: str) -> Place:
        place = self.place
        return Place(
            str(place["project"]), deployment, self.name, str(place["role"]), str(place["instance"])
        )

    def _endpoint(self, deployment: str) -> str:
        return endpoint_name(str(self.place["project"]), deployment)

    def _address(self, deployment: str) -> str:
        return f"deployment.{deployment}@{self.name}"

    def _observed(self, deployment: str) -> Running:
        running = self.observe(deployment)
        if running is None:
            raise MlspecError(f"{self._address(deployment)} is gone from {self.aws.where}")
        return running

    def _rolled_back(self, deployment: str, release: Release, why: str) -> RolledBack:
        what = f"version {release.version} of {release.model} was not taken into service"
        return RolledBack(f"{self._address(deployment)}: {what}: {why}")


def _token_of(tags: Mapping[str, str]) -> int:
    said = tags.get(TOKEN, "")
    return int(said) if said.isdecimal() else 0
