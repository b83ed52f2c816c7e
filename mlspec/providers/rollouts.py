"""Rollouts: a release that others serve beside goes through its steps; what comes of it is said.

The judging and the steps are those of :mod:`mlspec.rollouts`, the traffic is the target's.
"""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from urllib.parse import urlsplit

from mlspec.errors import MlspecError, RolledBack, Undecided
from mlspec.fingerprint import digest_of, trial_digest
from mlspec.plan import Action, Step
from mlspec.providers.context import Context, CutShort
from mlspec.providers.target import Release, RollingTarget, Running, Target
from mlspec.resources import DeploymentResource
from mlspec.rollouts.board import Board
from mlspec.rollouts.driver import Clock, Stopped, drive
from mlspec.rollouts.engine import Phase, State, Terms, load_step, make_terms
from mlspec.spec.models import Rollout
from mlspec.spec.quantities import write_share

TOLD_SECONDS = 10.0
"""How often what is seen is told, if nothing else happens."""


def deploy(
    step: Step, resource: DeploymentResource, release: Release, target: Target, context: Context
) -> Running:
    """Take a release into service: in steps, if the spec says so and another one serves.

    Going back to an earlier version is done at once, and so is what mends drift.
    """
    rollout, running = resource.deployment.rollout, target.observe(resource.name)
    one_port = resource.is_here or resource.kind == "ssh"  # both releases are behind it
    if (
        rollout is None
        or step.action is not Action.DEPLOY
        or running is None
        or running.status != "serving"
        or running.release == release.digest
        or (one_port and urlsplit(running.url).port != resource.port)
    ):
        # A cluster takes minutes, and so does an image or a host, in which others have their turns.
        waited = ("compose", "image", "sagemaker", "ssh")
        slow = resource.place.get("context") or resource.kind in waited
        with context.unlocked() if slow else nullcontext():
            return target.deploy(resource.name, release, resource.smoke)
    if not isinstance(target, RollingTarget):
        raise MlspecError(f"{resource.address}: targets of kind {resource.kind} have no rollouts")
    trial = trial_digest(release.digest, resource.smoke, resource.terms)
    trial = digest_of([trial, running.release])
    state = _roll_out(rollout, trial, running, resource, release, target, context)
    now = target.observe(resource.name)
    assert now is not None
    shown = state.verdict.detail if state.verdict else ""
    return replace(now, note=f"serves at {now.url}, after {rollout}: {shown}")


def _roll_out(
    rollout: Rollout,
    trial: str,
    running: Running,
    resource: DeploymentResource,
    release: Release,
    target: RollingTarget,
    context: Context,
) -> State:
    """The last state, promoted; raises :class:`RolledBack` for one that is aborted.

    Others have their turns meanwhile. One that goes on where an earlier one was killed begins at
    its step, and one that had been aborted, which could not be recorded, is not tried again.
    """
    terms, board = make_terms(rollout), Board(context.root, f"{resource.name}@{resource.target}")
    about = {"model": release.model, "version": release.version, "release": release.digest}
    teller = _Teller(partial(context.on_line, resource.address), terms)
    with context.unlocked(), board.held():
        left = board.left_of(trial) or {}
        if left.get("phase") == Phase.ABORTED:
            if left["refused"]:
                raise _rolled_back(resource, release, str(left["reason"]), refused=True)
            left = {}

        def query() -> float | None:
            if terms.limits.query is None:
                return None
            from mlspec.rollouts.query import ask  # an HTTP client, which few need

            return ask(terms.limits.query, release.version, running.version)

        def show(state: State) -> None:
            board.show(trial, terms, state, about)
            teller.tell(state)

        with target.try_out(
            resource.name, release, resource.smoke, splits=rollout.splits
        ) as candidate:
            try:
                state = drive(
                    terms,
                    candidate,
                    Clock(sleep=context.stop.asked.wait),
                    show=show,
                    order=board.take_order,
                    query=query,
                    step=load_step(left),
                )
            except Stopped:
                raise CutShort from None
    if state.phase is Phase.ABORTED:
        share = write_share(terms.shares[state.step])
        reason = f"{state.reason} (at {share} of requests)"
        raise _rolled_back(resource, release, reason, refused=state.refused)
    return state


def _rolled_back(
    resource: DeploymentResource, release: Release, reason: str, *, refused: bool
) -> RolledBack:
    message = (
        f"{resource.address}: version {release.version} of {release.model} went back: {reason}"
    )
    if refused:
        return RolledBack(message, hint="what served before has all requests; mend it, and apply")
    return Undecided(message, hint="the release is not to blame; the next apply tries it again")


class _Teller:
    """Says in lines what a rollout does: each change at once, and now and then what is seen."""

    def __init__(self, say: partial[None], terms: Terms) -> None:
        self._say = say
        self._terms = terms
        self._told = ("", -1)
        self._when = -TOLD_SECONDS

    def tell(self, state: State) -> None:
        now, about = time.monotonic(), (state.phase.value, state.step)
        if about == self._told and now - self._when < TOLD_SECONDS:
            return
        self._told, self._when = about, now
        share = 1.0 if state.phase is Phase.PROMOTED else self._terms.shares[state.step]
        detail = state.reason or (state.verdict.detail if state.verdict else "")
        line = f"{self._terms.strategy} {write_share(share)} {state.phase.value}"
        self._say(f"{line}: {detail}" if detail else line)
