"""The stored numbers on few pictures and near duplicates, and small runs of the script that measures them."""

import pytest
import torch

from experiments import measure_pictures as script
from experiments import shared

STORED = shared.read(script.RESULTS)
PARTS = STORED["parts"]


def test_each_stored_part_says_how_it_was_made() -> None:
    assert {"question", "rivals", "tuning", "evaluation"} <= set(STORED)
    assert set(PARTS) == set(script.PARTS)
    for name, part in PARTS.items():
        assert part["command"] == f"python -m experiments.measure_pictures {name}"
        assert part["seeds"] == (script.OTHER_SEEDS if name == "bursts" else script.SEEDS)
        assert {"threads", "device", "processor", "torch", "code", "date"} <= set(part["provenance"])


def test_differences_follow_from_the_stored_runs() -> None:
    runs = PARTS["few"]["runs"]
    for n, found in PARTS["few"]["above_all"].items():
        pairs = zip(runs[n]["test"], runs["3500"]["test"], strict=True)
        assert found == script.colour.interval([a - b for a, b in pairs])
    for name in ("duplicates", "burst", "bursts"):
        pairs = zip(PARTS[name]["runs"]["without"], PARTS[name]["runs"]["with"], strict=True)
        assert PARTS[name]["feigned"] == script.colour.interval([a - b for a, b in pairs])


def test_codes_without_a_model_are_found_again() -> None:
    found = script.codes()["bits"]
    stored = PARTS["codes"]["bits"]
    assert found.pop("png") == pytest.approx(stored.pop("png"), abs=0.05)  # another zlib
    assert found == stored


def test_a_code_for_the_numbers_themselves_reaches_their_entropy() -> None:
    numbers = torch.arange(4).repeat(100_000).numpy()
    assert script.entropy_coded(numbers, numbers, 4) == pytest.approx(2, abs=1e-6)
    # of 8 numbers 4 never come: the one that is added to each count costs next to nothing
    assert script.entropy_coded(numbers, numbers, 8) == pytest.approx(2, abs=1e-4)


def test_patches_that_share_pixels_are_those_within_three_steps() -> None:
    held_out = torch.zeros(2, 50, 35, dtype=torch.bool)
    held_out[1, 20, 10] = True
    near = script.sharing(held_out)
    assert not near[0].any() and near[1].sum() == 49
    grid, _ = script.colour.patches()
    # three steps of 8 pixels away, a patch shares the last 8 columns; four steps away it shares none
    assert (
        torch.equal(grid[1, 20, 10, :, :, 24:], grid[1, 20, 13, :, :, :8]) and near[1, 20, 13] and not near[1, 20, 14]
    )


def test_script_runs_on_a_few_patches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "SEEDS", [0, 1, 2])
    monkeypatch.setattr(script, "HELD_OUT", 60)
    grid, validation = script.colour.patches()
    monkeypatch.setattr(script.colour, "patches", lambda: (grid[:, ::6, ::6].contiguous(), validation))
    few = script.few(steps=2, sizes=[20])
    assert set(few["runs"]) == {"20", "108"} and few["above_all"]["20"]["half"] > 0


def test_a_stored_run_is_found_again_from_scratch() -> None:
    fitted = script.colour.patches()[0].reshape(-1, *script.colour.SHAPE)
    own = fitted[torch.randperm(len(fitted), generator=torch.Generator().manual_seed(0))[:100]]
    test = script.data.load("patches", "test").images
    [found] = script.bits_of(own, [test], 0, script.colour.STEPS)
    # other roundings grow in training at this rate; seeds lie up to 0.2 apart
    assert found == pytest.approx(PARTS["few"]["runs"]["100"]["test"][0], abs=0.15)
