"""Registries are read and not believed. The server here is made by hand, to answer like a real one.

`tests/e2e/test_adopt_mlflow.py` asks a real one.
"""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from mlspec.adoption import registry
from mlspec.adoption.flavours import read_flavour
from mlspec.adoption.registry import Registered, open_registry, parse_wanted
from mlspec.errors import MlspecError

FOLDER = Path(__file__).parents[2] / "fixtures" / "mlflow"
FIRST = "630730089064645482/models/m-566c8d89d5f3416394f42972a18e7123/artifacts"


@dataclass
class Fake:
    """A tracking server: answers by path, and what it was asked."""

    address: str = ""
    answers: dict[str, tuple[int, dict[str, str], bytes]] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, list[str]], str | None]] = field(default_factory=list)

    def say(self, path: str, body: Any, status: int = 200, **headers: str) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.answers[path] = status, headers, data


API = "/api/2.0/mlflow/"
FILES = "/model-versions/get-artifact"


def version(number: str = "1", name: str = "credit", **more: Any) -> dict[str, Any]:
    """As MLflow 3.17 answers."""
    tags = [{"key": "license", "value": "Apache-2.0"}]
    source = "models:/m-7e8ef5dafcff4d75a96abc30d23d871e"
    body = {"name": name, "version": number, "current_stage": "None", "source": source}
    return {"model_version": {**body, "status": "READY", "tags": tags, **more}}


@pytest.fixture
def fake() -> Iterator[Fake]:
    fake = Fake()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            fake.asked.append(
                (parts.path, parse_qs(parts.query), self.headers.get("Authorization"))
            )
            missing = {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "not found"}
            status, headers, data = fake.answers.get(
                parts.path, (404, {}, json.dumps(missing).encode())
            )
            self.send_response(status)
            for name, value in {"Content-Length": str(len(data)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    fake.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield fake
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("text", "which"),
    [("credit", (None, None)), ("credit/3", (3, None)), ("credit@best", (None, "best"))],
)
def test_models_by_version_and_alias(text: str, which: tuple[int | None, str | None]) -> None:
    wanted = parse_wanted(text)
    assert (wanted.version, wanted.alias) == which
    assert str(wanted) == text


@pytest.mark.parametrize("text", ["", "a/b", "a/0", "a/1/2", "a@b/1", "../x/1", "a\n/1", "a:b"])
def test_what_names_no_model(text: str) -> None:
    with pytest.raises(MlspecError, match="does not name a model"):
        parse_wanted(text)


def test_a_server_is_asked_as_clients_do(fake: Fake, tmp_path: Path) -> None:
    fake.say(f"{API}registered-models/alias", version("4"))
    fake.say(f"{API}model-versions/search", {"model_versions": [version("5")["model_version"]]})
    fake.say(f"{API}model-versions/get", version("3"))
    fake.say(FILES, b"\x08\x0a")
    server = open_registry(f"{fake.address}/", {"MLFLOW_TRACKING_TOKEN": "t0ken"})
    assert server.find(parse_wanted("credit@best")) == Registered("credit", 4, "Apache-2.0")
    assert server.find(parse_wanted("credit")).version == 5
    found = server.find(parse_wanted("credit/3"))
    server.download(found, "model.onnx", tmp_path / "model.onnx")
    assert (tmp_path / "model.onnx").read_bytes() == b"\x08\x0a"
    assert {token for _, _, token in fake.asked} == {"Bearer t0ken"}
    assert fake.asked[0][1] == {"name": ["credit"], "alias": ["best"]}
    assert fake.asked[-1][1] == {"name": ["credit"], "version": ["3"], "path": ["model.onnx"]}


def test_a_password_comes_before_a_token(fake: Fake) -> None:
    fake.say(f"{API}model-versions/get", version())
    environment = {"MLFLOW_TRACKING_USERNAME": "ada", "MLFLOW_TRACKING_PASSWORD": "pw"}
    open_registry(fake.address, environment).find(parse_wanted("credit/1"))
    assert fake.asked[0][2] == "Basic YWRhOnB3"


def test_the_licence_of_a_model_counts_where_its_version_has_none(fake: Fake) -> None:
    fake.say(f"{API}model-versions/get", version(tags=[]))
    tags = [{"key": "Licence", "value": " MIT "}]
    fake.say(f"{API}registered-models/get", {"registered_model": {"name": "credit", "tags": tags}})
    assert open_registry(fake.address, {}).find(parse_wanted("credit/1")).licence == "MIT"


def test_a_redirect_is_not_followed(fake: Fake) -> None:
    fake.say(f"{API}model-versions/get", b"", 302, Location=f"{fake.address}/elsewhere")
    server = open_registry(fake.address, {"MLFLOW_TRACKING_TOKEN": "t0ken"})
    with pytest.raises(MlspecError, match="sends elsewhere"):
        server.find(parse_wanted("credit/1"))
    assert len(fake.asked) == 1


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"error_code": "PERMISSION_DENIED"}, 403, "refuses access"),
        ({"message": "Model Version not found"}, 404, "Model Version not found"),
        ({"message": "\x1b[31m" + "x" * 9000}, 400, "x{200}"),
        (b"<html>", 200, "does not answer like a tracking server"),
        ([1], 200, "does not answer like a tracking server"),
        (b"[" * 100_000, 200, "does not answer like a tracking server"),
        (b" " * (registry.MOST_TEXT + 1), 200, "more than"),
        (version("2"), 200, "another model"),
        (version("1", name="other"), 200, "another model"),
        (version("../1"), 200, "another model"),
        ({"model_version": "credit"}, 200, "another model"),
        ({}, 200, "has no model"),
    ],
)
def test_answers_that_are_refused(fake: Fake, body: Any, status: int, said: str) -> None:
    fake.say(f"{API}model-versions/get", body, status)
    with pytest.raises(MlspecError, match=said) as error:
        open_registry(fake.address, {}).find(parse_wanted("credit/1"))
    assert "\x1b" not in error.value.message
    assert len(error.value.message) < 600


def test_a_download_has_a_limit_and_an_end(
    fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, model = open_registry(fake.address, {}), Registered("credit", 1, "MIT")
    monkeypatch.setattr(registry, "MOST_BYTES", 10)
    fake.say(FILES, b"x" * 11)
    with pytest.raises(MlspecError, match="more than 10 bytes"):
        server.download(model, "model.onnx", tmp_path / "part")
    fake.answers[FILES] = (200, {"Content-Length": "9"}, b"x" * 5)
    monkeypatch.setattr(registry, "PATIENCE", 1.0)
    with pytest.raises(MlspecError, match=r"cannot be reached|ended after"):
        server.download(model, "model.onnx", tmp_path / "part")


def test_nobody_answers() -> None:
    with pytest.raises(MlspecError, match="cannot be reached"):
        open_registry("http://127.0.0.1:1", {}).find(parse_wanted("credit/1"))


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("https://ada:hunter2@mlflow.example.org", "holds credentials"),
        ("s3://bucket/mlruns", "are not read"),
        ("sqlite:///mlflow.db", "are not read"),
        ("https://", "not the URL"),
        ("nowhere", "no folder with a registry"),
        ("a#b", "neither a URL nor a folder"),
    ],
)
def test_places_that_are_none(where: str, said: str) -> None:
    with pytest.raises(MlspecError, match=said) as error:
        open_registry(where, {})
    assert "hunter2" not in str(error.value)


# folders ------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(FOLDER, tmp_path / "mlruns")
    return tmp_path / "mlruns"


def test_a_folder_that_mlflow_wrote_and_somebody_moved(folder: Path, tmp_path: Path) -> None:
    found = open_registry(str(folder))
    first = found.find(parse_wanted("credit@champion"))
    assert first == Registered("credit", 1, "Apache-2.0")
    assert found.find(parse_wanted("credit")) == Registered("credit", 2, "")
    flavour = read_flavour(found.read(first, "MLmodel"), "it")
    assert (flavour.file, flavour.format) == ("model.onnx", "onnx")
    found.download(first, flavour.file, tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == (folder / FIRST / "model.onnx").read_bytes()


def test_a_full_disk_is_not_a_server_that_cannot_be_reached(fake: Fake) -> None:
    fake.say(FILES, b"x" * 100)
    server = open_registry(fake.address, {})
    with pytest.raises(MlspecError, match="cannot write /dev/full: No space left"):
        server.download(Registered("credit", 1, "MIT"), "model.onnx", Path("/dev/full"))


def edit_place(folder: Path, place: str) -> None:
    meta = folder / "models/credit/version-1/meta.yaml"
    lines = meta.read_text().splitlines()
    lines = [f"storage_location: {place}" if "storage_" in line else line for line in lines]
    meta.write_text("\n".join(lines))


def link_out(folder: Path) -> None:
    file = folder / FIRST / "model.onnx"
    file.rename(folder.parent / "secret")
    file.symlink_to(folder.parent / "secret")


def link_folder_out(folder: Path) -> None:
    (folder / FIRST).rename(folder.parent / "outside")
    (folder / FIRST).symlink_to(folder.parent / "outside")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda folder: edit_place(folder, "file:///etc"), "not in this folder"),
        (lambda folder: edit_place(folder, "s3://bucket/x"), "not in this folder"),
        (lambda folder: edit_place(folder, "/x/../../artifacts"), "leads out"),
        (lambda folder: edit_place(folder, "/x/1/2/artifacts/../../.."), "leads out"),
        (lambda folder: edit_place(folder, "/x/1/2/artifacts"), "has no file"),
        (lambda folder: edit_place(folder, "[1"), "not plain YAML"),
        (link_out, "through a link"),
        (link_folder_out, "through a link"),
        (lambda folder: (folder / "models/credit/aliases/champion").write_text("../1"), "names no"),
    ],
)
def test_nothing_leads_out_of_a_folder(
    folder: Path, tmp_path: Path, spoil: Callable[[Path], object], said: str
) -> None:
    spoil(folder)
    found = open_registry(str(folder))
    with pytest.raises(MlspecError, match=said):
        model = found.find(parse_wanted("credit@champion"))
        found.download(model, "model.onnx", tmp_path / "part")


# what a model is ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        *("../model.onnx", "/etc/passwd", "a/../../b", "%2e%2e/x", "a\\b", "", ".hidden", "a\n"),
        *("file:///etc/passwd", "x" * 200, "a//b", 7, None),
    ],
)
@pytest.mark.parametrize("flavour", ["onnx: {data: NAME}", "sklearn: {pickled_model: NAME}"])
def test_names_that_may_lead_out(name: object, flavour: str) -> None:
    text = f"flavors: {{{flavour.replace('NAME', json.dumps(name))}}}"
    with pytest.raises(MlspecError, match="may lead out"):
        read_flavour(text.encode(), "it")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            b"flavors: {pytorch: {model_data: data}, python_function: {}}",
            "python_function, pytorch",
        ),
        (b"flavors: []", "flavours: "),
        (b"{}", "flavours: "),
        (b"[1, 2]", "not a mapping"),
        (b"a: !!python/object/apply:os.system [id]", "not plain YAML"),
        (b"\xff", "not plain YAML"),
        (b"[" * 5000, "not plain YAML"),
    ],
)
def test_models_that_are_not_taken(text: bytes, said: str) -> None:
    with pytest.raises(MlspecError, match=said):
        read_flavour(text, "it")


def test_values_that_grow_without_end_are_not_written_out() -> None:
    lines = ["a0: &a0 [x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30)]
    bomb = "\n".join(lines)
    flavours = "flavors: {onnx: {data: model.onnx}}\nmetadata: {license: *a29}"
    assert read_flavour(f"{bomb}\n{flavours}".encode(), "it").licence == ""
    with pytest.raises(MlspecError, match="of no name"):
        read_flavour(f"{bomb}\nflavors: {{onnx: {{data: *a29}}}}".encode(), "it")


def test_a_pickle_is_not_served() -> None:
    text = b"flavors: {sklearn: {pickled_model: model.pkl, serialization_format: cloudpickle}}"
    flavour = read_flavour(text, "it")
    assert flavour.format == ""
    assert "any code" in flavour.why
    # one from before the format was written is a pickle, too
    assert read_flavour(b"flavors: {sklearn: {pickled_model: model.pkl}}", "it").format == ""


@pytest.mark.parametrize("name", ["xgboost", "lightgbm", "catboost"])
def test_boosters_are_served_unless_they_are_pickles(name: str) -> None:
    own = read_flavour(f"flavors: {{{name}: {{data: model.bin}}}}".encode(), "it")
    assert (own.file, own.format, own.why) == ("model.bin", name, "")
    pickled = read_flavour(f"flavors: {{{name}: {{data: model.pkl}}}}".encode(), "it")
    assert pickled.format == ""
    assert "any code" in pickled.why
