"""Generated files on disk: whole, inside the repository, and nothing else deleted."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlspec.errors import MlspecError
from mlspec.providers.files import delete_file, write_file


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "repository"
    (root / ".git").mkdir(parents=True)
    return root


def test_a_file_is_written_with_its_folders(root: Path) -> None:
    write_file(root, "pipelines/m/dvc.yaml", "stages: {}\n")
    assert (root / "pipelines/m/dvc.yaml").read_text() == "stages: {}\n"
    write_file(root, ".dvcignore", "/.mlspec/\n")
    assert (root / ".dvcignore").read_text() == "/.mlspec/\n"


def test_a_root_that_is_itself_reached_by_a_link(root: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(root)
    write_file(tmp_path / "link", "cards/m.md", "text")
    assert (root / "cards/m.md").read_text() == "text"


@pytest.mark.parametrize("leads", ["/elsewhere", "/repository/.git", "/repository-2"])
@pytest.mark.parametrize("folder", ["pipelines", "pipelines/m"])
def test_no_folder_may_lead_out_or_into_git(
    root: Path, tmp_path: Path, folder: str, leads: str
) -> None:
    elsewhere = Path(f"{tmp_path}{leads}")
    elsewhere.mkdir(exist_ok=True)
    (elsewhere / "dvc.yaml").write_text("theirs")
    (elsewhere / "m").mkdir()
    (elsewhere / "m/dvc.yaml").write_text("theirs")
    (root / folder).parent.mkdir(exist_ok=True)
    (root / folder).symlink_to(elsewhere)
    for change in (
        lambda path: write_file(root, path, "ours"),
        lambda path: delete_file(root, path),
    ):
        with pytest.raises(MlspecError, match="outside of the repository") as caught:
            change("pipelines/m/dvc.yaml")
        assert caught.value.hint == "put a folder in the place of pipelines/m, which is a link"
    assert [path.read_text() for path in elsewhere.rglob("dvc.yaml")] == ["theirs", "theirs"]


def test_a_link_within_the_repository_may_be_followed(root: Path) -> None:
    (root / "real").mkdir()
    (root / "pipelines").symlink_to("real")
    write_file(root, "pipelines/m/dvc.yaml", "text")
    assert (root / "real/m/dvc.yaml").read_text() == "text"


@pytest.mark.parametrize("target", ["mine", "nowhere", "/etc/hostname"])
def test_a_link_is_neither_written_to_nor_deleted(root: Path, target: str) -> None:
    (root / "mine").write_text("mine")
    (root / "file").symlink_to(target)
    with pytest.raises(MlspecError, match="file is a link"):
        write_file(root, "file", "ours")
    with pytest.raises(MlspecError, match="file is a link"):
        delete_file(root, "file")
    assert (root / "file").is_symlink()
    assert (root / "mine").read_text() == "mine"


def test_a_deleted_pipeline_takes_its_lock_and_its_empty_folder_along(root: Path) -> None:
    folder = root / "pipelines/m"
    folder.mkdir(parents=True)
    for name in ("dvc.yaml", "dvc.lock", "params.json"):
        (folder / name).touch()
    delete_file(root, "pipelines/m/dvc.yaml")
    assert [path.name for path in folder.iterdir()] == ["params.json"]
    delete_file(root, "pipelines/m/params.json")
    assert not folder.exists()
    assert (root / "pipelines").exists()


def test_what_people_have_put_beside_it_is_kept(root: Path) -> None:
    (root / "cards").mkdir()
    (root / "cards/m.md").touch()
    (root / "cards/notes.md").write_text("mine")
    delete_file(root, "cards/m.md")
    assert [path.name for path in (root / "cards").iterdir()] == ["notes.md"]


def test_deleting_what_is_not_there(root: Path) -> None:
    delete_file(root, "cards/m.md")
    assert [path.name for path in root.iterdir()] == [".git"]
