"""`python tests/crash/sweep.py`: an apply, with a fault at each call that changes something.

Exit code 1 if anything is torn, does not converge in one more apply, or happens twice.
"""

# ruff: noqa: T201
from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from oracle import State, check_fault, check_rerun, load_state
from points import APPLY, Point, can_strace, hit, namespace, record_points
from sandbox import SCENARIOS, Sandbox, make_sandbox


@dataclass(frozen=True)
class Start:
    """A sandbox, its state, and the one that an apply without a fault comes to."""

    sandbox: Sandbox
    before: State
    after: State


@dataclass(frozen=True)
class Result:
    """What came of a point: where it hit, if it did, and what was wrong."""

    point: Point
    where: str
    wrong: tuple[str, ...]


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    if not can_strace():
        print("strace is not installed: nothing was swept")
        return 0
    if not namespace():
        print("no namespace of processes may be made here: whole trees are not ended")
    with tempfile.TemporaryDirectory(prefix="mlspec-crash-") as folder:
        place = Path(folder)
        starts = {scenario: _start(place / scenario, scenario) for scenario in options.scenario}
        points = [
            point
            for scenario, start in starts.items()
            for point in record_points(start.sandbox, scenario)
        ]
        total = len(points)
        points = [point for point in points if options.only in str(point)]
        chosen = choose(points, options.points or len(points), options.seed)
        print(f"{total} points recorded, {len(chosen)} tried; seed {options.seed}", flush=True)
        with ThreadPoolExecutor(options.jobs) as pool:
            results = []
            for number, result in enumerate(
                pool.map(lambda point: run_point(point, starts[point.scenario], place), chosen)
            ):
                results.append(result)
                for problem in result.wrong:
                    print(f"WRONG {result.point}\n  at {result.where}\n  {problem}", flush=True)
                if number % 100 == 99:
                    print(f"... {number + 1}", flush=True)
    print(render_table(results))
    return int(any(result.wrong for result in results))


def run_point(point: Point, start: Start, place: Path) -> Result:
    """A copy of the sandbox, a fault, a look, an apply, another look."""
    folder = Path(tempfile.mkdtemp(dir=place))
    try:
        sandbox = start.sandbox.copy(folder / "box")
        done, where = hit(point, sandbox)
        wrong = [*check_fault(sandbox, done, start.before, start.after)]
        left = load_state(sandbox)
        again = sandbox.run(APPLY)
        wrong += check_rerun(sandbox, again, left, start.after)
    except Exception as error:  # what the oracle cannot read is the worst that it can find
        return Result(point, "", (f"{type(error).__name__}: {error}",))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return Result(point, where, tuple(wrong))


def choose(points: Sequence[Point], count: int, seed: int) -> list[Point]:
    """So many points, by turns of every kind."""
    chance = random.Random(seed)
    kinds: dict[tuple[str, ...], list[Point]] = defaultdict(list)
    for point in points:
        kinds[point.scenario, *point.kind].append(point)
    for found in kinds.values():
        chance.shuffle(found)
    groups = [*kinds.values()]
    chance.shuffle(groups)
    return list(_by_turns(groups))[:count]


def render_table(results: Iterable[Result]) -> str:
    """A row for each call, a column for each fault: points that hit, and how many went wrong."""
    hits: Counter[tuple[str, str]] = Counter()
    wrong: Counter[tuple[str, str]] = Counter()
    missed = 0
    for result in results:
        if result.where or result.wrong:
            hits[result.point.kind] += 1
            wrong[result.point.kind] += bool(result.wrong)
        else:
            missed += 1
    calls, faults = (sorted({kind[part] for kind in hits}) for part in (0, 1))
    lines = ["  ".join([f"{'':16}", *(f"{fault:>10}" for fault in faults)])]
    for call in calls:
        cells = (_cell(hits[call, fault], wrong[call, fault]) for fault in faults)
        lines.append("  ".join([f"{call:16}", *(f"{cell:>10}" for cell in cells)]))
    lines.append(f"{hits.total()} points hit, {missed} not come to, {wrong.total()} wrong")
    return "\n".join(lines)


def _cell(hits: int, wrong: int) -> str:
    return f"{hits} ({wrong} !)" if wrong else str(hits or "")


def _by_turns(groups: Sequence[Sequence[Point]]) -> Iterator[Point]:
    for turn in range(max(map(len, groups), default=0)):
        yield from (group[turn] for group in groups if turn < len(group))


def _start(place: Path, scenario: str) -> Start:
    sandbox = make_sandbox(place, scenario)
    clean = sandbox.copy(place.with_name(f"{scenario}-clean"))
    clean.check(*APPLY)
    return Start(sandbox, load_state(sandbox), load_state(clean))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=0, help="how many; all by default")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="points whose line has these words")
    parser.add_argument("--scenario", nargs="+", choices=SCENARIOS, default=SCENARIOS)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
