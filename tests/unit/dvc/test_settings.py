"""DVC's settings mean to mlspec what they mean to DVC."""

from __future__ import annotations

from pathlib import Path

import pytest
from dvc.config import Config

from mlspec.dvc.settings import Settings, load_settings


@pytest.mark.parametrize("folder", ["user", "repository/.dvc"])
@pytest.mark.parametrize("url", ["../storage", "inner", "/absolute/storage"])
def test_a_path_is_from_the_folder_of_the_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, url: str
) -> None:
    monkeypatch.setenv("DVC_GLOBAL_CONFIG_DIR", str(tmp_path / "user"))
    monkeypatch.setenv("DVC_SYSTEM_CONFIG_DIR", str(tmp_path / "system"))
    files = [tmp_path / "user/config", tmp_path / "repository/.dvc/config"]
    for file in files:
        file.parent.mkdir(parents=True)
        file.write_text("[core]\n    remote = storage\n")
    with (tmp_path / folder / "config").open("a") as file:
        file.write(f"['remote \"storage\"']\n    url = {url}\n")
    whole = Config(tmp_path / "repository/.dvc")
    named = Path(whole["remote"]["storage"]["url"])
    expected = (tmp_path / "repository/.dvc" / named).resolve()
    assert load_settings(files) == Settings(expected)
