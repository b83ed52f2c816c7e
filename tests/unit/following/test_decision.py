"""What the agent does: each commit once, in order, and nothing in a freeze."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mlspec.errors import MlspecError
from mlspec.following.decision import (
    LONGEST_PAUSE,
    MOST_STARTS,
    Branch,
    Choices,
    GiveUp,
    Observe,
    Try,
    decide,
    pause_after,
)
from mlspec.following.memory import (
    FILE,
    MOST_KEPT,
    Attempt,
    Ending,
    Memory,
    Rules,
    ending_of,
    keep_memory,
    load_memory,
)

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
START = Memory("origin", "main")


def attempt(commit: str, ending: Ending, parameters: str = "") -> Attempt:
    code = 0 if ending.good else 1
    return Attempt(commit, "Do", parameters, ending, "said", code, "2026-11-21T12:00:00Z", 1.5)


def after(*endings: tuple[str, Ending], parameters: str = "") -> Memory:
    memory = START
    for commit, ending in endings:
        memory = memory.after(attempt(commit, ending, parameters), left=())
    return memory


class TestDecide:
    def test_new_commits_are_tried_from_the_oldest(self) -> None:
        memory = after(("a", Ending.APPLIED))
        assert decide(memory, Branch("c", ("b", "c")), Choices(), NOW) == Try("b")
        memory = after(("a", Ending.APPLIED), ("b", Ending.FAILED))
        assert decide(memory, Branch("c", ("c",)), Choices(), NOW) == Try("c")

    @pytest.mark.parametrize("ending", list(Ending))
    def test_what_was_attempted_is_not_tried_again(self, ending: Ending) -> None:
        assert decide(after(("a", ending)), Branch("a", ()), Choices(), NOW) == Observe()

    @pytest.mark.parametrize("ending", [each for each in Ending if not each.good])
    def test_but_what_failed_is_when_told_or_with_other_parameters(self, ending: Ending) -> None:
        memory, branch = after(("a", ending)), Branch("a", ())
        assert decide(memory, branch, Choices(retry=True), NOW) == Try("a")
        assert decide(memory, branch, Choices(allow_delete=True), NOW) == Try("a")
        memory = after(("a", ending), parameters="allow-delete")
        assert decide(memory, branch, Choices(allow_delete=True), NOW) == Observe()
        assert decide(memory, Branch("b", ()), Choices(retry=True), NOW) == Observe()

    @pytest.mark.parametrize("choices", [Choices(retry=True), Choices(allow_delete=True)])
    def test_and_what_went_well_never(self, choices: Choices) -> None:
        memory = after(("a", Ending.APPLIED))
        assert decide(memory, Branch("a", ()), choices, NOW) == Observe()

    def test_a_remote_that_is_out_of_reach_leaves_what_was_applied_last(self) -> None:
        memory = after(("a", Ending.APPLIED))
        assert decide(memory, None, Choices(retry=True), NOW) == Observe()
        assert decide(memory, None, Choices(self_heal=True), NOW) == Observe(heal=True)
        memory = replace(memory, rules=Rules(self_heal=True))
        assert decide(memory, None, Choices(), NOW) == Observe(heal=True)

    def test_drift_is_mended_only_if_the_spec_or_a_flag_says_so(self) -> None:
        memory, branch = after(("a", Ending.APPLIED)), Branch("a", ())
        assert decide(memory, branch, Choices(self_heal=True), NOW) == Observe(heal=True)
        memory = replace(memory, rules=Rules(self_heal=True))
        assert decide(memory, branch, Choices(), NOW) == Observe(heal=True)

    def test_in_a_freeze_nothing_is_changed(self) -> None:
        rules = Rules(self_heal=True, freeze=("2026-11-21 to 2026-11-22",))
        memory = replace(after(("a", Ending.APPLIED)), rules=rules)
        end = datetime(2026, 11, 23, tzinfo=UTC)
        assert decide(memory, Branch("b", ("b",)), Choices(), NOW) == Observe(frozen=end)
        assert decide(memory, Branch("b", ("b",)), Choices(), end) == Try("b")

    def test_a_commit_whose_apply_never_ends_is_let_be(self) -> None:
        memory = replace(START, busy="a", starts=MOST_STARTS)
        assert decide(memory, Branch("b", ("a", "b")), Choices(), NOW) == GiveUp("a")
        assert decide(replace(memory, starts=1), Branch("a", ("a",)), Choices(), NOW) == Try("a")
        assert decide(memory, Branch("b", ("b",)), Choices(), NOW) == Try("b")

    def test_another_try_that_was_broken_off_is_taken_up(self) -> None:
        memory = replace(after(("a", Ending.FAILED)), busy="a", starts=1)
        assert decide(memory, Branch("a", ()), Choices(), NOW) == Try("a")

    def test_pauses_get_longer_and_end_somewhere(self) -> None:
        pauses = [pause_after(failures, 30) for failures in range(100)]
        assert pauses[:3] == [30, 60, 120]
        assert pauses == sorted(pauses)
        assert pauses[-1] == LONGEST_PAUSE
        assert pause_after(5, 3600) == 3600


class TestMemory:
    def test_what_is_kept_is_loaded(self, tmp_path: Path) -> None:
        memory = after(("a", Ending.APPLIED), ("b", Ending.REJECTED))
        memory = replace(memory, rules=Rules(True, ("Fri 16:00 to Mon 07:00",)), left=("x",))
        keep_memory(tmp_path, memory)
        assert load_memory(tmp_path, "origin", "main") == memory
        assert load_memory(tmp_path, "origin", "next") == Memory("origin", "next")

    @pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"format": 1}', '{"format": "1"}'])
    def test_a_file_of_another_kind_is_as_none(self, tmp_path: Path, text: str) -> None:
        (tmp_path / FILE).parent.mkdir()
        (tmp_path / FILE).write_text(text)
        assert load_memory(tmp_path, "origin", "main") == START

    def test_a_newer_one_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / FILE).parent.mkdir()
        (tmp_path / FILE).write_text('{"format": 2}')
        with pytest.raises(MlspecError, match="newer mlspec"):
            load_memory(tmp_path, "origin", "main")

    def test_a_refused_commit_leaves_the_checkout_and_what_was_applied(self) -> None:
        memory = after(("a", Ending.APPLIED), ("b", Ending.REFUSED), ("c", Ending.INVALID))
        assert (memory.tried, memory.at, memory.applied) == ("c", "a", "a")
        memory = memory.after(attempt("d", Ending.REJECTED), left=())
        assert (memory.tried, memory.at, memory.applied) == ("d", "d", "a")
        assert after(("a", Ending.INVALID)).at == "a", "there is nothing to go back to"

    def test_all_are_counted_and_the_last_are_kept(self) -> None:
        memory = after(*[(str(number), Ending.UNCHANGED) for number in range(MOST_KEPT + 5)])
        assert memory.ended == {"unchanged": MOST_KEPT + 5}
        assert len(memory.attempts) == MOST_KEPT

    @pytest.mark.parametrize(
        ("code", "ending"),
        [
            (0, Ending.APPLIED),
            (1, Ending.FAILED),
            (3, Ending.REJECTED),
            (6, Ending.ROLLED_BACK),
            (7, Ending.FAILED),
        ],
    )
    def test_exit_codes_of_apply_say_how_it_ended(self, code: int, ending: Ending) -> None:
        assert ending_of(code) is ending
