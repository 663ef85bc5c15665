"""How often `vaelib.diagnose` is right, as it is stored, and a few of its runs again."""

import pytest

from experiments import measure_doctor, shared

STORED = shared.read(measure_doctor.RESULTS)
KINDS = ("cause", "part", "symptom", "missed")


def test_every_part_is_stored_says_how_it_was_made_and_counts_each_run_once() -> None:
    assert set(STORED) == set(measure_doctor.RUNS)
    for name, part in STORED.items():
        assert part["command"] == f'python -m experiments.measure_doctor "{name}"'
        assert {"processor", "cpu_minutes", "threads", "vaelib", "torch", "date"} <= set(part)
    for group, bugs in measure_doctor.BUGS.items():
        part = STORED[group]
        assert part["seeds"] == measure_doctor.SEEDS[group] and list(part["bugs"]) == [bug.name for bug in bugs]
        assert sum(part[kind] for kind in KINDS) == part["runs"] == len(bugs) * len(part["seeds"])
        for kind in KINDS:
            assert sum(each.get(kind, 0) for each in part["bugs"].values()) == part[kind]
    assert list(STORED["healthy"]["kinds"]) == list(measure_doctor.HEALTHY)
    assert sum(STORED["healthy"]["kinds"].values()) == STORED["healthy"]["false_alarms"]


def test_what_counts_as_yes_is_reached_for_bugs_and_missed_for_healthy_models_by_one_kind_that_has_just_begun() -> None:
    assert STORED["published"]["cause"] >= 0.9 * STORED["published"]["runs"]
    alarms = {name: count for name, count in STORED["healthy"]["kinds"].items() if count}
    assert alarms == {"4 epochs": 2} and STORED["healthy"]["runs"] < 60 * 2  # the chapter says so


@pytest.mark.parametrize("group", measure_doctor.BUGS)
def test_every_bug_changes_the_program_and_leaves_one_that_compiles(group: str) -> None:
    for bug in measure_doctor.BUGS[group]:
        measure_doctor.program(*bug.base, *bug.patches)
        assert bug.cause or bug.part, bug.name


@pytest.mark.parametrize(("group", "name"), [("published", "KL averaged over dimensions"), ("unseen 3", "tanh on mu")])
def test_a_bug_gets_the_same_verdict_again(group: str, name: str) -> None:
    bug = next(each for each in measure_doctor.BUGS[group] if each.name == name)
    (kind,) = STORED[group]["bugs"][name]  # the same of each seed
    assert bug.verdict(measure_doctor.examined(bug.patient(STORED[group]["seeds"][0]))) == kind


def test_a_healthy_model_has_no_illness_again() -> None:
    assert STORED["healthy"]["kinds"]["grey"] == 0
    assert measure_doctor.examined(measure_doctor.HEALTHY["grey"](STORED["healthy"]["seeds"][0])) == []


def test_a_verdict_is_the_closest_of_what_the_illnesses_say() -> None:
    bug = measure_doctor.Bug("", cause="KL.*sign", part="^KL")
    said = ["KL: it is 2.0: its sign is wrong", "KL: it is 2.0", "logits: they lie within 1"]
    assert [bug.verdict(said[at:]) for at in range(4)] == ["cause", "part", "symptom", "missed"]
