"""The target `sagemaker`, against moto, and a stand-in for podman.

moto keeps models, configurations, endpoints and tags, and checks requests by botocore's types. It
lacks `UpdateEndpoint`, has every endpoint in service at once, and runs no container. So the fixture
`cloud` adds what AWS documents: endpoints that are busy for some looks, that fail, that go back to
the configuration before, and that refuse to be changed while they are busy.
"""

from __future__ import annotations

import json
import stat
import sys
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mlspec.errors import ExitCode, MlspecError, RemoteUnreachable, RolledBack
from mlspec.providers.sagemaker.aws import Aws
from mlspec.providers.target import Release, RollingTarget
from mlspec.providers.targets import make_target, target_where

boto3 = pytest.importorskip("boto3")
moto = pytest.importorskip("moto")

BUILDER = Path(__file__).parents[1] / "images" / "standin_builder.py"
REGION = "eu-central-1"
PLACE = {
    "region": REGION,
    "role": "arn:aws:iam::123456789012:role/sagemaker",
    "instance": "ml.m5.large",
    "profile": None,
    "image": {"repository": f"123456789012.dkr.ecr.{REGION}.amazonaws.com/ml"},
    "project": "demo",
    "base": "python:3.11-slim",
    "ready": 5.0,
}
SETTLED = ("InService", "Failed")
SESSION = boto3.Session
"""Before it is shared: what boto3 reads of its services takes half a second each time."""


@pytest.fixture(scope="module")
def session():
    return SESSION(region_name=REGION)


class Cloud:
    """What a test tells AWS to do otherwise. `bad`: a word of releases that do not come up;
    `smoke`: what is said to a smoke request; `looks`: for how many AWS is busy."""

    def __init__(self, session):
        from moto.core import DEFAULT_ACCOUNT_ID
        from moto.sagemaker.models import sagemaker_backends

        self.bad, self.smoke, self.looks = "", "", 2
        self.busy = {}
        self.backend = sagemaker_backends[DEFAULT_ACCOUNT_ID][REGION]
        self.client = session.client("sagemaker")

    @property
    def endpoints(self):
        return self.backend.endpoints

    def names(self):
        models = set(self.backend._models)
        return set(self.endpoints) | set(self.backend.endpoint_configs) | models

    def variants(self):
        [endpoint] = self.endpoints.values()
        return {each["VariantName"]: each["DesiredWeight"] for each in endpoint.production_variants}

    def begin(self, endpoint, config, first):
        variants = self.backend.endpoint_configs[config].production_variants
        bad = bool(self.bad) and any(self.bad in each["VariantName"] for each in variants)
        endpoint.endpoint_status = "Creating" if first else "Updating"
        self.busy[endpoint.endpoint_name] = [self.looks, config, bad, first]

    def look(self, name):
        endpoint, busy = self.endpoints.get(name), self.busy.get(name)
        if endpoint is None or busy is None:
            return
        busy[0] -= 1
        if busy[0] > 0:
            return
        _, config, bad, first = self.busy.pop(name)
        endpoint.endpoint_status = "Failed" if bad and first else "InService"
        endpoint.failure_reason = "The container did not pass the ping health check." if bad else ""
        if not bad and config is not None:
            found = self.backend.endpoint_configs[config].production_variants
            endpoint.endpoint_config_name = config
            endpoint.production_variants = [
                {
                    "VariantName": each["VariantName"],
                    "CurrentInstanceCount": each["InitialInstanceCount"],
                    "DesiredInstanceCount": each["InitialInstanceCount"],
                    "CurrentWeight": each["InitialVariantWeight"],
                    "DesiredWeight": each["InitialVariantWeight"],
                }
                for each in found
            ]


@pytest.fixture
def cloud(tmp_path, monkeypatch, session):
    from moto.sagemaker.exceptions import AWSValidationException as Invalid
    from moto.sagemaker.models import SageMakerModelBackend as Backend
    from moto.sagemaker.responses import SageMakerResponse
    from moto.sagemakerruntime.models import SageMakerRuntimeBackend

    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_DEFAULT_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    program = tmp_path / "bin" / "podman"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\n{BUILDER.read_text()}")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    (tmp_path / "builder").mkdir()
    monkeypatch.setenv("PATH", str(program.parent))
    monkeypatch.setenv("BUILDER_STANDIN", str(tmp_path / "builder"))
    monkeypatch.delenv("MLSPEC_IMAGE_BUILDER", raising=False)
    with moto.mock_aws():
        cloud = Cloud(session)
        monkeypatch.setattr(boto3, "Session", lambda **_: session)
        originals = {
            name: getattr(Backend, name)
            for name in (
                "create_endpoint",
                "create_endpoint_config",
                "create_model",
                "delete_endpoint",
                "describe_endpoint",
                "update_endpoint_weights_and_capacities",
            )
        }

        def only_once(kind, kept):
            def create(self, **values):
                name = next(value for key, value in values.items() if key == f"{kind}_name")
                if name in getattr(self, kept):
                    raise Invalid(f"Cannot create already existing {kind} {name}.")
                made = originals[f"create_{kind}"](self, **values)
                if kind == "endpoint":
                    cloud.begin(made, values["endpoint_config_name"], first=True)
                return made

            return create

        def settled(name):
            if cloud.endpoints[name].endpoint_status not in SETTLED:
                raise Invalid("Cannot update in-progress endpoint.")

        def describe(self, endpoint_name):
            cloud.look(endpoint_name)
            return originals["describe_endpoint"](self, endpoint_name)

        def weigh(self, endpoint_name, desired_weights_and_capacities):
            settled(endpoint_name)
            answer = originals["update_endpoint_weights_and_capacities"](
                self, endpoint_name, desired_weights_and_capacities
            )
            cloud.busy[endpoint_name] = [cloud.looks, None, False, False]
            return answer

        def update(self):
            name = self._get_param("EndpointName")
            settled(name)
            cloud.begin(cloud.endpoints[name], self._get_param("EndpointConfigName"), first=False)
            return json.dumps({"EndpointArn": cloud.endpoints[name].arn})

        def invoke(_backend, **_values):
            from moto.core.exceptions import JsonRESTError

            if cloud.smoke:
                raise JsonRESTError("ModelError", cloud.smoke)
            return "{}", "application/json", "primary", ""

        monkeypatch.setattr(Backend, "create_endpoint", only_once("endpoint", "endpoints"))
        monkeypatch.setattr(
            Backend, "create_endpoint_config", only_once("endpoint_config", "endpoint_configs")
        )
        monkeypatch.setattr(Backend, "create_model", only_once("model", "_models"))
        monkeypatch.setattr(Backend, "describe_endpoint", describe)
        monkeypatch.setattr(Backend, "update_endpoint_weights_and_capacities", weigh)
        monkeypatch.setattr(SageMakerResponse, "update_endpoint", update, raising=False)
        monkeypatch.setattr(SageMakerRuntimeBackend, "invoke_endpoint", invoke)
        monkeypatch.setattr("mlspec.providers.sagemaker.client.FIRST_SECONDS", 0.01)
        yield cloud


@pytest.fixture
def root(tmp_path):
    found = tmp_path / "repository"
    found.mkdir()
    return found


@pytest.fixture
def release(root):
    def make(version=1, token=0, **settings):
        bento = root / "bentos" / str(version)
        (bento / "src/model").mkdir(parents=True, exist_ok=True)
        (bento / "src/service.py").write_text(f"# {version}\n")
        (bento / "src/on_sagemaker.py").write_text("# serve\n")
        (bento / "src/model/model.json").write_text('{"commit": "abc"}')
        made = {"cpus": 1.0, "memory": None, "port": 3000, "capture": None, **settings}
        return Release(
            digest=f"{version}" * 64,
            path=bento,
            bento=bento,
            tag=f"churn:{version}",
            model="m",
            version=version,
            workers=1,
            memory=None,
            capture=None,
            settings={**made, "sagemaker": PLACE},
            token=token,
        )

    return make


@pytest.fixture
def target(root, cloud):  # noqa: ARG001 stand-ins
    return make_target(root, "aws", kind="sagemaker", port=3000, place=PLACE)


def test_nothing_is_there(target):
    assert target.observe("churn") is None
    target.stop("churn")
    target.destroy("churn")
    assert target.logs("churn") == ()


def test_deploy_and_observe(target, cloud, release):
    running = target.deploy("churn", release(token=7, replicas={"min": 2, "max": None}), [])
    assert (running.status, running.version, running.workers, running.ready) == ("serving", 1, 2, 2)
    assert running.release == "1" * 64 and running.differs == ()
    assert running.url == (
        "https://runtime.sagemaker.eu-central-1.amazonaws.com/endpoints/demo-churn/invocations"
    )
    [model] = cloud.backend._models.values()
    assert model.execution_role_arn == PLACE["role"]
    image = model.primary_container["Image"]
    assert image.startswith(f"{PLACE['image']['repository']}/churn@sha256:")
    tags = cloud.client.list_tags(ResourceArn=cloud.endpoints["demo-churn"].arn)["Tags"]
    found = {each["Key"]: each["Value"] for each in tags}
    assert found["mlspec.dev/release"] == "1" * 64 and found["mlspec.dev/token"] == "7"


def test_the_image_answers_to_the_word_serve(target, release, tmp_path):
    target.deploy("churn", release(), [])
    calls = (tmp_path / "builder/calls").read_text()
    assert "--tag" in calls
    text = (tmp_path / "builder/Containerfile").read_text()
    assert "exec /opt/service/bin/python /app/on_sagemaker.py" in text
    assert "ENV PATH=/opt/service/bin:$PATH" in text


def test_a_release_after_another_leaves_nothing_of_that(target, cloud, release):
    target.deploy("churn", release(1), [])
    assert target.deploy("churn", release(2), []).version == 2
    assert len(cloud.names()) == 3, "an endpoint, its configuration and its model"
    assert set(cloud.variants()) == {f"r-{'2' * 12}"}


def test_a_release_that_does_not_come_up_goes_back(target, cloud, release):
    before = target.deploy("churn", release(1), [])
    cloud.bad = "2" * 12
    with pytest.raises(RolledBack, match="version 2 of m was not taken into service") as caught:
        target.deploy("churn", release(2), [])
    assert caught.value.exit_code is ExitCode.ROLLED_BACK
    assert "did not pass the ping health check" in caught.value.message
    assert target.observe("churn") == before
    assert len(cloud.names()) == 3


def test_a_first_release_that_does_not_come_up_leaves_nothing(target, cloud, release):
    cloud.bad = "1" * 12
    with pytest.raises(RolledBack, match="Failed: The container did not pass"):
        target.deploy("churn", release(1), [])
    assert cloud.names() == set()


def test_a_release_that_takes_too_long(target, cloud, release):
    target.deploy("churn", release(1), [])
    slow = replace(target, place={**PLACE, "ready": 0.0})
    cloud.looks = 6
    with pytest.raises(RolledBack, match="not ready after 0 s: it is Updating"):
        slow.deploy("churn", release(2), [])
    assert target.observe("churn").version == 1


def test_smoke_rows_are_asked_of_machines_without_requests(target, cloud, release):
    target.deploy("churn", release(1), [{"a": 1}])
    cloud.smoke = "Received client error (422) from primary: row 0: a is missing"
    with pytest.raises(RolledBack, match=r"smoke request 1 of 1: .*row 0: a is missing"):
        target.deploy("churn", release(2), [{"a": 1}])
    assert target.observe("churn").version == 1
    assert set(cloud.variants()) == {f"r-{'1' * 12}"}
    cloud.smoke = ""
    assert target.deploy("churn", release(2), [{"a": 1}]).version == 2
    assert target.observe("churn").differs == () and len(cloud.names()) == 3


def test_a_first_release_that_answers_smoke_rows_wrongly(target, cloud, release):
    cloud.smoke = "Received client error (422) from primary"
    with pytest.raises(RolledBack, match="smoke request 1 of 1"):
        target.deploy("churn", release(1), [{"a": 1}])
    assert cloud.names() == set()


def test_an_edit_by_hand_is_seen_and_taken_back(target, cloud, release):
    target.deploy("churn", release(1), [])
    variant = f"r-{'1' * 12}"
    cloud.client.update_endpoint_weights_and_capacities(
        EndpointName="demo-churn",
        DesiredWeightsAndCapacities=[{"VariantName": variant, "DesiredInstanceCount": 3}],
    )
    for _ in range(cloud.looks):
        target.observe("churn")
    assert target.observe("churn").differs == ((f"variant[{variant}].instances", 1, 3),)
    assert target.deploy("churn", release(1), []).differs == ()
    other = {"VariantName": "x", "ModelName": next(iter(cloud.backend._models))}
    other |= {"InstanceType": "ml.m5.large", "InitialInstanceCount": 1, "InitialVariantWeight": 1.0}
    cloud.client.create_endpoint_config(EndpointConfigName="mine", ProductionVariants=[other])
    cloud.client.update_endpoint(EndpointName="demo-churn", EndpointConfigName="mine")
    for _ in range(cloud.looks):
        target.observe("churn")
    [(field, _, now)] = target.observe("churn").differs
    assert (field, now) == ("endpoint.config", "mine")
    assert target.deploy("churn", release(1), []).differs == ()


def test_stop_and_start(target, cloud, release):
    target.deploy("churn", release(1), [])
    target.stop("churn")
    assert not cloud.endpoints
    stopped = target.observe("churn")
    assert (stopped.status, stopped.version, stopped.workers) == ("stopped", 1, 0)
    assert target.start("churn").status == "serving"
    assert target.observe("churn").differs == ()
    target.stop("churn")
    target.destroy("churn")
    assert cloud.names() == set()


def test_start_of_what_was_never_there(target):
    with pytest.raises(MlspecError, match="was never deployed there"):
        target.start("churn")


def test_rename(target, cloud, release):
    target.deploy("churn", release(1, token=4), [])
    target.rename("churn", "attrition")
    assert target.observe("churn") is None
    running = target.observe("attrition")
    assert (running.version, running.differs) == (1, ())
    assert set(cloud.endpoints) == {"demo-attrition"} and len(cloud.names()) == 3


def test_what_is_stopped_is_renamed(target, release):
    target.deploy("churn", release(1, token=4), [])
    target.stop("churn")
    target.rename("churn", "attrition")
    assert target.observe("churn") is None
    assert target.observe("attrition").status == "stopped"
    assert target.start("attrition").version == 1


def test_a_rename_that_was_killed_is_finished(target, cloud, release):
    target.deploy("churn", release(1), [])
    target._make_alike(target._find("churn"), "attrition")
    target.rename("churn", "attrition")
    assert set(cloud.endpoints) == {"demo-attrition"} and len(cloud.names()) == 3


def test_what_was_started_again_and_is_gone_is_not_stopped(target, release):
    target.deploy("churn", release(1), [])
    target.stop("churn")
    target.start("churn")
    target._delete("churn")
    assert target.observe("churn") is None


def test_a_later_apply_is_not_overwritten(target, release):
    target.deploy("churn", release(2, token=5), [])
    with pytest.raises(MlspecError, match="a later apply"):
        target.deploy("churn", release(1, token=4), [])


def test_an_endpoint_of_somebody_else_is_left_alone(target, root, release):
    target.deploy("churn", release(1), [])
    other = make_target(root, "other", kind="sagemaker", port=3000, place=PLACE)
    with pytest.raises(MlspecError, match="an endpoint demo-churn that is not its own"):
        other.deploy("churn", release(2), [])
    assert other.observe("churn") is None
    other.rename("churn", "attrition")
    other.stop("churn")
    other.destroy("churn")
    assert target.observe("churn").version == 1


def test_two_deployments_leave_each_other_alone(target, cloud, release):
    target.deploy("churn", release(1), [])
    target.deploy("churn-eu", release(2), [])
    target.deploy("churn", release(3), [])
    where = {"kind": "sagemaker", "port": 3000, **PLACE}
    target_where(target.root, "aws", where).destroy("churn")
    running = target.observe("churn-eu")
    assert (running.status, running.differs) == ("serving", ())
    assert len(cloud.names()) == 3


def test_logs(target, release):
    target.deploy("churn", release(1), [])
    client = target.aws._client("logs")
    group, stream = "/aws/sagemaker/Endpoints/demo-churn", "r-1/i-1"
    client.create_log_group(logGroupName=group)
    client.create_log_stream(logGroupName=group, logStreamName=stream)
    now = int(datetime.now(UTC).timestamp() * 1000)
    event = {"timestamp": now, "message": "loaded the model"}
    client.put_log_events(logGroupName=group, logStreamName=stream, logEvents=[event])
    [path] = target.logs("churn")
    assert path.read_text().splitlines() == [
        f"# {group} in AWS, {REGION}",
        f"{stream}: loaded the model",
    ]


# --- Rollouts ------------------------------------------------------------------------------------


@contextmanager
def trying(target, release, smoke=()):
    assert isinstance(target, RollingTarget)
    with target.try_out("churn", release, smoke, splits=True) as trial:
        yield trial


def count(monkeypatch, **seen):
    """What CloudWatch tells: sums of a metric by variant."""
    original = Aws.call

    def call(self, service, operation, **values):
        if service != "cloudwatch":
            return original(self, service, operation, **values)
        variant = next(e["Value"] for e in values["Dimensions"] if e["Name"] == "VariantName")
        found = seen.get(values["MetricName"], {}).get(variant)
        return {"Datapoints": [] if found is None else [{"Sum": float(found)}]}

    monkeypatch.setattr(Aws, "call", call)


def test_a_canary_that_is_promoted(target, cloud, release, monkeypatch):
    target.deploy("churn", release(1), [])
    one, two = f"r-{'1' * 12}", f"r-{'2' * 12}"
    count(monkeypatch, Invocations={one: 90, two: 10}, Invocation5XXErrors={two: 3})
    with trying(target, release(2), [{"a": 1}]) as trial:
        assert cloud.variants() == {one: 1000.0, two: 0.0}
        trial.weigh(0.1)
        assert cloud.variants() == {one: 900.0, two: 100.0}
        reading = trial.read()
        assert (reading.champion.total, reading.candidate.total) == (90, 10)
        assert (reading.candidate.errors, reading.trouble) == (3, "")
        assert target.observe("churn").version == 1
        trial.promote()
    running = target.observe("churn")
    assert (running.version, running.differs) == (2, ())
    assert set(cloud.variants()) == {two} and len(cloud.names()) == 3


def test_a_canary_that_is_aborted(target, cloud, release):
    before = target.deploy("churn", release(1), [])
    with trying(target, release(2)) as trial:
        trial.weigh(0.5)
        trial.abort()
    assert target.observe("churn") == before
    assert len(cloud.names()) == 3


def test_a_canary_that_does_not_come_up(target, cloud, release):
    before = target.deploy("churn", release(1), [])
    cloud.bad = "2" * 12
    with pytest.raises(RolledBack), trying(target, release(2)):
        pass
    assert target.observe("churn") == before


def test_what_an_apply_that_was_killed_left_is_mended(target, cloud, release):
    before = target.deploy("churn", release(1), [])
    with trying(target, release(2)) as trial:
        trial.weigh(0.5)
    assert [name for name, *_ in target.observe("churn").differs] == ["endpoint.config"]
    assert target.deploy("churn", release(1), [{"a": 1}]) == before
    assert len(cloud.names()) == 3


# --- What AWS says -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "words", "kind"),
    [
        ("ExpiredToken", "AWS does not take these credentials", RemoteUnreachable),
        ("SignatureDoesNotMatch", "AWS does not take these credentials", RemoteUnreachable),
        ("AccessDeniedException", "`list_models` is not allowed", MlspecError),
        ("ThrottlingException", "ThrottlingException", RemoteUnreachable),
        ("ResourceLimitExceeded", "was refused: ResourceLimitExceeded", MlspecError),
    ],
)
def test_errors_have_words_and_no_credentials(cloud, monkeypatch, code, words, kind):  # noqa: ARG001
    from botocore.exceptions import ClientError

    said = "no\nx-amz-security-token:VERYSECRET"
    answer = {"Error": {"Code": code, "Message": said}}

    class Client:
        def list_models(self):
            raise ClientError(answer, "ListModels")

    aws = Aws(REGION)
    aws._clients["sagemaker"] = Client()
    with pytest.raises(kind, match=words) as caught:
        aws.call("sagemaker", "list_models")
    assert "VERYSECRET" not in f"{caught.value.message}{caught.value.hint}"


def test_no_credentials_and_no_profile(monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    for profile, words in (
        (None, "there are no credentials"),
        ("prod", "prod.* could not be found"),
    ):
        with pytest.raises(RemoteUnreachable, match=words) as caught:
            Aws(REGION, profile).call("sagemaker", "list_models")
        assert caught.value.hint


def test_a_region_that_does_not_answer(cloud, monkeypatch):  # noqa: ARG001 credentials
    from botocore.exceptions import EndpointConnectionError

    class Client:
        def list_models(self):
            raise EndpointConnectionError(endpoint_url="https://api.sagemaker.x")

    aws = Aws(REGION)
    aws._clients["sagemaker"] = Client()
    with pytest.raises(RemoteUnreachable, match="does not answer") as caught:
        aws.call("sagemaker", "list_models")
    assert caught.value.exit_code is ExitCode.UNREACHABLE


def test_boto3_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "botocore", None)
    with pytest.raises(RemoteUnreachable, match="boto3 is not installed") as caught:
        Aws(REGION).call("sagemaker", "list_models")
    assert "mlspec[sagemaker]" in caught.value.hint
