"""A model registry of MLflow: a tracking server, or the folder that its clients write without one.

Comes in: where it is, and which model. Goes out: its version, and the bytes of single files of it.
Nothing is trusted: answers have a limit, names that could lead elsewhere are refused, redirects are
not followed, nothing is unpacked or loaded. Credentials come from the environment, as MLflow's own
clients take them, and go nowhere but to that server.
"""

from __future__ import annotations

import base64
import json
import os
import re
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import IO, Any, Protocol
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode, urlsplit
from urllib.request import HTTPRedirectHandler, HTTPSHandler, Request, build_opener

import yaml

from mlspec.errors import MlspecError
from mlspec.spec.show import escape, show

MOST_TEXT = 1 << 20
"""Bytes of an answer, or of a file that says what a model is."""
MOST_BYTES = 8 << 30
"""Of a model."""
PATIENCE = 60.0
"""Seconds without a byte after which a server is given up."""
LICENCE_TAGS = ("licence", "license")

_MODEL = re.compile(r"(?P<name>[^/:@]{1,255})(?:/(?P<version>[1-9][0-9]{0,9})|@(?P<alias>[^/@]+))?")
_FILE = re.compile(r"\w[\w.+-]{0,99}(?:/\w[\w.+-]{0,99}){0,9}", re.ASCII)
_KEPT = re.compile(r"(?:^|/)([^/]+/(?:models/)?[^/]+/artifacts(?:/[^/]+)*)/?$")
"""Where MLflow keeps files, from the folder of its runs: EXPERIMENT/RUN/artifacts/..."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a user asks for: a version, or what has an alias, or else the newest."""

    name: str
    version: int | None = None
    alias: str | None = None

    def __str__(self) -> str:
        which = f"@{self.alias}" if self.alias else f"/{self.version}" if self.version else ""
        return f"{self.name}{which}"


@dataclass(frozen=True, slots=True)
class Registered:
    """A version of a registered model; `licence` is empty where nobody said one."""

    name: str
    version: int
    licence: str

    def __str__(self) -> str:
        return f"{self.name}/{self.version}"


class Registry(Protocol):
    """Answers about models; raises :class:`MlspecError` for whatever it cannot answer."""

    @property
    def address(self) -> str: ...
    def find(self, wanted: Wanted) -> Registered: ...
    def read(self, version: Registered, file: str) -> bytes: ...
    def download(self, version: Registered, file: str, to: Path) -> None: ...


def parse_wanted(text: str) -> Wanted:
    """`MODEL`, `MODEL/3` or `MODEL@alias`."""
    found = _MODEL.fullmatch(text)
    if found is None or escape(text) != text:
        raise MlspecError(
            f"{show(text)} does not name a model", hint="write MODEL, MODEL/VERSION or MODEL@ALIAS"
        )
    version = found["version"]
    return Wanted(found["name"], int(version) if version else None, found["alias"])


def open_registry(
    where: str, environment: Mapping[str, str] = os.environ, *, start: Path | None = None
) -> Registry:
    """The registry at a URL (http, https), or in a folder as seen from `start`."""
    if escape(where) != where or "#" in where:
        raise MlspecError(f"{show(where)} is neither a URL nor a folder")
    scheme = where.partition("://")[0] if "://" in where else ""
    if scheme in ("http", "https"):
        parts = urlsplit(where)
        if parts.username or parts.password:
            raise MlspecError(
                "the URL holds credentials, which would end up in the spec",
                hint="give them in MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or in "
                "MLFLOW_TRACKING_TOKEN",
            )
        if not parts.hostname or parts.query:
            raise MlspecError(f"{show(where)} is not the URL of a tracking server")
        return _Server(where.rstrip("/"), _authorization(environment))
    folder = where.removeprefix("file://")
    if "://" in folder:
        raise MlspecError(
            f"{show(where)}: registries of the kind {show(scheme)} are not read",
            hint="give the URL of a tracking server (http, https), or a folder such as mlruns",
        )
    return _Folder(folder, start or Path())


def check_file(file: object, said_by: str) -> str:
    """A name that a registry gave for a file, if it leads nowhere else."""
    if not isinstance(file, str) or not _FILE.fullmatch(file) or ".." in file:
        named = show(file) if isinstance(file, str) else "of no name"
        raise MlspecError(
            f"{said_by} names the file {named}, which may lead out of the model",
            hint="look at who could write to that registry; nothing was taken",
        )
    return file


def load_yaml(data: bytes, name: str) -> Mapping[str, Any]:
    """A mapping in YAML of plain values."""
    try:
        plain = yaml.safe_load(data)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise MlspecError(f"{name} cannot be read: it is not plain YAML") from error
    if not isinstance(plain, dict):
        raise MlspecError(f"{name} cannot be read: it is not a mapping")
    return plain


# a server -----------------------------------------------------------------------------------------


class _NoRedirects(HTTPRedirectHandler):
    """What another host answers is not what was asked for, and it must not get the credentials."""

    def redirect_request(self, *_args: Any, **_more: Any) -> None:
        return None


class _Server:
    """A tracking server, over its REST interface; files come through it, wherever it keeps them."""

    def __init__(self, address: str, authorization: str) -> None:
        self.address = address
        self._headers = {"Authorization": authorization} if authorization else {}
        context = HTTPSHandler(context=ssl.create_default_context())
        self._opener = build_opener(_NoRedirects, context)

    def find(self, wanted: Wanted) -> Registered:
        if wanted.alias is not None:
            query = {"name": wanted.name, "alias": wanted.alias}
            found = self._ask("registered-models/alias", query).get("model_version")
        elif wanted.version is not None:
            query = {"name": wanted.name, "version": str(wanted.version)}
            found = self._ask("model-versions/get", query).get("model_version")
        else:
            literal = wanted.name.replace("'", "''")
            query = {
                "filter": f"name='{literal}'",
                "order_by": "version_number DESC",
                "max_results": "1",
            }
            versions = self._ask("model-versions/search", query).get("model_versions") or [None]
            found = versions[0] if isinstance(versions, list) else None
        if found is None:
            raise MlspecError(f"{self.address} has no model {show(str(wanted))}")
        registered = _registered(found, wanted, self.address)
        if registered.licence:
            return registered
        model = self._ask("registered-models/get", {"name": wanted.name}).get("registered_model")
        tags = model.get("tags") if isinstance(model, dict) else None
        return Registered(registered.name, registered.version, _licence(tags))

    def read(self, version: Registered, file: str) -> bytes:
        with self._file(version, file) as answer:
            return _limited(answer, f"{file} of {version}")

    def download(self, version: Registered, file: str, to: Path) -> None:
        with self._file(version, file) as answer:
            _copy(answer, to, f"{file} of {version}")

    def _file(self, version: Registered, file: str) -> Any:
        query = {"name": version.name, "version": str(version.version), "path": file}
        return self._get("model-versions/get-artifact", query)

    def _ask(self, what: str, query: Mapping[str, str]) -> Mapping[str, Any]:
        with self._get(f"api/2.0/mlflow/{what}", query) as answer:
            data = _limited(answer, "the answer")
        try:
            plain = json.loads(data)
        except (ValueError, RecursionError):
            plain = None
        if not isinstance(plain, dict):
            raise MlspecError(
                f"{self.address} does not answer like a tracking server of MLflow",
                hint="give the address that MLFLOW_TRACKING_URI has",
            )
        return plain

    @contextmanager
    def _get(self, path: str, query: Mapping[str, str]) -> Iterator[IO[bytes]]:
        url = f"{self.address}/{path}?{urlencode(query, quote_via=quote)}"
        try:
            request = Request(url, headers=self._headers)
            with self._opener.open(request, timeout=PATIENCE) as answer:
                yield answer
        except HTTPError as error:
            raise self._refused(error) from error
        except (URLError, HTTPException, OSError) as error:
            why = getattr(error, "reason", None) or error
            raise MlspecError(
                f"{self.address} cannot be reached: {escape(str(why))}",
                hint="look at the address, and whether the server runs; nothing was changed",
            ) from error

    def _refused(self, error: HTTPError) -> MlspecError:
        if error.code in (401, 403):
            return MlspecError(
                f"{self.address} refuses access (HTTP {error.code})",
                hint="set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or "
                "MLFLOW_TRACKING_TOKEN",
            )
        if 300 <= error.code < 400:
            return MlspecError(
                f"{self.address} sends elsewhere (HTTP {error.code}), which is not followed",
                hint="give the address that it sends to, if you trust that one",
            )
        try:
            said = json.loads(error.read(MOST_TEXT)).get("message", "")
        except (ValueError, AttributeError, OSError, HTTPException):
            said = ""
        what = f": {escape(str(said))[:300]}" if said else ""
        return MlspecError(f"{self.address} answers HTTP {error.code}{what}")


def _authorization(environment: Mapping[str, str]) -> str:
    user = environment.get("MLFLOW_TRACKING_USERNAME")
    password = environment.get("MLFLOW_TRACKING_PASSWORD")
    if user and password:
        return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"
    token = environment.get("MLFLOW_TRACKING_TOKEN")
    return f"Bearer {token}" if token else ""


def _registered(found: object, wanted: Wanted, address: str) -> Registered:
    """What an answer says of a version, if it is of the one that was asked for."""
    body = found if isinstance(found, dict) else {}
    version = str(body.get("version"))
    if (
        body.get("name") != wanted.name
        or not version.isdecimal()
        or wanted.version not in (None, int(version))
    ):
        raise MlspecError(f"{address} answers about another model than {show(str(wanted))}")
    return Registered(wanted.name, int(version), _licence(body.get("tags")))


def _licence(tags: object) -> str:
    """What tags say of the licence: `[{key, value}, ...]`."""
    for tag in tags if isinstance(tags, list) else ():
        if isinstance(tag, dict) and str(tag.get("key")).lower() in LICENCE_TAGS:
            return plain_line(tag.get("value"))
    return ""


def plain_line(value: object) -> str:
    """A value that others wrote, if it is a short line; else nothing."""
    text = value.strip() if isinstance(value, str) else ""
    return text if escape(text) == text and len(text) <= 100 else ""


# a folder -----------------------------------------------------------------------------------------


class _Folder:
    """What MLflow's file store keeps: `models/` has the registry, the rest what it names.

    Of the places that it names only the end counts, below this very folder: it may have been moved,
    and it cannot lead anywhere else.
    """

    def __init__(self, address: str, start: Path) -> None:
        self.address = address
        self._root = Path(os.path.realpath(start / address))
        if not (self._root / "models").is_dir():
            raise MlspecError(
                f"{address} is no folder with a registry of MLflow: it has no folder `models`",
                hint="give the folder that MLFLOW_TRACKING_URI names, such as mlruns",
            )

    def find(self, wanted: Wanted) -> Registered:
        model = self._inside("models", wanted.name)
        if not model.is_dir():
            raise MlspecError(f"{self.address} has no model {show(wanted.name)}")
        number = self._number(model, wanted)
        version = model / f"version-{number}"
        if not version.is_dir():
            raise MlspecError(f"{self.address} has no model {show(f'{wanted.name}/{number}')}")
        licence = self._licence(version) or self._licence(model)
        return Registered(wanted.name, number, licence)

    def read(self, version: Registered, file: str) -> bytes:
        with self._open(self._artifacts(version) / file) as found:
            return _limited(found, f"{file} of {version}")

    def download(self, version: Registered, file: str, to: Path) -> None:
        with self._open(self._artifacts(version) / file) as found:
            _copy(found, to, f"{file} of {version}")

    def _number(self, model: Path, wanted: Wanted) -> int:
        if wanted.version is not None:
            return wanted.version
        if wanted.alias is None:
            names = (path.name.removeprefix("version-") for path in model.glob("version-*"))
            numbers = [int(name) for name in names if name.isdecimal()]
            if not numbers:
                raise MlspecError(f"{self.address}: {show(wanted.name)} has no version")
            return max(numbers)
        name = self._inside("models", wanted.name, "aliases", wanted.alias)
        if not name.is_file():
            raise MlspecError(f"{self.address} has no model {show(str(wanted))}")
        with self._open(name) as file:
            text = _limited(file, "the alias").decode(errors="replace").strip()
        if not text.isdecimal():
            raise MlspecError(f"{self.address}: the alias {show(str(wanted))} names no version")
        return int(text)

    def _licence(self, folder: Path) -> str:
        for tag in sorted((folder / "tags").glob("*")):
            if tag.name.lower() in LICENCE_TAGS:
                with self._open(tag) as file:
                    return plain_line(_limited(file, "a tag").decode(errors="replace"))
        return ""

    def _artifacts(self, version: Registered) -> Path:
        path = self._inside("models", version.name, f"version-{version.version}", "meta.yaml")
        with self._open(path) as file:
            meta = load_yaml(_limited(file, "meta.yaml"), f"{self.address}: meta.yaml of {version}")
        named = meta.get("storage_location") or meta.get("source")
        place = named if isinstance(named, str) else ""
        found = _KEPT.search(place)
        if found is None:
            raise MlspecError(
                f"{self.address} keeps the files of {version} at {show(place)}, not in this folder",
                hint="ask the tracking server that can read them: --from-mlflow http://...",
            )
        return self._inside(*found[1].split("/"))

    def _inside(self, *parts: str) -> Path:
        """A path in the folder; no part of it leads out."""
        if any(part in ("", ".", "..") or "/" in part or "\0" in part for part in parts):
            raise MlspecError(f"{self.address}: {show('/'.join(parts))} leads out of the folder")
        return self._root.joinpath(*parts)

    def _open(self, path: Path) -> IO[bytes]:
        name = show(str(path.relative_to(self._root)))
        if not Path(os.path.realpath(path)).is_relative_to(self._root):
            raise MlspecError(f"{self.address}: {name} leads out of the folder, through a link")
        if not path.is_file():
            raise MlspecError(f"{self.address} has no file {name}")
        try:
            return path.open("rb")
        except OSError as error:
            raise MlspecError(f"{self.address}: {name}: {error.strerror}") from error


def _limited(file: IO[bytes], name: str) -> bytes:
    data = file.read(MOST_TEXT + 1)
    if len(data) > MOST_TEXT:
        raise MlspecError(f"{name} has more than {MOST_TEXT:,} bytes")
    return data


@contextmanager
def _written(path: Path) -> Iterator[IO[bytes]]:
    with _as_unwritable(path):
        into = path.open("wb")
    try:
        yield into
        with _as_unwritable(path):
            into.flush()
            os.fsync(into.fileno())
    finally:
        with suppress(OSError):
            into.close()


@contextmanager
def _as_unwritable(path: Path) -> Iterator[None]:
    """What goes wrong here is about this machine, and not about a server."""
    try:
        yield
    except OSError as error:
        raise MlspecError(
            f"cannot write {path}: {error.strerror}", hint="nothing was changed"
        ) from error


def _copy(file: IO[bytes], to: Path, name: str) -> None:
    """Have all bytes at `to`, on disk; nothing of them is looked at."""
    length = getattr(file, "length", None)
    taken = 0
    with _written(to) as into:
        while piece := file.read(1 << 20):
            taken += len(piece)
            if taken > MOST_BYTES:
                raise MlspecError(f"{name} has more than {MOST_BYTES:,} bytes")
            with _as_unwritable(to):
                into.write(piece)
    if length is not None and taken != length:
        raise MlspecError(f"{name} ended after {taken:,} of {length:,} bytes", hint="try again")
