"""An artifact in a registry of containers (OCI), by the digest of its manifest.

The manifest has the digest that was asked for, and names the layer that is taken by its own: so the
one digest of the spec says which bytes come. Credentials are a token that the spec names a
variable for, or what `docker login` or `podman login` left; they go to that registry, and to the
server of tokens that it names, over https.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http.client import HTTPResponse
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode, urlsplit

from mlspec.errors import MlspecError, RemoteUnreachable
from mlspec.fetching.sink import Budget, Got, Sink
from mlspec.fetching.web import (
    LOOPBACK,
    ask,
    authorization,
    check_address,
    check_redirect,
    download,
    read_text,
    refused,
)
from mlspec.spec.show import show

MOST_TEXT = 4 << 20
"""Bytes of a manifest: as registries have it."""
MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.oci.artifact.manifest.v1+json",
)
TITLE = "org.opencontainers.image.title"

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')


def bring(where: str, digest: str, path: str, place: Path, token: str, budget: Budget) -> Got:
    """Have the layer of the manifest `digest` of HOST/REPOSITORY at `place`.

    `path` is the layer's title, if there are several. Without a digest `where` ends with a tag, and
    the answer tells the digest of what has it.
    """
    host, _, name = where.partition("/")
    tag = "latest"
    if not digest and ":" in name:
        name, _, tag = name.rpartition(":")
    registry = _Registry(host, name, token)
    data = registry.manifest(digest or tag)
    found = f"sha256:{hashlib.sha256(data).hexdigest()}"
    if digest and found != digest:
        raise MlspecError(f"{where} answers with {found}, and was asked for {digest}")
    layer = _layer(data, path, where)
    size = layer["size"]
    budget.check(size)
    with Sink(place, budget) as sink:
        registry.blob(layer["digest"], sink, budget)
    if sink.got.digest != layer["digest"] or sink.taken != size:
        raise MlspecError(
            f"{where} gave a layer of {sink.got.digest} ({sink.taken:,} bytes), and its manifest "
            f"has {layer['digest']} ({size:,} bytes); nothing of it was kept"
        )
    return Got(place, found, size)


def has_manifest(reference: str, auth_file: str = "") -> bool:
    """Whether a registry has HOST/REPOSITORY@DIGEST.

    `auth_file` has the credentials, as `podman login` writes them. Raises
    :class:`RemoteUnreachable` if the registry does not say.
    """
    where, _, digest = reference.rpartition("@")
    host, _, name = where.partition("/")
    try:
        _Registry(host, name, _login(host, auth_file)).manifest(digest)
    except RemoteUnreachable:
        raise
    except MlspecError as error:
        if isinstance(error.__cause__, HTTPError) and error.__cause__.code in (404, 410):
            return False
        raise RemoteUnreachable(error.message, hint="log in, and name the credentials") from error
    return True


def _layer(data: bytes, path: str, where: str) -> dict[str, Any]:
    try:
        manifest = json.loads(data)
        layers = manifest.get("layers") or manifest.get("blobs") or []
        found = [_described(each) for each in layers]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise MlspecError(f"{where} has no manifest of an artifact there") from error
    if "manifests" in manifest:
        raise MlspecError(
            f"{where} has a list of manifests there, one for each kind of machine",
            hint="give the digest of one of them",
        )
    titles = ", ".join(show(each["title"]) for each in found if each["title"]) or "none has a title"
    if path:
        found = [each for each in found if each["title"] == path]
    if len(found) != 1:
        named = f"the layer {show(path)}" if path else "one layer"
        raise MlspecError(
            f"{where} does not have {named} there, but {len(layers)} layers: {titles}",
            hint="name the file: `path: TITLE`",
        )
    return found[0]


def _described(layer: Mapping[str, Any]) -> dict[str, Any]:
    digest, size = layer["digest"], layer["size"]
    if not _DIGEST.fullmatch(digest) or not isinstance(size, int) or size < 0:
        raise ValueError
    title = (layer.get("annotations") or {}).get(TITLE, "")
    return {"digest": digest, "size": size, "title": str(title)}


class _Registry:
    """The part of the distribution interface that reads."""

    def __init__(self, host: str, name: str, token: str) -> None:
        self._host = host
        bare = urlsplit(f"//{host}").hostname or ""
        scheme = "http" if bare in LOOPBACK else "https"
        self._base = f"{scheme}://{host}/v2/{name}"
        self._name = name
        self._login = token or _login(host)
        self._headers: Mapping[str, str] = {}
        check_address(self._base)

    def manifest(self, reference: str) -> bytes:
        url = f"{self._base}/manifests/{reference}"
        with self._get(url, {"Accept": ", ".join(MANIFESTS)}) as answer:
            return read_text(answer, MOST_TEXT, "the manifest")

    def blob(self, digest: str, sink: Sink, budget: Budget) -> None:
        download(f"{self._base}/blobs/{digest}", sink, self._headers, budget)

    @contextmanager
    def _get(self, url: str, headers: Mapping[str, str]) -> Iterator[HTTPResponse]:
        challenge = ""
        try:
            with ask(url, {**headers, **self._headers}) as answer:
                yield answer
                return
        except MlspecError as error:
            if isinstance(error.__cause__, HTTPError) and error.__cause__.code == 401:
                challenge = error.__cause__.headers.get("WWW-Authenticate", "")
            if not challenge or self._headers:
                raise
        self._headers = self._answer_to(challenge)
        with ask(url, {**headers, **self._headers}) as answer:
            yield answer

    def _answer_to(self, challenge: str) -> Mapping[str, str]:
        """What a registry wants to see: a name and a password, or a token that is asked for."""
        kind, _, rest = challenge.partition(" ")
        if kind.lower() == "basic":
            if not self._login:
                raise refused(self._base, 401)
            return authorization(self._login)
        said = dict(_CHALLENGE.findall(rest))
        realm = said.get("realm", "")
        if kind.lower() != "bearer" or not realm:
            raise MlspecError(f"{self._host} asks for what mlspec cannot give: {show(kind)}")
        try:
            check_redirect(self._base, realm)
        except ValueError:
            raise MlspecError(f"{self._host} names {show(realm)}, which is no address") from None
        query = {"scope": f"repository:{self._name}:pull"}
        if "service" in said:
            query["service"] = said["service"]
        login = authorization(self._login) if ":" in self._login else {}
        if self._login and not login:
            return authorization(self._login)
        with ask(f"{realm}?{urlencode(query)}", login) as answer:
            data = read_text(answer, MOST_TEXT, "the token")
        try:
            body = json.loads(data)
            return authorization(str(body.get("token") or body["access_token"]).replace(":", ""))
        except (ValueError, KeyError, AttributeError) as error:
            raise MlspecError(f"{self._host} gives no token") from error


def _login(host: str, file: str = "") -> str:
    """`user:password` for a registry, as `docker login` or `podman login` left it; or nothing."""
    home = Path.home()
    places = [file, os.environ.get("REGISTRY_AUTH_FILE", "")]
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        places.append(f"{runtime}/containers/auth.json")
    docker = os.environ.get("DOCKER_CONFIG") or str(home / ".docker")
    places.append(f"{docker}/config.json")
    for place in filter(None, places):
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            entry = json.loads(Path(place).read_bytes())["auths"][host]
            return base64.b64decode(entry["auth"]).decode()
    return ""
