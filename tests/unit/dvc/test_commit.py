"""What a run is recorded from."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mlspec.dvc.commit import digest_of
from mlspec.errors import MlspecError


def test_a_name_that_dvc_cannot_keep_is_said(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/fine-é.txt").write_text("fine")
    found = digest_of(tmp_path, "out")
    assert found is not None
    assert found.nfiles == 1
    os.close(os.open(os.fsencode(tmp_path / "out") + b"/\xff.txt", os.O_CREAT | os.O_WRONLY))
    with pytest.raises(MlspecError, match=r"\\udcff\.txt: its name is not UTF-8") as raised:
        digest_of(tmp_path, "out")
    assert raised.value.hint
