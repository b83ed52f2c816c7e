"""`python tests/crash/sweep.py`: an apply, with a fault at each call that changes something.

Exit code 1 if anything is torn, does not converge in one more apply, or happens twice.
With `--layer calls` these are calls of the system, with `failpoints` those of mlspec; both without.
"""

# ruff: noqa: T201
from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from oracle import State, check_fault, check_rerun, is_killed, load_state
from points import APPLY, KILLS, Point, can_strace, hit, namespace, record_failpoints, record_points
from sandbox import FAULTY, SCENARIOS, Sandbox, make_sandbox

LAYERS = {"calls": record_points, "failpoints": record_failpoints}


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
    layers = [layer for layer in options.layer if layer != "calls" or can_strace()]
    if len(layers) < len(options.layer):
        print("strace is not installed: calls of the system are not swept")
    elif "calls" in layers and not namespace():
        print("no namespace of processes may be made here: whole trees are not ended")
    tables = []
    wrong = 0
    with tempfile.TemporaryDirectory(prefix="mlspec-crash-") as folder:
        place = Path(folder)
        starts = {scenario: make_start(place / scenario, scenario) for scenario in options.scenario}
        for layer in layers:
            results, seconds = _sweep(layer, starts, place, options)
            table = render_table(results)
            tables.append(f"{table}\n{seconds * options.jobs / max(len(results), 1):.1f} s a point")
            print(tables[-1], flush=True)
            wrong += sum(bool(result.wrong) for result in results)
    if options.report:
        options.report.parent.mkdir(parents=True, exist_ok=True)
        pairs = zip(layers, tables, strict=True)
        blocks = (f"## {layer}\n\n```\n{table}\n```\n" for layer, table in pairs)
        options.report.write_text("# The crash sweep\n\n" + "\n".join(blocks))
    return int(wrong > 0)


def _sweep(
    layer: str, starts: Mapping[str, Start], place: Path, options: argparse.Namespace
) -> tuple[list[Result], float]:
    """What came of the points that are chosen, and how many seconds it took."""
    points = [
        point
        for scenario, start in starts.items()
        for point in LAYERS[layer](start.sandbox, scenario)
    ]
    total = len(points)
    points = [point for point in points if options.only in str(point)]
    if options.each and layer == "failpoints":
        chosen = choose_each(points, options.seed)
    else:
        chosen = choose(points, options.points or len(points), options.seed)
    print(f"{layer}: {total} points, {len(chosen)} tried; seed {options.seed}", flush=True)
    kills = [point for point in points if point.fault in KILLS]
    chance = random.Random(options.seed)
    tries = [
        (point, chance.choice([each for each in kills if each.scenario == point.scenario]))
        if options.twice
        else (point,)
        for point in chosen
    ]
    began = time.monotonic()
    results = []
    with ThreadPoolExecutor(options.jobs) as pool:
        for result in pool.map(
            lambda each: run_points(each, starts[each[0].scenario], place), tries
        ):
            results.append(result)
            for problem in result.wrong:
                print(f"WRONG {result.point}\n  at {result.where}\n  {problem}", flush=True)
            if len(results) % 100 == 0:
                print(f"... {len(results)}", flush=True)
    return results, time.monotonic() - began


def run_points(points: Sequence[Point], start: Start, place: Path) -> Result:
    """A copy of the sandbox, a fault, a look, perhaps another fault, an apply, another look."""
    folder = Path(tempfile.mkdtemp(dir=place))
    places: list[str] = []
    wrong: list[str] = []
    killed = False
    try:
        sandbox = start.sandbox.copy(folder / "box")
        for point in points:
            done, where = hit(point, sandbox)
            places += [where] * bool(where)
            killed |= is_killed(done)
            error = point.error if where else ""
            wrong += check_fault(sandbox, done, start.before, start.after, error=error)
        left = load_state(sandbox)
        again = sandbox.mlspec(*APPLY)
        states = (left, start.before, start.after)
        wrong += check_rerun(sandbox, again, *states, faults=len(points), killed=killed)
    except Exception as error:  # what the oracle cannot read is the worst that it can find
        return Result(points[0], " ".join(places), (f"{type(error).__name__}: {error}",))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return Result(points[0], ", then ".join(places), tuple(wrong))


def choose_each(points: Sequence[Point], seed: int) -> list[Point]:
    """A kill at every name, at any of its numbers, and other faults at a few."""
    chance = random.Random(seed)
    named: dict[str, list[Point]] = defaultdict(list)
    for point in points:
        if point.fault == "kill":
            named[point.name].append(point)
    others = [point for point in points if point.fault != "kill"]
    return [*map(chance.choice, named.values()), *choose(others, len(named) // 8, seed)]


def choose(points: Sequence[Point], count: int, seed: int) -> list[Point]:
    """So many points, by turns of every kind."""
    chance = random.Random(seed)
    kinds: dict[tuple[str, ...], list[Point]] = defaultdict(list)
    for point in points:
        kinds[point.scenario, point.name, *point.kind].append(point)
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
    lines = ["  ".join([f"{'':16}", *(f"{fault:>10}" for fault in faults)]).rstrip()]
    for call in calls:
        cells = (_cell(hits[call, fault], wrong[call, fault]) for fault in faults)
        lines.append("  ".join([f"{call:16}", *(f"{cell:>10}" for cell in cells)]).rstrip())
    lines.append(f"{hits.total()} points hit, {missed} not come to, {wrong.total()} wrong")
    return "\n".join(lines)


def _cell(hits: int, wrong: int) -> str:
    return f"{hits} ({wrong} !)" if wrong else str(hits or "")


def _by_turns(groups: Sequence[Sequence[Point]]) -> Iterator[Point]:
    for turn in range(max(map(len, groups), default=0)):
        yield from (group[turn] for group in groups if turn < len(group))


def make_start(place: Path, scenario: str) -> Start:
    """A sandbox that is ready, and what an apply of it comes to."""
    sandbox = make_sandbox(place, scenario)
    clean = sandbox.copy(place.with_name(f"{scenario}-clean"))
    clean.check(*FAULTY, *APPLY)
    return Start(sandbox, load_state(sandbox), load_state(clean))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layer", nargs="+", choices=LAYERS, default=[*LAYERS])
    parser.add_argument("--points", type=int, default=0, help="how many of each layer; or all")
    parser.add_argument("--each", action="store_true", help="a kill at every name of a failpoint")
    parser.add_argument("--twice", action="store_true", help="kill the apply that mends, too")
    parser.add_argument("--report", type=Path, help="a file for the tables")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="points whose line has these words")
    parser.add_argument("--scenario", nargs="+", choices=SCENARIOS, default=SCENARIOS)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
