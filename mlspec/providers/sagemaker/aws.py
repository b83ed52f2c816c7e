"""Every call of AWS: an operation and its values in, data out, problems in words.

boto3 finds credentials by its own rules; the spec names a profile of its settings, or none. What a
message of AWS says is cut, since that of a signature that does not match quotes the request.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from mlspec.errors import MlspecError, RemoteUnreachable

MAX_TEXT = 300
LOGIN = "`aws sts get-caller-identity` tells whom AWS takes you for"
_NO_LOGIN = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "IncompleteSignature",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "MissingAuthenticationToken",
        "OptInRequired",
        "RequestExpired",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
_DENIED = frozenset({"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"})
_BUSY = frozenset({"ServiceUnavailable", "Throttling", "ThrottlingException", "InternalFailure"})
_GONE = ("could not find", "does not exist", "not found")
_THERE = ("already exist",)


class Refused(MlspecError):
    """AWS said no."""


class Gone(Refused):
    """What was asked for is not there."""


class There(Refused):
    """What was to be made is there already."""


@dataclass(slots=True)
class Aws:
    """AWS in one region, as whom a profile says, or as whom boto3 finds."""

    region: str
    profile: str | None = None
    _clients: dict[str, Any] = field(default_factory=dict)
    _session: Any = None

    @property
    def where(self) -> str:
        return f"AWS, {self.region}"

    def call(self, service: str, operation: str, **values: Any) -> Mapping[str, Any]:
        """What an operation answers; :class:`Refused`, or :class:`RemoteUnreachable`."""
        return next(self._answers(service, operation, values, pages=False))

    def pages(self, service: str, operation: str, **values: Any) -> Iterator[Mapping[str, Any]]:
        """All pages of what an operation lists."""
        return self._answers(service, operation, values, pages=True)

    def _answers(
        self, service: str, operation: str, values: Mapping[str, Any], *, pages: bool
    ) -> Iterator[Mapping[str, Any]]:
        try:
            from botocore import exceptions  # many modules, and few need it
        except ImportError:
            raise RemoteUnreachable(
                f"{self.where}: boto3 is not installed here",
                hint="install mlspec with it: `pip install 'mlspec[sagemaker]'`",
            ) from None
        try:
            client = self._client(service)
            if pages:
                yield from client.get_paginator(operation).paginate(**values)
            else:
                yield getattr(client, operation)(**values)
        except exceptions.ClientError as error:
            raise self._problem(operation, error.response.get("Error", {})) from None
        except (exceptions.ProfileNotFound, exceptions.ConfigParseError) as error:
            raise RemoteUnreachable(
                f"{self.where}: {_cut(str(error))}",
                hint="`aws configure list-profiles` has the profiles; targets.NAME.profile is one",
            ) from None
        except (
            exceptions.NoCredentialsError,
            exceptions.PartialCredentialsError,
            exceptions.CredentialRetrievalError,
            exceptions.TokenRetrievalError,
            exceptions.SSOError,
        ) as error:
            raise RemoteUnreachable(
                f"{self.where}: there are no credentials: {_cut(str(error))}",
                hint="log in, or name a profile: AWS_PROFILE, or `profile` of the target",
            ) from None
        except (exceptions.HTTPClientError, exceptions.ConnectionError) as error:
            raise RemoteUnreachable(
                f"{self.where} does not answer: {_cut(str(error))}",
                hint="is the name of the region right, and is there a way to the network?",
            ) from None
        except exceptions.BotoCoreError as error:
            raise Refused(
                f"{self.where}: `{operation}` cannot be asked: {_cut(str(error))}"
            ) from None

    def _client(self, service: str) -> Any:
        if service not in self._clients:
            import boto3
            from botocore.config import Config

            if self._session is None:
                self._session = boto3.Session(profile_name=self.profile, region_name=self.region)
            settings = Config(
                connect_timeout=10, read_timeout=60, retries={"mode": "standard", "max_attempts": 4}
            )
            self._clients[service] = self._session.client(service, config=settings)
        return self._clients[service]

    def _problem(self, operation: str, error: Mapping[str, Any]) -> MlspecError:
        code, said = str(error.get("Code", "")), _cut(str(error.get("Message", "")))
        low = said.lower()
        if code in _NO_LOGIN:
            return RemoteUnreachable(
                f"{self.where}: AWS does not take these credentials ({code})", hint=LOGIN
            )
        if code in _DENIED:
            hint = f"whoever you are there must be allowed to do that; {LOGIN}"
            return Refused(f"{self.where}: `{operation}` is not allowed: {said}", hint=hint)
        if code in _BUSY:
            return RemoteUnreachable(f"{self.where}: `{operation}`: {code}: {said}")
        if code.startswith("ResourceNotFound") or any(words in low for words in _GONE):
            return Gone(f"{self.where}: `{operation}`: {said}")
        if any(words in low for words in _THERE):
            return There(f"{self.where}: `{operation}`: {said}")
        hint = ""
        if code == "ResourceLimitExceeded":
            hint = "ask AWS for a higher quota, or take another type of instance"
        return Refused(f"{self.where}: `{operation}` was refused: {code}: {said}", hint=hint)


def _cut(text: str) -> str:
    line = text.strip().splitlines()[0] if text.strip() else ""
    return line if len(line) <= MAX_TEXT else f"{line[:MAX_TEXT]}…"
