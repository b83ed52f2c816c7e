"""Deployments of the spec: how a model serves, is rolled out and is compared."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from mlspec.spec.models.compute import ServiceResources
from mlspec.spec.models.section import Section
from mlspec.spec.paths import RepositoryPath
from mlspec.spec.quantities import (
    Bytes,
    Latency,
    Rate,
    Seconds,
    Share,
    write_seconds,
    write_share,
)


class Smoke(Section):
    """A row that a new release must answer before it gets traffic."""

    input: Mapping[str, Any]
    """A value for each column of the model."""


class Capture(Section):
    """Which predictions a deployment keeps, with their inputs, where it runs; without it none."""

    sample: float = Field(default=1.0, ge=0, le=1)
    """The share of requests, from 0 to 1."""


class ServiceMetrics(Section):
    """What a deployment counts for Prometheus, besides what each does."""

    buckets: tuple[float, ...] = Field(
        default=(-1000, -100, -10, -1, 0, 1, 10, 100, 1000, 10_000),
        min_length=1,
        max_length=100,
    )
    """Upper limits of the buckets into which predictions that are numbers are counted, rising."""

    @field_validator("buckets")
    @classmethod
    def _rising(cls, buckets: tuple[float, ...]) -> tuple[float, ...]:
        if any(low >= high for low, high in pairwise(buckets)):
            raise ValueError("each must be higher than the one before")
        return buckets


class Auth(Section):
    """Who may ask a deployment: whoever has a token of a file. Its health is for anyone."""

    file: str | None = None
    """Of targets of kind local, compose and ssh: the file with the tokens, on the machine and
    outside of the repository, such as /etc/mlspec/loans.tokens."""
    secret_name: str | None = None
    """Of targets of kind kubernetes and kserve: the Secret of the namespace that has them, by its
    key `tokens`."""
    open: tuple[Literal["metrics", "schema"], ...] = ()
    """What else needs no token: `/metrics`, `/schema.json`."""


class RequestLimits(Section):
    """How much one request may ask, and how many may. What is more is refused."""

    rows: int = Field(default=1000, ge=1, le=1_000_000)
    """Of one request, at most."""
    body: Bytes = 10 * 2**20
    """The size of one request, at most, for example 1MiB; 10MiB unless it is said."""
    rate: Rate | None = None
    """Requests of all clients to one copy of the service, such as 100/s or 600/m."""
    in_flight: int | None = Field(default=None, ge=1, le=100_000)
    """Requests that one copy of the service answers at the same time."""

    @field_validator("body")
    @classmethod
    def _sound(cls, body: float) -> float:
        if not 2**10 <= body <= 2**30:
            raise ValueError("write at least 1KiB and at most 1GiB")
        return body


class Explain(Section):
    """What each column has to do with a prediction, told with it: to requests with the query
    `?explain=true`, and to a share of the others."""

    method: Literal["shap", "permutation"]
    """`shap`: by the trees of XGBoost, LightGBM or CatBoost, exactly. `permutation`: of any model,
    by asking it for rows between the one that is explained and some of `background`."""
    sample: float = Field(default=0.0, ge=0, le=1)
    """The share of requests, from 0 to 1, that are told without asking."""
    background: RepositoryPath | None = None
    """Of `permutation`: a CSV file in Git with rows as they usually are; it goes along with the
    service."""
    permutations: int = Field(default=32, ge=1, le=1000)
    """Of `permutation`: how many orders of columns are tried; more are more exact and slower."""
    seed: int = Field(default=0, ge=0)
    """Of `permutation`: with another one other rows and orders are tried."""


class Telemetry(Section):
    """A span of each request, for a collector of OpenTelemetry, in the trace of the caller."""

    endpoint: str
    """Where the collector takes OTLP over HTTP, such as http://127.0.0.1:4318."""
    sample: float = Field(default=1.0, ge=0, le=1)
    """The share of requests, from 0 to 1, of callers that have not decided it themselves."""


class Query(Section):
    """A number that a Prometheus server tells, and its limit."""

    prometheus: str
    """Its address, such as http://127.0.0.1:9090."""
    expr: str
    """In PromQL; `$candidate` and `$champion` stand for the versions. Of several series the highest
    counts."""
    max: float
    """More than this is too much."""


class AbortIf(Section):
    """What ends a rollout: the new release goes back when it is certain that a limit is broken."""

    error_rate: Share | None = None
    """More of its answers than this have a status of 500 or above, for example 1%."""
    latency_p50: Latency | None = None
    """Half of its answers take longer than this."""
    latency_p95: Latency | None = None
    """More than 5% of its answers take longer."""
    latency_p99: Latency | None = None
    """More than 1% of its answers take longer, for example 100ms."""
    prediction_drift: float | None = Field(default=None, gt=0, le=10)
    """Its predictions differ more from those of what served before, as a population stability
    index: by custom 0.1 is little and 0.25 is much."""
    query: Query | None = None
    """What others measure, such as orders that were lost, is too much."""


class Rollout(Section):
    """How a new release takes over from the one that serves."""

    strategy: Literal["blue-green", "canary"]
    """`canary`: it gets a share of requests, in steps; `blue-green`: all at once, and the one
    before is kept ready until it is judged."""
    steps: tuple[Share, ...] = ()
    """Of `canary`: its shares, for example [10%, 50%]; all follows."""
    bake: Seconds = 600.0
    """How long each step takes at least; 10m unless it is said."""
    min_requests: int = Field(default=100, ge=0, le=10_000_000)
    """How many requests the new release must have had in each step."""
    wait: Seconds | None = None
    """Go back if a step is in doubt for so long after it was baked; without it, wait on."""
    abort_if: AbortIf = AbortIf()
    """Limits; one that can not be told yet is waited for."""

    @property
    def splits(self) -> bool:
        """Whether two releases answer at the same time."""
        return self.strategy == "canary"

    def __str__(self) -> str:
        """`canary: 10% → 50% → 100%, bake 10m`."""
        shares = [write_share(share) for share in (*self.steps, 1.0)]
        return f"{self.strategy}: {' → '.join(shares)}, bake {write_seconds(self.bake)}"


class By(Section):
    """What callers are told apart by, so that each has all its answers from one model."""

    header: str
    """The name of a header, such as x-customer; a request without it is the champion's."""


class Asked(Section):
    """The requests that ask for a challenger themselves."""

    name: str
    """The name of a header, such as x-variant."""
    value: str
    """What it says."""


class Challenger(Section):
    """A model beside the one that is deployed, on the same requests.

    With `mode: shadow` it gets copies and answers nobody; else it answers its part of the requests.
    """

    model: str
    """The name of the model; its newest version that passed its gates is taken."""
    version: int | None = Field(default=None, ge=1)
    """That version of it, whatever is newer."""
    mode: Literal["shadow"] | None = None
    share: Share | None = None
    """Of all requests: those that it answers, or with `shadow` those that are copied."""
    by: By | None = None
    """Choose callers instead of requests."""
    header: Asked | None = None
    """It answers the requests with this header, and no others."""

    @property
    def part(self) -> dict[str, Any]:
        """How it takes part, as data: `shadow`, `share` (from 0 to 1), `by`, `header`."""
        return {
            "shadow": self.mode == "shadow",
            "share": 1.0 if self.share is None else self.share,
            "by": self.by and self.by.header,
            "header": self.header and [self.header.name, self.header.value],
        }

    def __str__(self) -> str:
        """`shadow`, `5% of requests`, `5% of callers by x-customer`."""
        if self.header is not None:
            return f"requests with {self.header.name}: {self.header.value}"
        if self.mode is not None:
            return self.mode if self.share is None else f"{self.mode} of {write_share(self.share)}"
        share = write_share(self.share or 0.0)
        return f"{share} of callers by {self.by.header}" if self.by else f"{share} of requests"


class Batch(Section):
    """What is scored, and where the scores go."""

    input: str
    """The name of a dataset: a file of rows, as .csv, .tsv, .jsonl or .parquet."""
    output: RepositoryPath
    """A file that the scores are written to, as .csv, .jsonl or .parquet."""
    id: str | None = None
    """A column of the input that goes along with each score."""
    schedule: str | None = None
    """When the workflow looks whether there is something to score: "0 3 * * *", in UTC."""


class Deployment(Section):
    """A model that answers requests on targets, or scores data."""

    model: str
    """The name of the model that is served."""
    targets: tuple[str, ...] = Field(min_length=1)
    """Names of targets."""
    pin: Mapping[str, Annotated[int, Field(ge=1)]] = Field(default_factory=dict)
    """The version that a target serves whatever is newer, by target: {production: 3}."""
    description: str = ""
    owner: str = ""
    tags: tuple[str, ...] = ()
    runtime: Literal["asgi", "bentoml"] = "bentoml"
    """What runs the service. With asgi it is smaller and starts sooner, without BentoML's pages."""
    resources: ServiceResources = ServiceResources()
    metrics: ServiceMetrics = ServiceMetrics()
    smoke: tuple[Smoke, ...] = ()
    """Requests that a new release must answer before it gets traffic."""
    rollout: Rollout | None = None
    """How a new release takes over; without it at once, when it is ready and answers `smoke`."""
    capture: Capture | None = None
    """Keep predictions and their inputs, which may be personal data."""
    auth: Auth | None = None
    """Answer only clients with a token; without it whoever reaches the port."""
    limits: RequestLimits = RequestLimits()
    explain: Explain | None = None
    telemetry: Telemetry | None = None
    challenger: Challenger | None = None
    """A model that is tried on the same requests; `mlspec compare` tells how both do."""
    batch: Batch | None = None
    """On a target of kind batch: what is scored."""


class Challenging(Deployment):
    """The deployment of a challenger, beside its champion's, which makes it: nobody writes it."""

    champion: str
    """The name of the deployment whose requests it gets."""
    terms: Challenger

    @classmethod
    def beside(cls, name: str, champion: Deployment) -> Challenging | None:
        """That of the deployment `name`, if it has one: with all else as the champion has it."""
        terms = champion.challenger
        if terms is None:
            return None
        pin = {} if terms.version is None else dict.fromkeys(champion.targets, terms.version)
        other = ("model", "pin", "description", "rollout", "challenger")
        kept = {key: getattr(champion, key) for key in Deployment.model_fields if key not in other}
        if terms.mode == "shadow":  # what the champion let in may come in, and nobody asks why
            free = {"rate": None, "in_flight": None}
            kept |= {"limits": champion.limits.model_copy(update=free), "explain": None}
        return cls(model=terms.model, pin=pin, champion=name, terms=terms, **kept)


def challenger_name(deployment: str) -> str:
    """What the deployment of its challenger is called."""
    return f"{deployment}-challenger"
