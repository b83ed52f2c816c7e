"""What may be removed: never anything that something kept needs."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlspec.planner.garbage import Garbage, plan_garbage, show_bytes, show_numbers
from mlspec.planner.keeping import Why
from mlspec.planner.known import (
    Known,
    LogFact,
    Pin,
    Place,
    ReleaseFact,
    Rules,
    RunFact,
    RunKey,
    VersionFact,
    VersionKey,
)
from mlspec.render.garbage_text import render_garbage
from mlspec.render.style import Style

RULES = Rules(keep_days=30, keep_versions=1)


def run(
    number: int, *wrote: str, stage: str = "train", model: str = "risk", **more: object
) -> RunFact:
    key = RunKey(model, stage, f"{number:064x}")
    return replace(RunFact(key, frozenset(wrote or (f"out{number}",))), **more)


def version(number: int, **more: object) -> VersionFact:
    key = RunKey("risk", "train", f"{number:064x}")
    fact = VersionFact(VersionKey("risk", number), frozenset({key}), f"out{number}")
    return replace(fact, **more)


def place(name: str, *md5s: str) -> Place:
    return Place(name, f"/{name}", dict.fromkeys(md5s, 10))


def five(**more: object) -> Known:
    """Five versions of a model, each with its run and artifact, in cache and storage."""
    outs = [f"out{number}" for number in range(1, 6)]
    known = Known(
        runs=tuple(run(number) for number in range(1, 6)),
        versions=tuple(version(number) for number in range(1, 6)),
        heads=frozenset({run(5).key}),
        places=(place("cache", *outs), place("storage", *outs)),
    )
    return replace(known, **more)


def freed(plan: Garbage) -> list[int]:
    return [key.number for key in plan.versions]


def why(plan: Garbage) -> dict[str, Why]:
    return {kept.address: kept.why for kept in plan.kept if kept.address.startswith("model.")}


def test_old_versions_go_and_the_newest_stays() -> None:
    plan = plan_garbage(five(), RULES)
    assert freed(plan) == [1, 2, 3, 4]
    assert {removal.objects for removal in plan.removals} == {("out1", "out2", "out3", "out4")}
    assert plan.size == 80
    assert [each.address for each in plan.freed] == ["model.risk"]
    assert (plan.freed[0].versions, plan.freed[0].runs) == ((1, 2, 3, 4), 4)


def test_what_serves_is_kept_and_what_to_go_back_to() -> None:
    known = five(served={"deployment.risk@prod": VersionKey("risk", 4)})
    plan = plan_garbage(known, RULES)
    assert freed(plan) == [1, 2]
    assert why(plan) == {
        "model.risk@3": Why.BEFORE,
        "model.risk@4": Why.SERVED,
        "model.risk@5": Why.CHAMPION,
    }


def test_one_goes_back_past_what_is_not_good() -> None:
    versions = [version(number, good=number in (1, 2, 4, 5)) for number in range(1, 6)]
    served = {"deployment.risk@prod": VersionKey("risk", 4)}
    plan = plan_garbage(five(versions=tuple(versions), served=served), RULES)
    assert freed(plan) == [1], "the one before, 3, is no good; 2 is the one to go back to"


@pytest.mark.parametrize(
    ("pin", "kept"),
    [
        (Pin("risk", 2, "main"), [2]),
        (Pin("", 2, "main"), [2]),
        (Pin("risk", None, "main"), [1, 2, 3, 4]),
        (Pin("renamed", 3, "main"), [3]),
        (Pin("risk", 9, "main"), []),
        (Pin("new", 3, "main"), [3]),
    ],
)
def test_a_pin_of_any_branch_keeps(pin: Pin, kept: list[int]) -> None:
    known = five(pins=(pin,))
    new = VersionFact(VersionKey("new", 1), artifact="out of a new model")
    known = replace(known, versions=(*known.versions, new))
    plan = plan_garbage(known, RULES)
    assert freed(plan) == [number for number in (1, 2, 3, 4) if number not in kept]


def test_recent_things_and_those_of_a_named_commit_stay() -> None:
    versions = [version(1, recent=True), version(2, commit="c"), version(3), version(4), version(5)]
    plan = plan_garbage(five(versions=tuple(versions), tips={"c": "tags/v2"}), RULES)
    assert freed(plan) == [3, 4]
    assert why(plan)["model.risk@1"] is Why.RECENT
    assert why(plan)["model.risk@2"] is Why.COMMIT


def test_a_model_that_left_the_spec_keeps_no_newest_versions() -> None:
    known = five(retired=frozenset({"risk"}), heads=frozenset())
    assert freed(plan_garbage(known, RULES)) == [1, 2, 3, 4, 5]
    known = replace(known, served={"deployment.risk@prod": VersionKey("risk", 5)})
    assert freed(plan_garbage(known, RULES)) == [1, 2, 3]


def test_what_git_names_stays_with_all_that_is_in_a_folder() -> None:
    known = Known(
        runs=(run(1, "a.dir"), run(2, "b.dir")),
        named={"a.dir": "heads/old"},
        lists={"a.dir": ("x", "both"), "b.dir": ("y", "both")},
        places=(place("cache", "a.dir", "b.dir", "x", "y", "both"),),
    )
    plan = plan_garbage(known, RULES)
    assert plan.removals[0].objects == ("b.dir", "y")
    assert plan.runs == (run(2).key,)


def test_a_needed_folder_without_a_list_keeps_the_files_of_every_folder() -> None:
    known = Known(
        runs=(run(1, "a.dir"), run(2, "b.dir"), run(3, "single")),
        named={"a.dir": "heads/old"},
        lists={"b.dir": ("y",)},
        places=(place("cache", "b.dir", "y", "single"),),
    )
    plan = plan_garbage(known, RULES)
    assert plan.lost_folders == 1
    assert plan.removals[0].objects == ("single",)


def test_what_nothing_knows_is_never_touched_and_keeps_storage_whole() -> None:
    places = (place("cache", "out1", "alien"), place("storage", "out1", "alien"))
    known = five(places=places)
    plan = plan_garbage(known, RULES)
    cache, storage = plan.removals
    assert cache.objects == ("out1",)
    assert storage.objects == () and "others may keep data" in storage.refused
    assert freed(plan) == [], "storage still has its bytes"
    shared = plan_garbage(known, replace(RULES, shared=True))
    assert [removal.objects for removal in shared.removals] == [("out1",), ("out1",)]
    assert freed(shared) == [1]


def test_a_fork_leaves_alone_in_storage_what_only_commits_tell_of() -> None:
    """Its ledger is empty, or its own: the one that has the versions may be elsewhere."""
    outs = ("old", "a.dir", "x", "mine")
    known = Known(
        runs=(run(1, "mine"),),
        made=frozenset({"old", "a.dir"}),
        lists={"a.dir": ("x",)},
        places=(place("cache", *outs), place("storage", *outs)),
    )
    plan = plan_garbage(known, RULES)
    cache, storage = plan.removals
    assert cache.objects == ("a.dir", "mine", "old", "x")
    assert (storage.objects, storage.unrecorded) == (("mine",), 3)
    told = render_garbage(plan, Style(color=False))
    assert "Left alone: 3 objects in storage (/storage) that commits tell of" in told
    shared = plan_garbage(known, replace(RULES, shared=True)).removals[1]
    assert (shared.objects, shared.unrecorded) == (cache.objects, 0)


@pytest.mark.parametrize("folder", ["mentioned.dir", "alien.dir"])
def test_what_is_in_a_folder_that_stays_stays(folder: str) -> None:
    known = Known(
        runs=(run(1, "same", "other"),),
        mentioned=frozenset({"mentioned.dir"}),
        lists={folder: ("same",)},
        places=(place("cache", "same", "other", folder),),
    )
    assert plan_garbage(known, replace(RULES, shared=True)).removals[0].objects == ("other",)


def test_a_plan_that_was_asked_about_may_be_out_of_date() -> None:
    asked = plan_garbage(five(logs=(LogFact("logs/a", 7),)), RULES)
    more = plan_garbage(five(logs=(LogFact("logs/a", 7), LogFact("logs/b", 7))), RULES)
    assert more.allows(asked) and asked.allows(asked)
    pinned = plan_garbage(five(pins=(Pin("risk", 2, "a new branch"),)), RULES)
    assert asked.files and not pinned.allows(asked)
    assert not asked.allows(more)


def test_a_place_that_is_closed_keeps_all() -> None:
    known = five()
    cache, storage = known.places
    known = replace(known, places=(cache, replace(storage, closed="nobody was asked")))
    plan = plan_garbage(known, replace(RULES, shared=True))
    assert [len(removal.objects) for removal in plan.removals] == [4, 0]
    assert freed(plan) == [], "storage still has their bytes"
    told = render_garbage(plan, Style(color=False))
    assert "Left alone is storage (/storage): nobody was asked.\n" in told
    assert "--shared" not in told


def test_data_stays_unless_asked_for() -> None:
    known = Known(
        runs=(run(1, read=frozenset({"raw", "code"})),),
        data=frozenset({"old-raw"}),
        places=(place("cache", "out1", "raw", "old-raw"),),
    )
    assert plan_garbage(known, RULES).removals[0].objects == ("out1",)
    everything = plan_garbage(known, replace(RULES, data=True))
    assert everything.removals[0].objects == ("old-raw", "out1", "raw")


def test_what_a_killed_one_left_goes_unless_it_is_needed_by_now() -> None:
    known = Known(
        runs=(run(1, freed=True), run(2)),
        heads=frozenset({run(2).key}),
        left=frozenset({"out1", "out2", "part of a folder"}),
        places=(place("cache", "out1", "out2", "part of a folder"),),
    )
    plan = plan_garbage(known, RULES)
    assert plan.removals[0].objects == ("out1", "part of a folder")
    assert plan.runs == (), "its run is marked already"


def test_releases_and_logs() -> None:
    releases = tuple(
        ReleaseFact(f"releases/{number}", f"digest{number}", VersionKey("risk", number), 5)
        for number in range(1, 6)
    )
    in_use = replace(releases[0], in_use=True)
    known = five(
        releases=(in_use, *releases[1:]),
        serving=frozenset({"digest2"}),
        logs=(LogFact("logs/a", 7), LogFact("logs/b", 7, recent=True)),
    )
    plan = plan_garbage(known, RULES)
    assert [file.path for file in plan.files] == ["releases/3", "releases/4", "logs/a"]


def test_words() -> None:
    assert show_numbers([7, 1, 2, 3, 9, 10]) == "1 to 3, 7, 9, 10"
    sizes = {0: "0 B", 999: "999 B", 1000: "1 kB", 1240: "1.2 kB", 999_999: "1 MB"}
    assert {size: show_bytes(size) for size in sizes} == sizes
    assert show_bytes(35 * 10**15) == "35000 TB"


MD5S = [f"o{number}" for number in range(6)] + ["d0.dir", "d1.dir", "d2.dir"]
md5s = st.frozensets(st.sampled_from(MD5S), max_size=4)
keys = st.builds(
    RunKey,
    st.sampled_from(["a", "b"]),
    st.sampled_from(["s", "t"]),
    st.sampled_from(["1" * 64, "2" * 64]),
)
run_facts = st.builds(
    RunFact,
    key=keys,
    wrote=md5s,
    read=md5s,
    commit=st.sampled_from(["c1", "c2"]),
    recent=st.booleans(),
    freed=st.booleans(),
)
version_keys = st.builds(VersionKey, st.sampled_from(["a", "b"]), st.integers(1, 4))
version_facts = st.builds(
    VersionFact,
    key=version_keys,
    runs=st.frozensets(keys, max_size=2),
    artifact=st.sampled_from(["", *MD5S[:6]]),
    commit=st.sampled_from(["c1", "c2"]),
    good=st.booleans(),
    recent=st.booleans(),
    freed=st.booleans(),
)
worlds = st.builds(
    Known,
    runs=st.lists(run_facts, unique_by=lambda run: run.key, max_size=6).map(tuple),
    versions=st.lists(version_facts, unique_by=lambda v: v.key, max_size=6).map(tuple),
    heads=st.frozensets(keys, max_size=2),
    wanted=st.frozensets(keys, max_size=2),
    served=st.dictionaries(st.sampled_from(["x", "y"]), version_keys, max_size=2),
    pins=st.lists(
        st.builds(
            Pin,
            st.sampled_from(["a", "b", ""]),
            st.one_of(st.none(), st.integers(1, 4)),
            st.just("main"),
        ),
        max_size=1,
    ).map(tuple),
    retired=st.frozensets(st.sampled_from(["a", "b"]), max_size=1),
    tips=st.dictionaries(st.just("c1"), st.just("main"), max_size=1),
    named=st.dictionaries(st.sampled_from(MD5S), st.just("main"), max_size=3),
    made=md5s,
    data=md5s,
    lists=st.dictionaries(
        st.sampled_from(MD5S[6:]), st.lists(st.sampled_from(MD5S[:6]), max_size=3).map(tuple)
    ),
    left=md5s,
    places=st.tuples(
        *(
            st.builds(Place, st.just(name), st.just(name), st.dictionaries(
                st.sampled_from([*MD5S, "alien"]), st.integers(0, 9)))
            for name in ("cache", "storage")
        )
    ),
)  # fmt: skip
rules = st.builds(Rules, st.just(30), st.integers(1, 3), st.booleans(), st.booleans())


@given(known=worlds, rules=rules)
def test_nothing_that_is_needed_is_ever_in_a_plan(known: Known, rules: Rules) -> None:
    plan = plan_garbage(known, rules)
    gone = {md5 for removal in plan.removals for md5 in removal.objects}
    assert "alien" not in gone

    pinned = {
        v.key
        for v in known.versions
        for pin in known.pins
        if pin.model in ("", v.key.model) and pin.number in (None, v.key.number)
    }
    needed = set(known.named)
    for fact in known.versions:
        recent = fact.recent or fact.commit in known.tips
        if fact.key in {*known.served.values(), *pinned} or (recent and not fact.freed):
            needed.add(fact.artifact)
            for each in known.runs:
                if each.key in fact.runs and not each.freed:
                    needed |= each.wrote | each.read
    for each in known.runs:
        kept = each.key in known.heads | known.wanted or each.recent or each.commit in known.tips
        if kept and not each.freed:
            needed |= each.wrote | each.read
    for md5 in [*needed]:
        needed |= set(known.lists.get(md5, ()))
    assert gone.isdisjoint(needed)
    if rules.shared:  # so that nothing is refused
        stays = {md5 for place in known.places for md5 in place.sizes} - gone
        assert gone.isdisjoint(md5 for each in stays for md5 in known.lists.get(each, ()))

    if not rules.data:
        data = set(known.data)
        assert gone.isdisjoint(data)
        assert gone.isdisjoint(md5 for each in data for md5 in known.lists.get(each, ()))
    left = {
        md5
        for place, removal in zip(known.places, plan.removals, strict=True)
        for md5 in place.sizes.keys() - set(removal.objects)
    }
    for fact in known.versions:
        lost = fact.artifact in gone - left
        assert (fact.key in plan.versions) == (lost and not fact.freed)
    marked = set(plan.runs)
    for each in known.runs:
        if each.wrote & (gone - left) and not each.freed:
            assert each.key in marked, "a run that lost an output is not restored any more"


@given(known=worlds, rules=rules)
def test_carried_out_it_leaves_nothing_to_do(known: Known, rules: Rules) -> None:
    plan = plan_garbage(known, rules)
    assert plan_garbage(known, rules) == plan
    places = tuple(
        replace(
            place,
            sizes={md5: size for md5, size in place.sizes.items() if md5 not in removal.objects},
        )
        for place, removal in zip(known.places, plan.removals, strict=True)
    )
    after = replace(
        known,
        runs=tuple(replace(r, freed=r.freed or r.key in plan.runs) for r in known.runs),
        versions=tuple(replace(v, freed=v.freed or v.key in plan.versions) for v in known.versions),
        places=places,
    )
    again = plan_garbage(after, rules)
    assert again.empty
    assert (again.runs, again.versions) == ((), ())
