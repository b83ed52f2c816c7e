"""A candidate beside the release that serves, on an endpoint: a :class:`mlspec.rollouts` trial.

Both are variants of one configuration, and weights say which share of the requests each gets. What
they counted is read from CloudWatch, which tells requests and errors by the minute, a minute or two
late; nothing there tells the latencies and predictions that other targets are judged by.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from mlspec.providers.sagemaker.aws import Aws
from mlspec.rollouts.counts import Counts
from mlspec.rollouts.driver import Reading

READ_SECONDS = 20.0
"""Between two readings: CloudWatch has something new once a minute, and counts what it is asked."""
MINUTE = 60


@dataclass(slots=True)
class SageMakerTrial:
    """`champion` and `candidate` are names of variants; `give`, `take` and `leave` are the
    target's."""

    aws: Aws
    endpoint: str
    champion: str
    candidate: str
    give: Callable[[float], None]
    take: Callable[[], None]
    leave: Callable[[], None]
    _start: datetime = field(default_factory=lambda: datetime.now(UTC) - timedelta(minutes=1))
    _read: Reading = field(default_factory=lambda: Reading(Counts(), Counts()))
    _when: float = -READ_SECONDS

    def weigh(self, share: float) -> None:
        self.give(share)

    def read(self) -> Reading:
        if (now := time.monotonic()) - self._when >= READ_SECONDS:
            counts = [self._counts(each) for each in (self.champion, self.candidate)]
            self._read, self._when = Reading(counts[0], counts[1], self._trouble()), now
        return self._read

    def promote(self) -> None:
        self.take()

    def abort(self) -> None:
        self.leave()

    def _counts(self, variant: str) -> Counts:
        asked = self._sum(variant, "Invocations")
        errors = min(asked, self._sum(variant, "Invocation5XXErrors"))
        return Counts({200: asked - errors, 500: errors})

    def _sum(self, variant: str, metric: str) -> int:
        """All of a metric since the trial began."""
        dimensions = {"EndpointName": self.endpoint, "VariantName": variant}
        found = self.aws.call(
            "cloudwatch",
            "get_metric_statistics",
            Namespace="AWS/SageMaker",
            MetricName=metric,
            Dimensions=[{"Name": key, "Value": value} for key, value in dimensions.items()],
            StartTime=self._start,
            EndTime=datetime.now(UTC) + timedelta(minutes=1),
            Period=MINUTE,
            Statistics=["Sum"],
        )
        return sum(round(each["Sum"]) for each in found["Datapoints"])

    def _trouble(self) -> str:
        found = self.aws.call("sagemaker", "describe_endpoint", EndpointName=self.endpoint)
        if found["EndpointStatus"] in ("Failed", "UpdateRollbackFailed", "OutOfService"):
            return f"the endpoint is {found['EndpointStatus']}"
        for each in found.get("ProductionVariants") or ():
            if each["VariantName"] == self.candidate and not each.get("CurrentInstanceCount", 1):
                return "it has no machine any more"
        return ""
