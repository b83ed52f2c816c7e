"""A candidate beside the release that serves, on this machine: a :class:`mlspec.rollouts` trial.

Comes in: the line to the supervisor, on which the candidate was started. The supervisor returns to
what serves when that line is closed, so a command that is killed leaves nothing half done.
"""

from __future__ import annotations

import http.client
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from mlspec.errors import MlspecError
from mlspec.providers.local.smoke import PrivateConnection
from mlspec.rollouts.captures import Captures
from mlspec.rollouts.counts import Counts, parse_counts
from mlspec.rollouts.driver import Reading, Told

METRICS_SECONDS = 5.0


class LocalTrial:
    """Talks to the supervisor by `ask`, and to the services by their private sockets.

    `versions` are those of champion and candidate. With `captures` these tell of predictions that
    are numbers, instead of the histogram. `headers` are those of mlspec's own requests.
    """

    def __init__(
        self,
        ask: Callable[..., dict[str, Any]],
        where: str,
        versions: tuple[int, int],
        captures: Captures | None,
        headers: Mapping[str, str],
    ) -> None:
        self._ask = ask
        self._where = where
        self._versions = versions
        self._captures = captures
        self._headers = headers
        self._told = Told()

    def weigh(self, share: float) -> None:
        self._ask(do="weigh", share=share)

    def read(self) -> Reading:
        watched = self._ask(do="watch")
        if watched["lost"]:
            raise MlspecError(
                f"{self._where}: {watched['lost']}; what served before has all requests again",
                hint="see the log of the supervisor: `mlspec logs --all`",
            )
        both = (watched["champion"], watched["candidate"])
        self._told.take(*(read_counts(private, self._headers) for private in both))
        champion, candidate = self._told.champion, self._told.candidate
        if self._captures is not None:
            self._captures.look()
            champion, candidate = (
                replace(counts, values=self._captures.counts(version))
                for counts, version in zip((champion, candidate), self._versions, strict=True)
            )
        return Reading(champion, candidate, self._trouble(watched["crashes"]))

    def _trouble(self, crashes: int) -> str:
        if crashes:
            return f"{crashes} of its processes ended by themselves"
        return self._told.trouble

    def promote(self) -> None:
        self._ask(do="activate")
        self._ask(do="settle")

    def abort(self) -> None:
        self._ask(do="discard")


def read_counts(private: str, headers: Mapping[str, str]) -> Counts | None:
    """What a service has counted; nothing if it does not say."""
    connection = PrivateConnection(private, METRICS_SECONDS)
    try:
        connection.request("GET", "/metrics", headers=dict(headers))
        response = connection.getresponse()
        text = response.read().decode(errors="replace")
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    return parse_counts(text) if response.status == http.client.OK else None
