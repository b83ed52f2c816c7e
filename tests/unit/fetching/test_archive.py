"""One file comes out of an archive, and nothing else does."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Mapping

import pytest

from mlspec.errors import MlspecError
from tests.unit.fetching.conftest import Place, Web, digest_of

MODEL = b"the weights" * 1000


def zipped(files: Mapping[str, bytes]) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return data.getvalue()


def tarred(files: Mapping[str, bytes | str], mode: str = "w:gz") -> bytes:
    """Text is what a link leads to."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            if isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
                archive.addfile(info)
            else:
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return data.getvalue()


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("zip", zipped({"a/../../evil": b"x", "all/model.onnx": MODEL})),
        ("tar", tarred({"/etc/evil": b"x", "all/model.onnx": MODEL})),
        ("tar", tarred({"../evil": b"x", "./all/model.onnx": MODEL}, "w:xz")),
        ("tar", tarred({"all/model.onnx": MODEL}, "w")),
    ],
)
def test_the_file_that_is_named(web: Web, place: Place, kind: str, data: bytes) -> None:
    url = web.give("/all", data)
    got = place.fetch(digest_of(data), url=url, unpack=kind, path="all/model.onnx")
    assert got.digest == digest_of(data)
    assert place.files() == {"models/model.onnx": MODEL}


@pytest.mark.parametrize(
    ("kind", "data", "why"),
    [
        ("tar", tarred({"all/model.onnx": "/etc/passwd"}), "a link or a folder"),
        ("tar", tarred({"other.onnx": MODEL}), "has no all/model.onnx"),
        ("zip", zipped({"model.onnx": MODEL}), "has no all/model.onnx"),
        ("zip", tarred({"all/model.onnx": MODEL}), "cannot be read as an archive"),
        ("tar", b"no archive", "cannot be read as an archive"),
        ("tar", tarred({"all/model.onnx": MODEL})[:60], "cannot be read as an archive"),
        ("zip", zipped({"all/model.onnx": b"\0" * 3_000_000}), "more than 1,000,000 bytes"),
        ("tar", tarred({"all/model.onnx": b"\0" * 3_000_000}), "more than 1,000,000 bytes"),
        (
            "tar",
            tarred({"bomb": b"\0" * 3_000_000, "all/model.onnx": MODEL}),
            "more than 1,000,000 bytes",
        ),
    ],
    ids=lambda value: "data" if isinstance(value, bytes) else None,  # an archive has the time in it
)
def test_what_is_refused(web: Web, place: Place, kind: str, data: bytes, why: str) -> None:
    with pytest.raises(MlspecError, match=why):
        place.fetch(
            digest_of(data),
            url=web.give("/all", data),
            unpack=kind,
            path="all/model.onnx",
            most=1_000_000,
        )
    assert place.files() == {}


def test_one_that_is_another_is_not_opened(web: Web, place: Place) -> None:
    with pytest.raises(MlspecError, match="is not what the spec names"):
        place.fetch(digest_of(b""), url=web.give("/all", b"none"), unpack="zip", path="model.onnx")


def test_it_is_not_unpacked_unless_that_is_said(web: Web, place: Place) -> None:
    data = zipped({"model.onnx": MODEL})
    place.fetch(digest_of(data), url=web.give("/all.zip", data))
    assert place.files() == {"models/model.onnx": data}


def test_two_of_a_name_are_refused(web: Web, place: Place) -> None:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("model.onnx", MODEL)
        archive.writestr("model.onnx", b"other")
    whole = data.getvalue()
    with pytest.raises(MlspecError, match="2 times"):
        place.fetch(digest_of(whole), url=web.give("/a", whole), unpack="zip", path="model.onnx")
