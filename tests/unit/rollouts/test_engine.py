"""What a rollout does next: steps, waiting, orders and ends, with a clock that is only numbers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mlspec.rollouts.engine import Order, Phase, Seen, State, Terms, advance, begin, make_terms
from mlspec.rollouts.judge import Answer, Finding, Limits, Verdict
from mlspec.spec.models import Rollout

TERMS = Terms("canary", (0.1, 0.5), bake=60, wait=600)


def seen(
    result: str, trouble: str = "", order: Order | None = None, *, shared: bool = False
) -> Seen:
    answer = Answer(result)
    finding = Finding("error_rate", answer, f"it is {result}", 10, shared=shared)
    return Seen(Verdict(answer, (finding,)), trouble, order)


def test_steps_end_when_they_are_baked_and_good() -> None:
    state = begin(TERMS, 1000)
    state = advance(TERMS, state, 1059, seen("pass"))
    assert (state.phase, state.step) == (Phase.BAKING, 0)
    state = advance(TERMS, state, 1060, seen("pass"))
    assert (state.phase, state.step, state.since) == (Phase.BAKING, 1, 1060)
    state = advance(TERMS, state, 1119, seen("pass"))
    assert not state.ended
    state = advance(TERMS, state, 1120, seen("pass"))
    assert state.phase is Phase.PROMOTED
    assert advance(TERMS, state, 9999, seen("fail")) is state


def test_what_is_in_doubt_waits_and_then_goes_back_without_blame() -> None:
    state = begin(TERMS, 0)
    for now in (60, 300, 659):
        state = advance(TERMS, state, now, seen("inconclusive"))
        assert (state.phase, state.step) == (Phase.BAKING, 0)
    state = advance(TERMS, state, 660, seen("inconclusive"))
    assert (state.phase, state.refused) == (Phase.ABORTED, False)
    assert state.reason == "it stayed in doubt: it is inconclusive"


def test_without_a_limit_it_waits_for_ever() -> None:
    terms = Terms("canary", (0.1,), bake=60)
    state = advance(terms, begin(terms, 0), 10**9, seen("inconclusive"))
    assert state.phase is Phase.BAKING


def test_a_broken_limit_aborts_at_once() -> None:
    state = advance(TERMS, begin(TERMS, 0), 1, seen("fail"))
    assert (state.phase, state.refused, state.reason) == (Phase.ABORTED, True, "it is fail")
    assert not advance(TERMS, begin(TERMS, 0), 1, seen("fail", shared=True)).refused


def test_a_candidate_that_is_not_well_aborts_at_once() -> None:
    state = advance(TERMS, begin(TERMS, 0), 1, seen("pass", "a worker ended"))
    assert (state.phase, state.refused, state.reason) == (Phase.ABORTED, True, "a worker ended")


def test_a_pause_is_not_baked_and_still_judged() -> None:
    state = advance(TERMS, begin(TERMS, 0), 50, seen("pass", order=Order.PAUSE))
    assert state.phase is Phase.PAUSED
    state = advance(TERMS, state, 500, seen("pass"))
    assert state.phase is Phase.PAUSED
    assert advance(TERMS, state, 600, seen("fail")).phase is Phase.ABORTED
    state = advance(TERMS, state, 1050, seen("pass", order=Order.RESUME))
    assert (state.phase, state.step, state.since) == (Phase.BAKING, 0, 1000)
    assert advance(TERMS, state, 1060, seen("pass")).step == 1


def test_an_order_to_abort() -> None:
    state = advance(TERMS, begin(TERMS, 0), 1, seen("inconclusive", order=Order.ABORT))
    assert (state.phase, state.refused) == (Phase.ABORTED, True)
    assert state.reason == "it was aborted by hand"


def test_terms_of_a_spec() -> None:
    asked = {"error_rate": "1%", "latency_p99": "100ms", "prediction_drift": 0.2}
    canary = Rollout.model_validate(
        {
            "strategy": "canary",
            "steps": ("10%", "50%"),
            "bake": "2m",
            "min_requests": 7,
            "abort_if": asked,
        }
    )
    limits = Limits(0.01, {0.99: 0.1}, 0.2, least=7)
    assert make_terms(canary) == Terms("canary", (0.1, 0.5), 120, None, limits)
    assert str(canary) == "canary: 10% → 50% → 100%, bake 2m"
    assert make_terms(Rollout(strategy="blue-green")).shares == (1.0,)


looks = st.lists(
    st.tuples(
        st.floats(0, 1000),
        st.sampled_from(["pass", "fail", "inconclusive"]),
        st.sampled_from(["", "", "", "ill"]),
        st.sampled_from([None, None, *Order]),
    )
)


@given(looks)
def test_whatever_is_seen_a_promotion_was_earned(
    looks: list[tuple[float, str, str, Order | None]],
) -> None:
    """Steps only rise, one at a time; only a verdict that passes moves on; an end is an end."""
    now, state = 0.0, begin(TERMS, 0)
    for wait, result, trouble, order in looks:
        now += wait
        before: State = state
        state = advance(TERMS, state, now, seen(result, trouble, order))
        if before.ended:
            assert state is before
            continue
        moved = state.step != before.step or state.phase is Phase.PROMOTED
        if moved:
            assert state.step in (before.step, before.step + 1)
            assert now - before.since >= TERMS.bake
            assert (result, trouble) == ("pass", "")
            assert order is not Order.ABORT
        if result == "fail" or trouble or order is Order.ABORT:
            assert state.phase is Phase.ABORTED
            assert state.reason


def test_an_earlier_try_goes_on_at_its_step() -> None:
    assert begin(TERMS, 0, 1).step == 1
    assert begin(TERMS, 0, 7).step == 1
    assert begin(TERMS, 0, -1).step == 0
