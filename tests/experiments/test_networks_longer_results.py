"""The stored longer runs of convolutions and of multilayer perceptrons, and small runs of the script."""

import json
from pathlib import Path
from typing import Any

import pytest

from experiments import measure_networks_longer as script
from experiments import networks, networks_leads

RESULTS = Path(__file__).resolve().parents[2] / "book/results"
STORED = json.loads((RESULTS / "networks_longer.json").read_text(encoding="utf-8"))
SHORT = json.loads((RESULTS / "networks.json").read_text(encoding="utf-8"))
PARTS: dict[str, Any] = STORED["parts"]
TUNED = sorted(key for key in PARTS if key.startswith("tuning"))
RUNS = sorted(key for key in PARTS if key.split()[0] in script.SETS)
# Bits: rounding grows in training, differently on each processor; rates differ by 0.4.
TOLERANCE = 0.05


def test_each_stored_part_says_how_it_was_made() -> None:
    assert {"question", "rivals", "tuning", "evaluation", "yes", "seeds", "cpu_minutes", "summary"} <= set(STORED)
    assert set(PARTS) <= set(script.PARTS)
    for part in PARTS.values():
        assert {"command", "provenance", "cpu_minutes"} <= set(part)
        assert part["provenance"]["threads"] == 1


def test_stored_differences_and_summary_follow_from_the_stored_runs() -> None:
    assert STORED["differences"] == networks_leads.differences(script.SETS, PARTS, SHORT)
    assert STORED["summary"] == networks_leads.summary(STORED["differences"])
    assert STORED["differences"]["scene"]["test"]["conv - time"]["seeds"] == 3


@pytest.mark.parametrize("part", TUNED)
def test_an_arm_has_the_size_and_the_rate_that_were_best_in_its_tries(part: str) -> None:
    tuned, arm = PARTS[part], part.split()[2]
    size = str(tuple(tuned["sizes"]))
    assert tuned["tried"][size][f"{tuned['rate']:g}"] == min(min(each.values()) for each in tuned["tried"].values())
    expected = [3] if arm not in script.STAGES[0] else [2, 2, 3] if "scene" in part else [1, 1, 2]
    assert sorted(len(each) for each in tuned["tried"].values()) == expected


@pytest.mark.parametrize("part", RUNS)
def test_a_run_has_the_steps_that_fit_into_the_seconds(part: str) -> None:
    name, arm, _ = part.split()
    timed = PARTS[f"tuning {name} {'conv' if arm == 'small' else arm}"]
    assert PARTS[part]["steps"] == round(1000 * script.SECONDS / timed["milliseconds"])


def test_a_stored_try_of_an_mlp_is_found_again_from_scratch() -> None:
    tuned = PARTS["tuning scene time"]
    sizes, rate = tuple(tuned["sizes"]), tuned["rate"]
    cost = PARTS["cost scene"]["milliseconds"][str(sizes)]
    images, steps = networks.Images("scene"), round(250 * script.SECONDS / cost)
    _, said = networks.train(images, sizes, rate, steps, networks.TUNING_SEED)
    assert said["validation"] == pytest.approx(tuned["tried"][str(sizes)][f"{rate:g}"], abs=TOLERANCE)


def test_a_difference_is_paired_by_seed_and_its_change_is_that_from_the_shorter_runs() -> None:
    runs = {"conv": (5.0, 5.2, 5.1), "time": (5.5, 5.6, 5.4)}
    parts = {
        f"scene {arm} {s}": {"test": t, "L_50": t - 1, "seconds": 9} for arm in runs for s, t in enumerate(runs[arm])
    }
    short: dict[str, Any] = {"differences": {"scene": {"time": "wide"}}, "parts": {}}
    for seed in range(3):
        short["parts"][f"scene {seed}"] = {"runs": {"conv": {"test": 6.0}, "wide": {"test": 5.0}}}
    found = networks_leads.differences(("scene",), parts, short)["scene"]
    assert found["test"]["conv - time"] == {"mean": -0.4, "se": pytest.approx(0.0577, abs=1e-4), "seeds": 3}
    assert found["change"]["mean"] == -1.4 and found["L_50"]["conv - time"]["mean"] == -0.4
    short["parts"]["time again"] = {"sets": {"scene": {"runs": [{"test": 4.5}] * 3}}}
    assert networks_leads.differences(("scene",), parts, short)["scene"]["change"]["mean"] == -1.9
    del parts["scene conv 2"]  # before all seeds are there nothing is said
    assert networks_leads.differences(("scene",), parts, short) == {}


def test_tries_are_the_best_rate_of_the_shorter_runs_and_on_the_scene_half_of_it() -> None:
    images = networks.Images("patches")
    known = SHORT["parts"]["tuning patches"]["arms"]
    assert script.tries_of(images, "conv", {}) == [(sizes, 0.004) for sizes in script.CHANNELS]
    assert known["conv"]["rate"] == 0.004
    assert script.tries_of(images, "time", {}) == [((150,), 0.008), ((400,), 0.004), ((200, 200), 0.008)]
    images.name = "scene"  # on the scene half of each as well
    tries = script.tries_of(images, "time", {})
    assert tries == [
        (s, r) for s, best in zip(script.HIDDEN, (0.004, 0.002, 0.008), strict=True) for r in (best, best / 2)
    ]
    images.name = "patches"
    tuned = {"tuning patches conv": {"sizes": ["channels", 16, 32], "rate": 0.002}}
    assert script.tries_of(images, "shuffled", tuned) == [(("channels", 16, 32), r) for r in (0.002, 0.001, 0.004)]
    wide = next(sizes for sizes, _ in script.tries_of(images, "small", tuned))
    model, small = (networks.build(images, sizes, 0) for sizes in (("channels", 16, 32), wide))
    assert networks.parameters(small) == pytest.approx(networks.parameters(model), rel=0.02)


def test_the_script_runs_on_digits_and_stores_each_part(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    short: dict[str, Any] = {"parts": {"tuning digits": {"arms": {}}}}
    for arm, sizes in (("conv", "None"), ("wide", "(10,)"), ("small", "(9,)")):
        short["parts"]["tuning digits"]["arms"][arm] = {"tried": {sizes: {"0.004": 2.0, "0.008": 1.0}}, "rate": 8e-3}
    (tmp_path / "short.json").write_text(json.dumps(short))
    monkeypatch.setattr(script, "RESULTS", tmp_path / "longer.json")
    monkeypatch.setattr(script, "SHORT", tmp_path / "short.json")
    monkeypatch.setattr(script, "SETS", ("digits",))
    monkeypatch.setattr(script, "SECONDS", 0.3)
    monkeypatch.setattr(script, "CHANNELS", [("channels", 2, 3)])
    monkeypatch.setattr(script, "HIDDEN", [(10,)])
    parts = ["cost digits", "tuning digits conv", "tuning digits time", "tuning digits shuffled", "tuning digits small"]
    parts += [f"digits {arm} {seed}" for seed in range(3) for arm in ("conv", "time", "shuffled", "small")]
    monkeypatch.setattr(script.shared, "chosen", lambda *others: iter(parts))
    script.main()
    record = script.shared.read(script.RESULTS)
    assert list(record["parts"]) == parts
    assert len(record["parts"]["tuning digits conv"]["tried"]["('channels', 2, 3)"]) == 2
    assert set(record["differences"]["digits"]["test"]) == {" - ".join(pair) for pair in networks_leads.PAIRS}
    assert record["parts"]["digits small 1"]["steps"] == record["parts"]["digits conv 1"]["steps"]
