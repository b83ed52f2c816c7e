"""PyTorch: TorchScript, exported programs and safetensors; what their services answer.

Services answer exactly what the network itself does. Tests without `torch` in them need no PyTorch.
"""

from __future__ import annotations

import importlib.util
import json
import pickle
import zipfile

import numpy
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits

from mlspec.errors import MlspecError
from mlspec.formats import inspect_artifact, inspect_declared
from mlspec.spec.models import Artifact

SHORT = {"torchscript": "pt", "pytorch": "pt2", "safetensors": "safetensors"}
NETWORKS = """
import torch
from torch import nn


class Classes(nn.Module):
    def __init__(self, width: int = 30):
        super().__init__()
        self.body = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 2)
        )

    def forward(self, rows):
        shares = self.body(rows).softmax(1)
        return shares.argmax(1), shares


class Number(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(10, 1, dtype=torch.float64)

    def forward(self, rows):
        return self.body(rows)


class Image(nn.Module):
    def __init__(self):
        super().__init__()
        self.look = nn.Conv2d(1, 4, 3)

    def forward(self, images):
        return self.look(images.unsqueeze(1)).amax((2, 3))


class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.bag = nn.EmbeddingBag(100, 1)

    def forward(self, words):
        return self.bag(words).squeeze(1)
"""
CODE = ("net/models.py",)


@pytest.fixture
def networks(tmp_path):
    """The user's module of networks, in the repository `tmp_path`."""
    pytest.importorskip("torch").manual_seed(7)
    path = tmp_path / CODE[0]
    path.parent.mkdir()
    path.write_text(NETWORKS)
    spec = importlib.util.spec_from_file_location("networks", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def save(network, folder, kind, rows=None, metadata=None, **declared):
    """Write a network as PyTorch itself writes it; what the spec says of it."""
    import torch

    path, metadata = folder / f"model.{SHORT[kind]}", metadata or {}
    network.eval()
    if kind == "torchscript":
        torch.jit.save(torch.jit.script(network), path, _extra_files=dict(metadata))
    elif kind == "pytorch":
        free = ({0: torch.export.Dim.DYNAMIC},)
        program = torch.export.export(network, (rows,), dynamic_shapes=free)
        torch.export.save(program, path, extra_files=metadata)
    else:
        writer = pytest.importorskip("safetensors.torch")
        writer.save_file(network.state_dict(), path, metadata=metadata)
        declared["class"] = f"net.models:{type(network).__name__}"
    return Artifact.model_validate({"path": path.name, "format": kind, **declared})


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("kind", SHORT)
def test_classes_and_probabilities_are_those_of_the_network(
    serve, rows_of, networks, tmp_path, kind
):
    import torch

    data, target = load_breast_cancer(return_X_y=True, as_frame=True)
    network, table = networks.Classes(), torch.tensor(data.to_numpy(), dtype=torch.float32)
    steps = torch.optim.Adam(network.parameters(), lr=0.05)
    for _ in range(20):
        steps.zero_grad()
        loss = torch.nn.functional.nll_loss(network(table)[1].log(), torch.tensor(target))
        loss.backward()
        steps.step()
    metadata = {"columns": json.dumps(list(data))}
    artifact = save(network, tmp_path, kind, table[:2], metadata)
    rows = rows_of(data)
    huge = {**rows[0], "mean radius": 1e300}
    signature, all_, one, bad = serve(tmp_path, artifact, rows, rows[:1], [huge], code=CODE)
    assert [column["name"] for column in signature["columns"]] == list(data)
    assert [output["type"] for output in signature["outputs"]] == ["integer", "numbers"]
    with torch.inference_mode():
        classes, shares = network(table)
        alone = network(table[:1])[1]
    assert set(all_["predictions"]) == {0, 1}
    assert all_["predictions"] == classes.tolist()
    assert numpy.array_equal(all_["probabilities"], shares.numpy())
    assert numpy.array_equal(one["probabilities"], alone.numpy())
    problem = "is out of range"
    assert bad["problems"] == [{"row": 0, "column": "mean radius", "problem": problem}]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("kind", SHORT)
def test_columns_of_the_spec_and_wide_numbers(serve, rows_of, networks, tmp_path, kind):
    import torch

    data = load_diabetes(as_frame=True).data
    network = networks.Number()
    columns = dict.fromkeys(data, "number") | {"age": "integer"}
    data["age"] = range(len(data))
    rows = rows_of(data)
    table = torch.tensor([list(row.values()) for row in rows], dtype=torch.float64)
    artifact = save(network, tmp_path, kind, table[:2], columns=columns)
    signature, answer = serve(tmp_path, artifact, rows, code=CODE)
    assert {each["name"]: each["type"] for each in signature["columns"]} == columns
    assert signature["outputs"] == [{"name": "predict", "type": "number", "role": "prediction"}]
    with torch.inference_mode():
        assert answer["predictions"] == network(table)[:, 0].tolist()


def test_rows_of_an_exported_program_have_its_shape(serve, networks, tmp_path):
    import torch

    images = load_digits().images[:50]
    network, table = networks.Image(), torch.tensor(images, dtype=torch.float32)
    artifact = save(network, tmp_path, "pytorch", table[:2])
    rows = [{f"x{n}": value for n, value in enumerate(image.ravel().tolist())} for image in images]
    signature, answer = serve(tmp_path, artifact, rows)
    assert len(signature["columns"]) == 64
    assert [output["type"] for output in signature["outputs"]] == ["numbers"]
    with torch.inference_mode():
        assert answer["predictions"] == network(table).tolist()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("kind", ["torchscript", "pytorch"])
def test_whole_numbers(serve, networks, tmp_path, kind):
    import torch

    table = torch.tensor([[3, 99, 0], [7, 7, 12]])
    network = networks.Words()
    artifact = save(network, tmp_path, kind, table, columns=dict.fromkeys("abc", "integer"))
    rows = [dict(zip("abc", row, strict=True)) for row in table.tolist()]
    _, answer, half = serve(tmp_path, artifact, rows, [{**rows[0], "a": 0.5}])
    with torch.inference_mode():
        assert answer["predictions"] == network(table).tolist()
    assert half["problems"] == [{"row": 0, "column": "a", "problem": "must be a whole number"}]
    if kind == "pytorch":
        artifact = artifact.model_copy(update={"columns": dict.fromkeys("abc", "number")})
        with pytest.raises(MlspecError, match="takes whole numbers, and its column 'a'"):
            inspect_declared(artifact, tmp_path)


def test_arguments_of_the_module_are_in_the_metadata(serve, networks, tmp_path):
    metadata = {"config": json.dumps({"width": 3}), "columns": json.dumps(["a", "b", "c"])}
    artifact = save(networks.Classes(3), tmp_path, "safetensors", metadata=metadata)
    _, answer = serve(tmp_path, artifact, [{"a": 1, "b": 2.5, "c": 3}], code=CODE)
    assert len(answer["probabilities"][0]) == 2


def test_weights_of_another_module_are_refused(networks, tmp_path):
    artifact = save(networks.Classes(), tmp_path, "safetensors", columns={"a": "number"})
    other = artifact.model_copy(update={"class_": "net.models:Number"})
    with pytest.raises(MlspecError, match=r"is not the weights of net\.models:Number"):
        inspect_declared(other, tmp_path, CODE)


def test_how_many_columns_is_said_somewhere(networks, tmp_path):
    artifact = save(networks.Classes(), tmp_path, "safetensors")
    with pytest.raises(MlspecError, match="which columns it takes is not known") as caught:
        inspect_declared(artifact, tmp_path, CODE)
    assert "columns: {" in caught.value.hint


def test_a_program_of_one_number_of_rows_is_refused(networks, tmp_path):
    import torch

    program = torch.export.export(networks.Number(), (torch.zeros(2, 10, dtype=torch.float64),))
    torch.export.save(program, tmp_path / "m.pt2")
    with pytest.raises(MlspecError, match="takes exactly 2 rows at once") as caught:
        inspect_artifact(tmp_path / "m.pt2", "pytorch")
    assert "dynamic_shapes" in caught.value.hint


def test_a_sample_that_is_any_pickle_is_never_loaded(networks, tmp_path):
    """PyTorch itself would load it without a word."""
    import torch

    save(networks.Number(), tmp_path, "pytorch", torch.zeros(2, 10, dtype=torch.float64))
    ran = tmp_path / "ran"

    class Evil:
        def __reduce__(self):
            return exec, (f"open({str(ran)!r}, 'w').close()",)

    torch.save((Evil(),), tmp_path / "sample.pt")
    path = tmp_path / "evil.pt2"
    with zipfile.ZipFile(tmp_path / "model.pt2") as good, zipfile.ZipFile(path, "w") as bad:
        for name in good.namelist():
            evil = name.endswith("sample_inputs/model.pt")
            bad.writestr(name, (tmp_path / "sample.pt").read_bytes() if evil else good.read(name))
    with pytest.raises(MlspecError, match="is not an exported program"):
        inspect_artifact(path, "pytorch")
    assert not ran.exists()


def write_program(path, node=None, config=None, more=()):
    """The files of an exported program that are looked at before PyTorch sees it."""
    nodes = [{"target": "torch.ops.aten.relu.default", **(node or {})}]
    files = {
        "archive_format": "pt2",
        "models/model.json": json.dumps({"graph_module": {"graph": {"nodes": nodes}}}),
        "data/weights/model_weights_config.json": json.dumps({"config": config or {}}),
        **dict(more),
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(f"m/{name}", text)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"node": {"target": "torch.hub.load"}}, "calls torch.hub.load, which is no operator"),
        (
            {"node": {"target": "torch.ops.aten.from_file.default"}},
            "calls torch.ops.aten.from_file",
        ),
        ({"node": {"target": "_operator.methodcaller"}}, "calls _operator.methodcaller"),
        ({"node": {"expr_str": "__import__('os')"}}, "has a size that is no formula"),
        ({"node": {"expr_str": "Poly('exec')"}}, "has a size that is no formula"),
        ({"node": {"expr_str": "s0.__class__"}}, "has a size that is no formula"),
        ({"config": {"w": {"use_pickle": True, "path_name": "weight_0"}}}, "holds w as a pickle"),
        ({"config": {"w": {"use_pickle": False, "path_name": "custom_obj_0"}}}, "holds w as a"),
        ({"more": {"data/aotinductor/m/m.so": "ELF"}.items()}, "compiled code"),
        ({"more": {"models/other.json": "{}"}.items()}, "is not an exported program"),
    ],
    ids=lambda value: None if isinstance(value, dict) else value.partition(",")[0],
)
def test_programs_that_would_run_something_are_refused(tmp_path, change, said):
    path = tmp_path / "bad.pt2"
    write_program(path, **change)
    with pytest.raises(MlspecError, match=said):
        inspect_artifact(path, "pytorch")


def test_a_part_outside_of_the_archive_is_none(tmp_path):
    pytest.importorskip("torch")
    path = tmp_path / "bad.pt2"
    write_program(path, more={"../version": "8.0"}.items())
    with pytest.raises(MlspecError, match="is not an exported program"):
        inspect_artifact(path, "pytorch")


@pytest.mark.parametrize(
    ("kind", "what"),
    [("torchscript", "a TorchScript model"), ("pytorch", "an exported program")],
)
def test_what_is_no_model_is_refused(tmp_path, kind, what):
    path = tmp_path / "bad.bin"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/b", "")
    empty = path.read_bytes()
    for bad in (b"this is no model", b"{}", empty, empty[:30]):
        path.write_bytes(bad)
        with pytest.raises(MlspecError, match=f"is not {what}") as caught:
            inspect_artifact(path, kind)
        assert "torch." in caught.value.hint


@pytest.mark.parametrize("kind", ["torchscript", "pytorch"])
def test_what_torch_save_writes_is_a_pickle(tmp_path, kind):
    path = tmp_path / "m.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("m/data.pkl", pickle.dumps({}))
    with pytest.raises(MlspecError, match=r"is a pickle of torch\.save") as caught:
        inspect_artifact(path, kind)
    assert "torch." in caught.value.hint


def test_each_form_is_told_from_the_other(tmp_path):
    path = tmp_path / "m.pt"
    write_program(path)
    with pytest.raises(MlspecError, match="is an exported program") as caught:
        inspect_artifact(path, "torchscript")
    assert caught.value.hint == "write `format: pytorch`"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("m/constants.pkl", "")
    with pytest.raises(MlspecError, match="is a TorchScript model") as caught:
        inspect_artifact(path, "pytorch")
    assert caught.value.hint == "write `format: torchscript`"


@pytest.mark.parametrize("call", ["torch.save(rows, 'x')", "ops.aten.from_file('/etc/passwd')"])
def test_scripts_that_touch_files_are_refused(tmp_path, call):
    path = tmp_path / "m.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("m/constants.pkl", "")
        archive.writestr("m/code/__torch__.py", f"  def forward(self, rows):\n    {call}\n")
    with pytest.raises(MlspecError, match="reads or writes files"):
        inspect_artifact(path, "torchscript")


def test_files_of_one_name_are_refused(tmp_path):
    path = tmp_path / "m.pt"
    with zipfile.ZipFile(path, "w") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("m/constants.pkl", "a")
        archive.writestr("m/constants.pkl", "b")
    with pytest.raises(MlspecError, match="two files of one name"):
        inspect_artifact(path, "torchscript")


@pytest.mark.parametrize("kind", SHORT)
def test_a_pickle_is_refused_with_the_way_to_save_it(tmp_path, kind):
    path = tmp_path / "bad.bin"
    path.write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(MlspecError, match="is a pickle") as caught:
        inspect_artifact(path, kind)
    assert "torch." in caught.value.hint


def test_a_header_of_safetensors_that_promises_too_much(tmp_path):
    pytest.importorskip("torch")
    pytest.importorskip("safetensors")
    (tmp_path / "net").mkdir()
    (tmp_path / CODE[0]).write_text("class Nothing: pass\n")
    declared = {"path": "w", "format": "safetensors", "class": "net.models:Nothing"}
    artifact = Artifact.model_validate(declared)
    for size in (2**60, 10):
        (tmp_path / "w").write_bytes(size.to_bytes(8, "little") + b'{"a": {}}')
        with pytest.raises(MlspecError, match="is no file of safetensors"):
            inspect_declared(artifact, tmp_path, CODE)


def test_a_package_that_is_not_there_is_named(tmp_path, monkeypatch):
    absent = tmp_path / "absent"
    absent.mkdir()
    (absent / "torch.py").write_text("raise ModuleNotFoundError('no torch', name='torch')\n")
    monkeypatch.setenv("PYTHONPATH", str(absent))
    path = tmp_path / "m.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("m/constants.pkl", "")
        archive.writestr("m/extra/columns", '["a"]')
    with pytest.raises(MlspecError, match="the package torch is needed") as caught:
        inspect_artifact(path, "torchscript")
    assert caught.value.hint == "pip install 'mlspec[torch]'"
