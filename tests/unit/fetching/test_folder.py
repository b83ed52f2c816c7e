"""A folder in the layout of Hugging Face comes with its weights, and without pickles."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from mlspec.errors import MlspecError
from mlspec.fetching import Source, fetch
from tests.unit.fetching.conftest import Place, digest_of

FILES = {
    "config.json": b"{}",
    "model.safetensors": b"weights",
    "tokenizer.json": b"[]",
    "onnx/model.onnx": b"graph",
}


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    folder = tmp_path / "snapshot"
    for name, data in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def listed(folder: Path) -> str:
    """The digest of a folder as a user may find it out."""
    command = "find . -type f | sed 's|^./||' | LC_ALL=C sort | xargs sha256sum | sha256sum"
    done = subprocess.run(command, shell=True, cwd=folder, capture_output=True, check=True)
    return f"sha256:{done.stdout.decode().split()[0]}"


def test_a_whole_folder(snapshot: Path, place: Place) -> None:
    got = place.fetch(listed(snapshot), to="models/credit", hf_folder=str(snapshot))
    assert got.size == sum(map(len, FILES.values()))
    assert place.files() == {f"models/credit/{name}": data for name, data in FILES.items()}


def test_one_file_of_it(snapshot: Path, place: Place) -> None:
    place.fetch(digest_of(b"graph"), hf_folder=str(snapshot), path="onnx/model.onnx")
    assert place.files() == {"models/model.onnx": b"graph"}


def test_pickles_and_hidden_files_stay_where_they_are(snapshot: Path, place: Place) -> None:
    wanted = listed(snapshot)
    (snapshot / "pytorch_model.bin").write_bytes(b"pickle")
    (snapshot / ".cache").mkdir()
    (snapshot / ".cache/lock").write_bytes(b"")
    place.fetch(wanted, to="models/credit", hf_folder=str(snapshot))
    assert place.files() == {f"models/credit/{name}": data for name, data in FILES.items()}


def test_what_is_only_a_pickle_is_refused(snapshot: Path, place: Place) -> None:
    (snapshot / "model.safetensors").rename(snapshot / "pytorch_model.bin")
    (snapshot / "onnx/model.onnx").unlink()
    for path in ("", "pytorch_model.bin"):
        with pytest.raises(MlspecError, match="may be a pickle") as error:
            place.fetch(digest_of(b""), hf_folder=str(snapshot), path=path)
        assert "save_pretrained" in error.value.hint


def test_what_is_no_snapshot(snapshot: Path, place: Place) -> None:
    with pytest.raises(MlspecError, match="no folder"):
        place.fetch(digest_of(b""), hf_folder=str(snapshot / "none"))
    (snapshot / "config.json").unlink()
    with pytest.raises(MlspecError, match="has no config"):
        place.fetch(digest_of(b""), hf_folder=str(snapshot))


def test_links_of_the_cache_are_followed_and_no_others(snapshot: Path, place: Place) -> None:
    cache = snapshot.parent / "models--team--credit"
    blob = cache / "blobs/0f0f"
    blob.parent.mkdir(parents=True)
    blob.write_bytes(b"weights")
    linked = cache / "snapshots/main"
    linked.parent.mkdir()
    snapshot.rename(linked)
    (linked / "model.safetensors").unlink()
    (linked / "model.safetensors").symlink_to("../../blobs/0f0f")
    digest = fetch(Source(hf_folder=str(linked)), "", None, place.said.append, root=place.root)
    place.fetch(digest.digest, to="models/credit", hf_folder=str(linked))
    taken = place.root / "models/credit/model.safetensors"
    assert taken.read_bytes() == b"weights"
    assert not taken.is_symlink()
    (linked / "tokenizer.json").unlink()
    (linked / "tokenizer.json").symlink_to("/etc/passwd")
    with pytest.raises(MlspecError, match="leads out"):
        place.fetch(digest.digest, to="models/other", hf_folder=str(linked))
    assert not (place.root / "models/other").exists()


def test_a_folder_that_is_there_is_left_alone(snapshot: Path, place: Place) -> None:
    (place.root / "models/mine").mkdir(parents=True)
    (place.root / "models/mine/file").write_bytes(b"mine")
    for to, path in (("models/mine", ""), ("models", "config.json")):
        source = Source(hf_folder=str(snapshot), path=path)
        digest = fetch(source, "", None, place.said.append, root=place.root).digest
        with pytest.raises(MlspecError, match="is a folder"):
            place.fetch(digest, to=to, hf_folder=str(snapshot), path=path)
    assert place.files() == {"models/mine/file": b"mine"}


def test_all_files_together_have_a_limit(snapshot: Path, place: Place) -> None:
    with pytest.raises(MlspecError, match="more than 10 bytes"):
        place.fetch(listed(snapshot), to="models/credit", hf_folder=str(snapshot), most=10)
    assert place.files() == {}
