"""What of DVC's settings is kept when mlspec generates them anew."""

from __future__ import annotations

from pathlib import Path

from configobj import ConfigObj

from mlspec.dvc.inventory import _settings

CONFIG = """\
[core]
    remote = team
    analytics = false
    no_scm = false
['remote "team"']
    url = s3://bucket/x
    endpointurl = https://minio.example.org
['remote "other"']
    url = /mnt/other
[cache]
    type = symlink
"""


def _write(root: Path, **files: str) -> None:
    (root / ".dvc").mkdir(exist_ok=True)
    for name, text in files.items():
        (root / ".dvc" / name.replace("_", ".")).write_text(text)


def test_settings_of_the_default_remote_go_to_storage_and_others_stay(tmp_path: Path) -> None:
    _write(tmp_path, config=CONFIG, config_local="['remote \"team\"']\n    password = secret\n")
    found = _settings(tmp_path)
    assert (found["remote"], found["url"]) == ("team", "s3://bucket/x")
    local = ConfigObj(found["local"].splitlines())
    assert local['remote "storage"'] == {
        "password": "secret",
        "endpointurl": "https://minio.example.org",
    }
    assert local['remote "other"'] == {"url": "/mnt/other"}
    assert local["cache"] == {"type": "symlink"}
    assert 'remote "team"' not in local
    assert found["moved"] == [
        *("cache.type", "core.no_scm"),
        *('remote "other".url', 'remote "team".endpointurl'),
    ]
    assert "secret" not in str(found["moved"])


def test_plain_settings_leave_nothing_behind(tmp_path: Path) -> None:
    _write(tmp_path, config="[core]\n    remote = a\n['remote \"a\"']\n    url = ../../x\n")
    assert _settings(tmp_path) == {"remote": "a", "url": "../../x", "local": "", "moved": []}
