"""Bad specs that cannot lie in the repository: big, binary, or not ordinary files."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

Build = Callable[[Path], str]
"""Makes a repository and says where the problem is."""

HEAD = "mlspec: 1\nproject: demo\n"
SPECIAL: dict[str, tuple[str, Build]] = {}


def special_case(code: str) -> Callable[[Build], Build]:
    def add(build: Build) -> Build:
        number, slug = build.__name__.removeprefix("class_").split("_", 1)
        SPECIAL[f"{number}-{slug.replace('_', '-')}"] = (code, build)
        return build

    return add


def write(root: Path, text: str | bytes, name: str = "mlspec.yaml") -> None:
    (root / name).write_bytes(text if isinstance(text, bytes) else text.encode())


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "special" in metafunc.fixturenames:
        metafunc.parametrize("special", SPECIAL.values(), ids=list(SPECIAL))


@pytest.fixture
def special_cases() -> dict[str, str]:
    return {name: code for name, (code, _) in SPECIAL.items()}


@special_case("MLS001")
def class_00_no_spec(_root: Path) -> str:
    return ""


@special_case("MLS003")
def class_01_latin_1(root: Path) -> str:
    write(root, "mlspec: 1\nproject: demo\n# caf\xe9\n".encode("latin-1"))
    return "mlspec.yaml:3:6"


@special_case("MLS003")
def class_01_utf_16(root: Path) -> str:
    write(root, HEAD.encode("utf-16"))
    return "mlspec.yaml:1:1"


@special_case("MLS003")
def class_06_raw_surrogate(root: Path) -> str:
    write(root, HEAD.encode() + b"# \xed\xa0\x80\n")
    return "mlspec.yaml:3:3"


@special_case("MLS005")
def class_09_five_megabytes(root: Path) -> str:
    write(root, HEAD + "# " + "x" * 5_000_000)
    return "mlspec.yaml:1:1"


@special_case("MLS005")
def class_09_long_text(root: Path) -> str:
    write(root, HEAD + "datasets: {loans: {path: a.csv, description: " + "x" * 70_000 + "}}\n")
    return "mlspec.yaml:3:46"


@special_case("MLS008")
def class_10_empty(root: Path) -> str:
    write(root, "")
    return "mlspec.yaml:1:1"


@special_case("MLS005")
def class_21_two_hundred_thousand_brackets(root: Path) -> str:
    write(root, HEAD + "include: " + "[" * 200_000)
    return "mlspec.yaml:3:41"


@special_case("MLS005")
def class_21_deep_blocks(root: Path) -> str:
    write(root, "".join(f"{' ' * depth}a:\n" for depth in range(100)))
    return "mlspec.yaml:33:33"


@special_case("MLS005")
def class_22_million_values(root: Path) -> str:
    # The limit on bytes is met first by anything that an unaided parser would take seconds for.
    write(root, HEAD + "include: [" + "a," * 2_200_000 + "]")
    return "mlspec.yaml:1:1"


@special_case("MLS002")
def class_61_root_file_leaves(root: Path) -> str:
    write(root.parent, HEAD, "elsewhere.yaml")
    (root / "mlspec.yaml").symlink_to(root.parent / "elsewhere.yaml")
    return "mlspec.yaml:1:1"


@special_case("MLS002")
def class_61_include_leaves(root: Path) -> str:
    write(root.parent, "datasets: {}\n", "elsewhere.yaml")
    (root / "more.yaml").symlink_to(root.parent / "elsewhere.yaml")
    write(root, HEAD + "include: [more.yaml]\n")
    return "mlspec.yaml:3:11"


@special_case("MLS002")
def class_61_include_through_a_folder(root: Path) -> str:
    (root.parent / "outside").mkdir()
    write(root.parent / "outside", "datasets: {}\n", "more.yaml")
    (root / "specs").symlink_to(root.parent / "outside")
    write(root, HEAD + "include: [specs/more.yaml]\n")
    return "mlspec.yaml:3:11"


@special_case("MLS062")
def class_61_dataset_leaves(root: Path) -> str:
    (root / "data").symlink_to(root.parent)
    write(root, HEAD + "datasets: {loans: {path: data/loans.csv}}\n")
    return "mlspec.yaml:3:26"


@special_case("MLS062")
def class_62_dataset_loop(root: Path) -> str:
    (root / "a").symlink_to("b")
    (root / "b").symlink_to("a")
    write(root, HEAD + "datasets: {loans: {path: a/loans.csv}}\n")
    return "mlspec.yaml:3:26"


@special_case("MLS002")
def class_62_include_loop(root: Path) -> str:
    (root / "a.yaml").symlink_to("a.yaml")
    write(root, HEAD + "include: [a.yaml]\n")
    return "mlspec.yaml:3:11"


@special_case("MLS002")
def class_65_root_file_is_a_pipe(root: Path) -> str:
    os.mkfifo(root / "mlspec.yaml")
    return "mlspec.yaml:1:1"


@special_case("MLS002")
def class_65_include_is_a_pipe(root: Path) -> str:
    os.mkfifo(root / "more.yaml")
    write(root, HEAD + "include: ['*.yaml']\n")
    return "mlspec.yaml:3:11"


@special_case("MLS063")
def class_65_dataset_is_a_pipe(root: Path) -> str:
    os.mkfifo(root / "loans.csv")
    write(root, HEAD + "datasets: {loans: {path: loans.csv}}\n")
    return "mlspec.yaml:3:26"


@special_case("MLS063")
def class_65_requirements_are_a_pipe(root: Path) -> str:
    os.mkfifo(root / "requirements.txt")
    write(root, HEAD + "python: {requirements: requirements.txt}\n")
    return "mlspec.yaml:3:24"


@special_case("MLS063")
def class_65_output_is_a_socket(root: Path) -> str:
    # A path of a socket is short, so it is bound where it is and not by its whole name.
    here = Path.cwd()
    os.chdir(root)
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("model.onnx")
    finally:
        os.chdir(here)
    write(root, HEAD + "models: {a: {stages: {train: {command: b, outputs: [model.onnx]}}}}\n")
    return "mlspec.yaml:3:53"


@special_case("MLS024")
def class_68_more_files_than_allowed(root: Path) -> str:
    (root / "specs").mkdir()
    write(root / "specs", "", "0.yaml")
    for number in range(1, 20_001):
        os.link(root / "specs/0.yaml", root / f"specs/{number}.yaml")
    write(root, HEAD + "include: [specs/*.yaml]\n")
    return "mlspec.yaml:3:11"


MATRIX = (
    "models:\n  demand:\n    matrix: {from: regions.csv}\n    stages: {train: {command: train}}\n"
)


@special_case("MLS087")
def class_00_matrix_hundred_thousand(root: Path) -> str:
    write(root, "region\n" + "".join(f"r{number}\n" for number in range(100_000)), "regions.csv")
    write(root, HEAD + MATRIX)
    return "mlspec.yaml:5:13"


@special_case("MLS086")
def class_00_matrix_csv_not_utf_8(root: Path) -> str:
    write(root, "region\nM\xfcnchen\n".encode("latin-1"), "regions.csv")
    write(root, HEAD + MATRIX)
    return "regions.csv:2:2"


@special_case("MLS086")
def class_00_matrix_csv_too_large(root: Path) -> str:
    write(root, "region\n" + "x" * 5_000_000, "regions.csv")
    write(root, HEAD + MATRIX)
    return "regions.csv:1:1"


@special_case("MLS086")
def class_61_matrix_csv_leaves(root: Path) -> str:
    write(root.parent, "region\nnorth\n", "regions.csv")
    (root / "regions.csv").symlink_to("../regions.csv")
    write(root, HEAD + MATRIX)
    return "mlspec.yaml:5:20"


@special_case("MLS086")
def class_65_matrix_csv_is_a_pipe(root: Path) -> str:
    os.mkfifo(root / "regions.csv")
    write(root, HEAD + MATRIX)
    return "mlspec.yaml:5:20"


@special_case("MLS002")
def class_72_root_file_is_a_folder(root: Path) -> str:
    (root / "mlspec.yaml").mkdir()
    return "mlspec.yaml:1:1"


@special_case("MLS002")
def class_72_include_is_a_folder(root: Path) -> str:
    (root / "specs").mkdir()
    write(root, HEAD + "include: [specs]\n")
    return "mlspec.yaml:3:11"


@special_case("MLS063")
def class_72_requirements_are_a_folder(root: Path) -> str:
    (root / "requirements.txt").mkdir()
    write(root, HEAD + "python: {requirements: requirements.txt}\n")
    return "mlspec.yaml:3:24"


@special_case("MLS063")
def class_72_requirements_are_not_text(root: Path) -> str:
    write(root, b"\xff\xfe\x00", "requirements.txt")
    write(root, HEAD + "python: {requirements: requirements.txt}\n")
    return "mlspec.yaml:3:24"
