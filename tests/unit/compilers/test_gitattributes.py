from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from mlspec.compilers.generated import MARK
from mlspec.compilers.gitattributes import (
    BEGIN,
    END,
    compile_gitattributes,
    merge_block,
)

BLOCK = compile_gitattributes().text
OTHER = f"{BEGIN}\n*.old text\n{END}\n"


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments], check=False, capture_output=True, text=True
    )
    return done.stdout


@pytest.mark.parametrize(
    ("path", "generated"),
    [
        ("pipelines/credit-risk/dvc.yaml", True),
        ("pipelines/credit-risk/params.json", True),
        ("pipelines/credit-risk/dvc.lock", True),
        ("services/credit-risk/service.py", True),
        ("cards/credit-risk.md", True),
        (".github/workflows/mlspec.yml", True),
        (".github/workflows/theirs.yml", False),
        ("src/services/api.py", False),
        ("mlspec.yaml", False),
    ],
)
def test_git_takes_generated_files_for_generated(
    tmp_path: Path, path: str, generated: bool
) -> None:
    _git(tmp_path, "init")
    (tmp_path / ".gitattributes").write_text(BLOCK)
    shown = _git(tmp_path, "check-attr", "linguist-generated", "text", "--", path)
    value, text = ("true", "unset") if generated else ("unspecified", "unspecified")
    assert f"linguist-generated: {value}\n" in shown
    assert f"text: {text}\n" in shown


def test_git_keeps_the_bytes_of_a_generated_file_whatever_the_users_settings(
    tmp_path: Path,
) -> None:
    _git(tmp_path, "init")
    _git(tmp_path, "config", "core.autocrlf", "true")
    (tmp_path / ".gitattributes").write_text("* text=auto eol=crlf\n" + BLOCK)
    card = tmp_path / "cards" / "a.md"
    card.parent.mkdir()
    card.write_bytes(b"one\ntwo\n")
    _git(tmp_path, "add", ".")
    card.unlink()
    _git(tmp_path, "checkout", "--", ".")
    assert card.read_bytes() == b"one\ntwo\n"


@pytest.mark.parametrize(
    ("existing", "merged"),
    [
        ("", BLOCK),
        ("*.png binary\n", "*.png binary\n" + BLOCK),
        ("*.png binary", "*.png binary\n" + BLOCK),
        (OTHER, BLOCK),
        ("a\n" + OTHER + "b\n", "a\n" + BLOCK + "b\n"),
        ("a\n" + OTHER + "b", "a\n" + BLOCK + "b"),
        ("a\n" + OTHER.rstrip("\n"), "a\n" + BLOCK),
        ("a\n" + OTHER + "b\n" + OTHER + "c\n", "a\n" + BLOCK + "b\nc\n"),
        ("a\r\n" + OTHER.replace("\n", "\r\n") + "b\r\n", "a\r\n" + BLOCK + "b\r\n"),
        (f"{BEGIN}\nmine\n", f"{BEGIN}\nmine\n" + BLOCK),
        (f"{BEGIN}\nmine\n" + OTHER, f"{BEGIN}\nmine\n" + BLOCK),
        (f"{END}\nmine\n", f"{END}\nmine\n" + BLOCK),
    ],
)
def test_the_block_is_put_in_its_place_and_the_rest_is_kept(existing: str, merged: str) -> None:
    assert merge_block(existing, BLOCK) == merged
    assert merge_block(merged, BLOCK) == merged


def test_an_empty_block_takes_the_block_away() -> None:
    assert merge_block("a\n" + BLOCK + "b\n", "") == "a\nb\n"
    assert merge_block("a", "") == "a"


def test_a_block_of_another_version_is_known_again() -> None:
    older = BLOCK.replace("Edit the spec, not this file.", "Leave it alone.")
    assert merge_block("a\n" + older, BLOCK) == "a\n" + BLOCK


def test_the_block_is_marked_as_generated() -> None:
    assert MARK in compile_gitattributes().text
