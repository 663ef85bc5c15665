"""The stored cost of image sizes, and small runs of the script that measures it."""

import pytest

from experiments import measure_sizes as script
from experiments import shared

STORED = shared.read(script.RESULTS)
PART = STORED["parts"]["one thread"]


def test_the_stored_part_says_how_it_was_made() -> None:
    assert {"question", "rivals", "tuning", "evaluation"} <= set(STORED)
    assert PART["threads"] == 1 and PART["rounds"] == script.ROUNDS == len(PART["load"])
    assert [(row["size"], row["network"]) for row in PART["rows"]] == [
        (size, network) for size in script.SIZES for network in script.NETWORKS
    ]
    for row in PART["rows"]:
        assert sorted(row["ratios"])[1] == row["ratio"] and row["cpu_ms"] > 0


def test_the_stored_memory_is_found_again() -> None:
    for stored in PART["memory"]:
        if stored["size"] <= 64:
            own = {key: value for key, value in stored.items() if key not in ("size", "network")}
            found = script.memory(stored["network"], stored["size"])
            assert found["parameters"] == own["parameters"] and found["weights_mb"] == own["weights_mb"]
            # versions of PyTorch may keep another tensor for the backward pass
            assert found["batch_mb"] == pytest.approx(own["batch_mb"], rel=0.5)


def test_weights_and_pictures_are_counted_as_by_hand() -> None:
    found = script.memory("MLP", 16)
    layers = ((768, 400), (400, 40), (20, 400), (400, 768))
    assert found["parameters"] == sum((into + 1) * out for into, out in layers)
    assert found["weights_mb"] == round(found["parameters"] * 16 / 1e6, 1)
    assert found["pictures_mb"] == round(1000 * 3 * 256 * 4 / 1e6, 1)


def test_a_small_run_has_a_row_for_each_arm_and_larger_pictures_cost_more() -> None:
    found = script.measure(1, sizes=[16, 64], rounds=3)
    cost = {(row["size"], row["network"]): row["cpu_ms"] for row in found["rows"]}
    assert len(cost) == 4
    # stored: 15 times as much; a busy machine may double one of them
    assert cost[64, "convolutions"] > 2 * cost[16, "convolutions"]
