"""DVC's settings, as far as mlspec can tell what they mean.

Comes in: a repository. Goes out: where its storage is; :class:`Unusual` if there is any setting
that mlspec does not generate and that changes what DVC writes, or how.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

_SECTION = re.compile(r"""\[\s*('?)([\w-]+(?: "[^"'\[\]]+")?)\1\s*\]""")
_OPTION = re.compile(r"""(\w+)\s*=\s*(?:([^\s"'#,%][^"'#,%]*)|"([^"%]*)"|'([^'%]*)')""")
_HARMLESS = frozenset(
    {"analytics", "check_update", "checksum_jobs", "interactive", "remote", "site_cache_dir"}
)
"""Of the section `core`: they change nothing about what is written."""
_OFF = frozenset({"autostage", "hardlink_lock", "no_scm"})
"""Of the section `core`: they change nothing while they are false."""
_OF_A_FOLDER = frozenset({"url", "jobs", "checksum_jobs"})


class Unusual(Exception):
    """What is asked for is not as mlspec generates it: DVC itself must do it."""


@dataclass(frozen=True, slots=True)
class Settings:
    """`storage` is the folder of the default remote; None if it is anything else."""

    storage: Path | None


def settings_files(root: Path) -> tuple[Path, ...]:
    """The files that DVC reads for the repository at `root`, weakest first; they may be absent."""
    import platformdirs

    system = os.environ.get("DVC_SYSTEM_CONFIG_DIR")
    user = os.environ.get("DVC_GLOBAL_CONFIG_DIR")
    return (
        Path(system or platformdirs.site_config_dir("dvc", "iterative"), "config"),
        Path(user or platformdirs.user_config_dir("dvc", "iterative"), "config"),
        root / ".dvc/config",
        root / ".dvc/config.local",
    )


def load_settings(files: Iterable[Path]) -> Settings:
    """What those files say; a path in one is from the folder that it lies in."""
    settings: dict[str, dict[str, str]] = {}
    for path in files:
        for section, option, value in _read(path):
            if option == "url" and "://" not in value and value[:1] not in ("", "~"):
                value = os.path.normpath(path.parent / value)
            settings.setdefault(section, {})[option] = value
    core = settings.get("core", {})
    if settings.get("cache") or not all(
        option in _HARMLESS or (option in _OFF and value.lower() == "false")
        for option, value in core.items()
    ):
        raise Unusual
    remote = settings.get(f'remote "{core.get("remote", "").lower()}"', {})
    url = remote.get("url", "")
    folder = url.startswith("/") and remote.keys() <= _OF_A_FOLDER
    return Settings(Path(url) if folder else None)


def _read(path: Path) -> Iterator[tuple[str, str, str]]:
    """Section, option and value of each line; the names in small letters."""
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        raise Unusual from error
    section = ""
    for line in map(str.strip, text.splitlines()):
        if not line or line.startswith("#"):
            continue
        if found := _SECTION.fullmatch(line):
            section = found[2].lower()
        elif section and (found := _OPTION.fullmatch(line)):
            value = next(value for value in found.groups()[1:] if value is not None)
            yield section, found[1].lower(), value.strip()
        else:
            raise Unusual
