"""What the ledger remembers, and where: one small file for each thing that changes together.

=====================================================  ===================  ========================
path in the ledger's tree                              type                 rewritten
=====================================================  ===================  ========================
`models/<xx>/<model>/state.json`                       :class:`ModelState`  by an apply of the model
`models/<xx>/<model>/runs/<stage>/<fingerprint>.json`  :class:`Run`         when its files go
`models/<xx>/<model>/candidates/<fingerprint>.json`    :class:`Candidate`   when its gates change
`models/<xx>/<model>/versions/<number>.json`           :class:`Version`     when its files go
`deployments/<xx>/<deployment>@<target>.json`          :class:`Deployed`    by each deploy
`datasets/<xx>/<dataset>.json`                         :class:`Imported`    when the data changes
`approvals/<xx>/<d>@<target>/<release>/<who>.json`     :class:`Approval`    by who approves
`policy.json`                                          :class:`Policy`      when the policy changes
=====================================================  ===================  ========================

`<xx>` spreads the names over 256 folders; :mod:`mlspec.ledger.paths` has it all as functions.
Fingerprints are hex sha256; the first 32 characters name a file. A plan with nothing to do reads
one `state.json` for each model and nothing else of `models/`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer

from mlspec.fingerprint import taken_as

MOST_DURATIONS = 10
"""Runs of a stage whose seconds are kept at hand."""
MOST_REFUSALS = 50
"""Failed trials of a deployment that are remembered."""


class Record(BaseModel):
    """Frozen; written as canonical JSON; an unknown key means a newer mlspec wrote it."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class Run(Record):
    """A stage's run. `entry` is its entry in dvc.lock, exactly; `metrics` are what it measured.

    One that is `adopted` was made by DVC alone: what it claims was taken on trust. What one wrote
    that is `freed` is gone: `mlspec gc` removed it.
    """

    stage: str
    fingerprint: str
    entry: Mapping[str, Any]
    metrics: Mapping[str, float] = {}
    seconds: float
    commit: str
    dirty: bool = False
    adopted: bool = False
    freed: bool = False


class Verdict(Record):
    """A gate's answer, with what was measured and what was asked.

    `limit` is the bound that `value` was held against. For a comparison `champion` and
    `champion_value` say with what, and `unlike` names what the two were not measured on alike (test
    data, measuring code). `detail` is the whole answer in words.
    """

    gate: str
    metric: str
    level: Literal["fail", "warn"]
    result: Literal["pass", "fail", "inconclusive"]
    value: float | None
    limit: float | None = None
    champion: int | None = None
    champion_value: float | None = None
    unlike: tuple[str, ...] = ()
    detail: str

    @property
    def stops(self) -> bool:
        """Whether it keeps a candidate from becoming a version."""
        return self.level == "fail" and self.result != "pass"


class File(Record):
    """An artifact's bytes: `md5` as DVC names them in storage, `size` in bytes."""

    path: str
    format: str
    md5: str
    size: int


class Judged(Record):
    """What has an artifact of others may have its `source`: where from, `digest`, `licence`.

    Without one it is not written, as before there were any; nor is a conversion.
    """

    source: Mapping[str, str] | None = None

    @model_serializer(mode="wrap")
    def _without_none(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        plain: dict[str, Any] = dump(self)
        for key in ("source", "conversion"):
            if plain.get(key, "") is None:
                del plain[key]
        return plain

    @property
    def taken(self) -> str | None:
        """What names the artifact by its content, if others made it."""
        if self.source is None:
            return None
        return taken_as(self.source["digest"], self.source.get("path"))


class Candidate(Judged):
    """What came of a model fingerprint: `gates` are the questions as asked, by name.

    It is `judging` until each gate has a verdict. `version` is the number it was registered under;
    a version stays when stricter gates reject its candidate later.
    """

    fingerprint: str
    stages: Mapping[str, str]
    gates: Mapping[str, Mapping[str, Any]] = {}
    verdicts: tuple[Verdict, ...] = ()
    status: Literal["judging", "accepted", "rejected"]
    version: int | None = None
    commit: str


class Conversion(Record):
    """An artifact as ONNX: what came of comparing the two, in words.

    If it is served in the artifact's place, `file` and `signature` are those of ONNX; columns are
    the same.
    """

    said: str
    file: File | None = None
    signature: Mapping[str, Any] | None = None


class Version(Judged):
    """A model version: immutable, with its lineage; `freed` if `mlspec gc` removed its artifact.

    It has a `conversion` if its model may be served as ONNX.
    """

    model: str
    number: int
    fingerprint: str
    stages: Mapping[str, str]
    artifact: File | None
    signature: Mapping[str, Any] | None
    metrics: Mapping[str, float]
    verdicts: tuple[Verdict, ...]
    commit: str
    dirty: bool = False
    freed: bool = False
    conversion: Conversion | None = None


class ModelState(Record):
    """The heads of a model: each stage's last run, the fingerprint judged last, newest version.

    `durations` are the seconds that the last runs of each stage took, the newest last: of real
    runs, whose outputs were neither restored nor adopted.
    """

    runs: Mapping[str, str] = {}
    candidate: str | None = None
    version: int | None = None
    retired: bool = False
    durations: Mapping[str, tuple[float, ...]] = {}

    def timed(self, stage: str, seconds: float) -> ModelState:
        """The state after a run of `stage` that took `seconds`."""
        last = (*self.durations.get(stage, ()), seconds)[-MOST_DURATIONS:]
        return self.model_copy(update={"durations": {**self.durations, stage: last}})


class Deployed(Record):
    """What a target was told to serve. `release` is the digest of service, settings and artifact.

    `place` names the machine and checkout that runs a local deployment, so that another clone does
    not mistake its own silence for drift; it is empty for a target that any machine can reach, and
    `where` is what the spec said of that. `refused` is a trial that failed: a release and the rows
    that it was asked. The status is `refused` when there was nothing before that trial. `refusals`
    are those and earlier ones, with the reason of each: none of them is tried again.
    """

    deployment: str
    target: str
    model: str
    version: int
    release: str
    status: Literal["serving", "stopped", "refused"]
    place: str
    refused: str | None = None
    refused_reason: str = ""
    where: Mapping[str, Any] | None = None
    refusals: Mapping[str, str] = {}
    image: str = ""
    """What it runs, by its digest, where that is an image; not written where it is none."""
    scored: Mapping[str, Any] | None = None
    """Of a batch: the md5 of what was `read`, and of what was `wrote` at `path`, and its `rows`."""

    @model_serializer(mode="wrap")
    def _without_none(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        plain: dict[str, Any] = dump(self)
        for key in ("image", "scored"):
            if not plain.get(key):
                plain.pop(key, None)
        return plain

    def why_refused(self, trial: str) -> str | None:
        """Why this trial failed, if it did."""
        return self.refused_reason if trial == self.refused else self.refusals.get(trial)

    def refusing(self, trial: str, reason: str) -> Deployed:
        """The record after a trial that failed."""
        last = dict([*self.refusals.items(), (trial, reason)][-MOST_REFUSALS:])
        told = {"refused": trial, "refused_reason": reason, "refusals": last}
        return self.model_copy(update=told)

    def is_at(self, place: str) -> bool:
        """Whether this machine and checkout can look at it."""
        return self.place in ("", place)


class Approval(Record):
    """That somebody approved a release on a target: of exactly this digest, and of no other.

    `by` is the address that Git knows them by, `commit` the source that they looked at. `own` tells
    that they also made the change: it counts only beside somebody else's.
    """

    deployment: str
    target: str
    release: str
    model: str
    version: int
    by: str
    name: str
    when: str
    commit: str
    message: str = ""
    own: bool = False


class Policy(Record):
    """The rules of the spec that was applied last: no later one lifts and breaks them at once.

    `approvals` and `approvers` are by target. Without any, they are not written.
    """

    protect: tuple[str, ...] = ()
    approvals: Mapping[str, int] = {}
    approvers: Mapping[str, tuple[str, ...]] = {}

    @model_serializer(mode="wrap")
    def _without_none(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        plain: dict[str, Any] = dump(self)
        return {key: value for key, value in plain.items() if value or key == "protect"}


class Imported(Record):
    """A dataset's bytes as last taken from its source."""

    dataset: str
    source: Mapping[str, str] | None
    md5: str
    size: int
    nfiles: int | None = None
