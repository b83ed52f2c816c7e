"""The side of mlspec: sends jobs to a Dask cluster, follows them, and asks what its workers lack.

Comes in: a :class:`~mlspec.executors.messages.Request`. Goes out: an answer. Dask chooses the
worker, and runs a job again where its worker died; how often is the scheduler's own setting
(`distributed.scheduler.allowed-failures`). A worker that cannot do a job says why, and another one
is asked.
"""

from __future__ import annotations

import contextlib
import json
import logging
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError
from typing import Any

from distributed import Client, Future, KilledWorker
from distributed import __version__ as dask_version

from mlspec.errors import MlspecError, RemoteUnreachable
from mlspec.executors import Cause, Outcome, Stop
from mlspec.executors.messages import (
    Answer,
    Check,
    Findings,
    Message,
    Needs,
    Question,
    Request,
    Trouble,
)
from mlspec.spec.models import Executor as Section

CONNECT = 8.0
"""Seconds for the scheduler to answer."""
PATIENCE = 60.0
"""Seconds to wait for a worker where there is none: a cluster may be about to grow."""
EXAMINATION = 90.0
"""Seconds for a worker to say what it lacks."""
MOST_REFUSALS = 5
"""Workers that are asked to do a job before it is given up."""
POLL = 0.2
LOOK = 2.0
"""Seconds for which the list of workers is believed."""

# Text, because a worker may have another Python or no mlspec.
_CALL = "exec(text, names := dict(given)) or names['answer']"
_TEXT = """
import json, platform
try:
    from mlspec.executors.dask.task import run
except ImportError as error:
    from distributed import get_worker
    answer = json.dumps({
        "absent": str(error), "python": platform.python_version(), "worker": get_worker().address,
    })
else:
    answer = run(asked, key, topic)
"""


class DaskExecutor:
    """One cluster; used from many threads."""

    def __init__(self, name: str, section: Section) -> None:
        self._name = name
        self._address = section.address
        self._client: Client | None = None
        self._unreachable: MlspecError | None = None
        self._turn = threading.Lock()
        self._topic = f"mlspec-{uuid.uuid4().hex}"
        self._listeners: dict[str, Callable[[str], None]] = {}
        self._workers: Mapping[str, Mapping[str, Any]] = {}
        self._looked = float("-inf")

    def run(self, request: Request, on_line: Callable[[str], None], stop: Stop) -> Answer:
        """Have a worker do it; raises what is no worker's fault."""
        client = self._connected()
        refused: list[str] = []
        while True:
            answer = self._run_once(client, request, on_line, stop, refused)
            trouble = answer.trouble
            if trouble is None or not trouble.elsewhere:
                return answer
            refused.append(answer.worker)
            others = self._look(client, anew=True).keys() - refused
            if not others or len(refused) >= MOST_REFUSALS:
                return answer
            on_line(f"{answer.worker}: {trouble.message}; trying another worker")

    def inspect(self, question: Question) -> Sequence[Findings]:
        """What every worker has and lacks."""
        client = self._connected()
        workers = self._look(client, anew=True)
        if not workers:
            raise MlspecError(f"the cluster {self._name} has no worker", hint=_START_ONE)
        asked = _text("question", question)
        futures = {address: self._submit(client, asked, [address]) for address in workers}
        deadline = time.monotonic() + EXAMINATION
        return [
            self._found(question, address, workers[address], future, deadline)
            for address, future in futures.items()
        ]

    def close(self) -> None:
        """Leave the cluster; it ends what runs for this client."""
        with self._turn:
            client, self._client = self._client, None
            self._unreachable = MlspecError(f"the cluster {self._name} was left")
        if client is not None:
            with contextlib.suppress(Exception):
                client.close(timeout=CONNECT)

    # The cluster ----------------------------------------------------------------------------------

    def _connected(self) -> Client:
        """The connection; a scheduler that did not answer once is not asked again."""
        with self._turn:
            if self._unreachable is not None:
                raise self._unreachable
            if self._client is None:
                try:
                    self._client = self._connect()
                except MlspecError as error:
                    self._unreachable = error
                    raise
            return self._client

    def _connect(self) -> Client:
        _silence()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # different versions: `mlspec doctor` tells
                client = Client(self._address, timeout=CONNECT, set_as_default=False, name="mlspec")
        except (OSError, TimeoutError) as error:
            raise RemoteUnreachable(
                f"the scheduler of the cluster {self._name} does not answer at {self._address}",
                hint=f"start it, or mend executors.{self._name}.address",
            ) from error
        except (ValueError, TypeError, ImportError) as error:
            raise MlspecError(
                f"executors.{self._name}.address: {self._address} cannot be used: {error}",
                hint="write the address that the scheduler prints, such as tcp://10.0.0.5:8786",
            ) from error
        client.subscribe_topic(self._topic, self._hear)
        return client

    def _look(self, client: Client, *, anew: bool = False) -> Mapping[str, Mapping[str, Any]]:
        """The workers by address, as they were at most a moment ago."""
        with self._turn:
            if self._unreachable is not None:
                raise self._unreachable
            if anew or time.monotonic() - self._looked > LOOK:
                try:
                    self._workers = dict(client.scheduler_info()["workers"])
                except Exception as error:
                    self._unreachable = self._gone()
                    raise self._unreachable from error
                self._looked = time.monotonic()
            return self._workers

    def _gone(self) -> RemoteUnreachable:
        return RemoteUnreachable(
            f"the scheduler of the cluster {self._name} at {self._address} does not answer any "
            "more",
            hint="start it again and apply again: what was recorded is not run again",
        )

    def _hear(self, event: tuple[float, Mapping[str, Any]]) -> None:
        _, message = event
        listener = self._listeners.get(message["key"])
        for line in message["lines"] if listener is not None else ():
            assert listener is not None
            listener(line)

    # One job --------------------------------------------------------------------------------------

    def _run_once(
        self,
        client: Client,
        request: Request,
        on_line: Callable[[str], None],
        stop: Stop,
        refused: Sequence[str],
    ) -> Answer:
        workers = self._look(client)
        wants = _resources(request.needs, workers)
        if workers and (lack := _lack(wants, workers)):
            raise MlspecError(
                f"{request.address} was not run: no worker of the cluster {self._name} has {lack}",
                hint="start a worker that has it (dask worker --resources), or lower the "
                "stage's `resources`",
            )
        allowed = sorted(workers.keys() - refused) if refused else None
        key = f"mlspec-{uuid.uuid4().hex}"
        self._listeners[key] = on_line
        try:
            future = self._submit(client, _text("request", request), allowed, wants, key)
            if not self._wait(client, future, request.address, wants, allowed, stop):
                return Answer(outcome=Outcome(Cause.INTERRUPTED, -2, 0.0, "interrupted"))
            said = self._result(future, request.address)
        finally:
            self._listeners.pop(key, None)
        if "absent" in said:
            message = f"mlspec cannot be imported there: {said['absent']}"
            trouble = Trouble(message=message, hint=_install(), elsewhere=True)
            return Answer(worker=said["worker"], trouble=trouble)
        return Answer.model_validate(said)

    def _submit(
        self,
        client: Client,
        asked: str,
        workers: Sequence[str] | None = None,
        resources: Mapping[str, float] | None = None,
        key: str | None = None,
    ) -> Future:
        key = key or f"mlspec-{uuid.uuid4().hex}"
        given = {"asked": asked, "key": key, "topic": self._topic}
        try:
            return client.submit(
                eval,
                _CALL,
                {"text": _TEXT, "given": given},
                key=key,
                pure=False,
                workers=workers,
                resources=dict(resources) if resources else None,
            )
        except Exception as error:  # the connection broke just now
            raise self._gone() from error

    def _wait(
        self,
        client: Client,
        future: Future,
        address: str,
        wants: Mapping[str, float],
        allowed: Sequence[str] | None,
        stop: Stop,
    ) -> bool:
        """Wait until it is done; false if `stop` came first. Raises when there is no worker."""
        done = threading.Event()
        future.add_done_callback(lambda _: done.set())
        seen = time.monotonic()
        while not done.wait(POLL):
            if stop.asked.is_set():
                with contextlib.suppress(Exception):
                    future.cancel()
                return False
            if client.status != "running":
                raise self._gone()
            workers = self._look(client)
            able = workers.keys() if allowed is None else workers.keys() & set(allowed)
            if not _lack(wants, {each: workers[each] for each in able}):
                seen = time.monotonic()
            if time.monotonic() - seen > PATIENCE:
                with contextlib.suppress(Exception):
                    future.cancel()
                raise MlspecError(
                    f"{address} was not run: the cluster {self._name} has had no worker for it "
                    f"for {PATIENCE:g} s",
                    hint=_START_ONE,
                )
        return True

    def _result(self, future: Future, address: str) -> dict[str, Any]:
        try:
            said: dict[str, Any] = json.loads(future.result(timeout=CONNECT))
        except KilledWorker as error:
            raise MlspecError(
                f"{address} was given up: {error.allowed_failures + 1} workers of the cluster "
                f"{self._name} died with it, the last at {error.last_worker.address}",
                hint="look at the workers' logs: it may need more memory than they have",
            ) from error
        except (CancelledError, OSError, TimeoutError) as error:
            raise self._gone() from error
        except Exception as error:
            raise MlspecError(
                f"a worker of the cluster {self._name} cannot do {address}: "
                f"{type(error).__name__}: {error}",
                hint=f"`mlspec doctor --executor {self._name}` tells what the workers lack",
            ) from error
        finally:
            with contextlib.suppress(Exception):
                future.release()
        return said

    def _found(
        self,
        question: Question,
        address: str,
        worker: Mapping[str, Any],
        future: Future,
        deadline: float,
    ) -> Findings:
        about = _about(worker)
        try:
            said = json.loads(future.result(timeout=max(0.1, deadline - time.monotonic())))
        except Exception as error:
            why = "it is busy, or does not answer" if isinstance(error, TimeoutError) else error
            with contextlib.suppress(Exception):
                future.cancel()
            check = Check(name="answer", ok=False, detail=str(why), hint="look at its own log")
            return Findings(worker=address, checks=(check, *about))
        if "absent" in said:
            python, wanted = said["python"], question.python
            fits = not wanted or f"{python}.".startswith(f"{wanted}.")
            detail = python if fits else f"{python}, and python.version is {wanted}"
            hint = "" if fits else f"start it within an environment with Python {wanted}"
            here = Check(name="python", ok=fits, detail=detail, hint=hint)
            lacks = Check(name="mlspec", ok=False, detail=said["absent"], hint=_install())
            return Findings(worker=address, checks=(here, lacks, *about))
        if "checks" not in said:
            trouble = Answer.model_validate(said).trouble or Trouble(message="no answer")
            check = Check(name="answer", ok=False, detail=trouble.message, hint=trouble.hint)
            return Findings(worker=address, checks=(check, *about))
        checks = Findings.model_validate(said).checks
        return Findings(worker=address, checks=(*checks, *about))


def _silence() -> None:
    """Errors are said once, by us."""
    for name in ("distributed", "tornado", "asyncio", *logging.root.manager.loggerDict):
        if name.partition(".")[0] in ("distributed", "tornado", "asyncio"):
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)


_START_ONE = "start one: dask worker ADDRESS --nthreads 1"


def _install() -> str:
    from mlspec import __version__

    return f'install it where the worker runs: pip install "mlspec[dask]=={__version__}"'


def _text(kind: str, message: Message) -> str:
    return json.dumps({kind: message.model_dump(mode="json")})


def _resources(needs: Needs, workers: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """What is asked of Dask: always `GPU`; `CPU` and `MEMORY` where workers declare them."""
    declared = {name for worker in workers.values() for name in worker["resources"]}
    wants = {"GPU": float(needs.gpus)} if needs.gpus else {}
    if "CPU" in declared:
        wants["CPU"] = needs.cpus
    if "MEMORY" in declared and needs.memory is not None:
        wants["MEMORY"] = needs.memory
    return wants


def _lack(wants: Mapping[str, float], workers: Mapping[str, Mapping[str, Any]]) -> str:
    """What no worker has; empty if one has it all."""
    for worker in workers.values():
        if all(worker["resources"].get(name, 0) >= count for name, count in wants.items()):
            return ""
    return ", ".join(f"{name}={count:g}" for name, count in wants.items()) or "room"


def _about(worker: Mapping[str, Any]) -> tuple[Check, ...]:
    """What the scheduler knows of a worker."""
    declared = ", ".join(f"{name}={count:g}" for name, count in worker["resources"].items())
    threads = f"{worker['nthreads']} jobs at a time"
    detail = f"{threads}; declares {declared or 'no resources'}"
    return (Check(name="dask", ok=True, detail=f"{detail}; {dask_version} here"),)
