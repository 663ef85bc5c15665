"""The stored bits of convolutions and of multilayer perceptrons, and small runs of the script that measures them."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments import measure_networks as script
from experiments import networks, networks_again
from vaelib import data
from vaelib.evaluation import mean_elbo

PATH = Path(__file__).resolve().parents[2] / "book/results/networks.json"
STORED = json.loads(PATH.read_text(encoding="utf-8")) if PATH.is_file() else {"parts": {}}
# Bits: rounding grows in training, differently on each processor; what the arms differ by is larger.
TOLERANCE = 0.02


def test_each_stored_part_says_how_it_was_made() -> None:
    assert {"question", "rivals", "tuning", "evaluation", "yes", "seeds", "cpu_minutes"} <= set(STORED)
    for part in STORED["parts"].values():
        assert {"command", "provenance", "cpu_minutes"} <= set(part)
        assert part["provenance"]["threads"] == 1


def test_stored_differences_follow_from_the_stored_runs_of_three_seeds() -> None:
    assert STORED["differences"] == script.differences(STORED["parts"])
    for name in script.SETS:
        assert all(STORED["differences"][name][pair]["seeds"] == 3 for pair in ("conv - small", "conv - time"))


def test_each_arm_has_its_best_rate_and_the_parameters_and_the_time_that_the_plan_gives_it() -> None:
    for name in script.SETS:
        arms, costs = STORED["parts"][f"tuning {name}"]["arms"], STORED["parts"]["cost"]["milliseconds"][name]
        for arm, found in arms.items():
            size = str(tuple(found["sizes"]) if found["sizes"] else None)
            lowest = min(value for rates in found["tried"].values() for value in rates.values())
            assert found["tried"][size][f"{found['rate']:g}"] == lowest
            assert all(len(rates) >= len(networks.RATES[name]) for rates in found["tried"].values())
            for seed in networks.SEEDS:
                if (run := STORED["parts"][f"{name} {seed}"]["runs"].get(arm)) is None:
                    assert arm in networks.SIZES and arm != networks.better(arms)
                    continue
                time = run["steps"] * costs[size] / (networks.STEPS[name] * costs["None"])
                assert time == pytest.approx(1, abs=0.01) if arm != "small" else run["steps"] == networks.STEPS[name]
        runs = STORED["parts"][f"{name} 0"]["runs"]
        assert runs["small"]["parameters"] == pytest.approx(runs["conv"]["parameters"], rel=0.03)
        assert runs[networks.better(arms)]["parameters"] > runs["small"]["parameters"]
        assert runs["shuffled"]["parameters"] == runs["conv"]["parameters"]


def test_a_stored_run_of_an_mlp_is_found_again_from_scratch() -> None:
    try:
        images = networks.Images("mnist")
    except data.DataNotFoundError:
        pytest.skip("MNIST is not at hand")
    tuned = STORED["parts"]["tuning mnist"]["arms"]["small"]
    model, said = networks.train(images, tuple(tuned["sizes"]), tuned["rate"], networks.STEPS["mnist"], 0)
    stored = STORED["parts"]["mnist 0"]["runs"]["small"]
    assert said["validation"] == pytest.approx(stored["validation"], abs=TOLERANCE)
    assert networks.bits(model, images.test).mean().item() == pytest.approx(stored["test"], abs=TOLERANCE)


def test_a_stored_try_of_convolutions_is_found_again_from_scratch() -> None:
    images, tuned = networks.Images("patches"), STORED["parts"]["tuning patches"]["arms"]["conv"]
    _, said = networks.train(images, None, tuned["rate"], networks.STEPS["patches"] // 4, networks.TUNING_SEED)
    assert said["validation"] == pytest.approx(tuned["tried"]["None"][f"{tuned['rate']:g}"], abs=TOLERANCE)


def test_rivals_that_were_short_of_time_have_it_in_the_runs_that_were_added() -> None:
    for name, part in STORED["parts"]["time again"]["sets"].items():
        runs = [STORED["parts"][f"{name} {seed}"]["runs"] for seed in networks.SEEDS]
        assert part["ratio"] > 1.05 and len(part["runs"]) == 3
        for run, more in zip(runs, part["runs"], strict=True):
            steps = run[STORED["differences"][name]["time"]]["steps"]
            assert more["steps"] == pytest.approx(part["ratio"] * steps, rel=2e-3)


def test_patches_to_fit_validate_and_test_share_no_pixel() -> None:
    images = networks.Images("patches")
    assert len(images.fitting) == 3700 and len(images.validation) == 700
    photograph = data.load("patches").images.reshape(2, 50, 47, 3, 32, 32)
    # The last columns to fit end where the first to validate begin: 36 * 8 + 32 = 40 * 8.
    assert torch.equal(images.fitting[36], photograph[0, 0, 36]) and torch.equal(
        images.validation[0], photograph[0, 0, 40]
    )
    assert torch.equal(photograph[0, 0, 36, ..., 24:], photograph[0, 0, 39, ..., :8])
    assert not torch.equal(photograph[0, 0, 36, ..., -8:], photograph[0, 0, 40, ..., :8])


def test_shuffled_images_hold_the_same_colours_in_other_places() -> None:
    x, places = torch.rand(4, 3, 6, 6), torch.randperm(36, generator=torch.Generator().manual_seed(1))
    found = networks.shuffle(x, places)
    assert torch.equal(found.flatten(2).sort(-1).values, x.flatten(2).sort(-1).values) and not torch.equal(found, x)
    assert torch.equal(found[2, :, 0, 0], x[2].flatten(1)[:, places[0]])  # a place keeps its three channels
    assert networks.shuffle(x, None) is x


def test_bits_are_those_of_the_mean_elbo_up_to_noise() -> None:
    images = networks.Images("digits")
    model = networks.build(images, (20,), 0)
    wanted = -mean_elbo(model, images.test) / (64 * math.log(2))
    assert networks.bits(model, images.test).mean().item() == pytest.approx(wanted, abs=5e-3)  # one z for each of 297


def test_script_runs_on_digits_and_stores_each_part(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(script, "RESULTS", tmp_path / "networks.json")
    monkeypatch.setattr(script, "SETS", ("digits",))
    monkeypatch.setitem(networks.STEPS, "digits", 12)
    monkeypatch.setitem(networks.RATES, "digits", (4e-3, 8e-3))
    monkeypatch.setattr(script, "FURTHER", 0)
    monkeypatch.setattr(networks, "SIZES", {"wide": [(20,)], "deep": [(10, 10)]})
    monkeypatch.setattr(script, "PARTS", ("cost", "tuning digits", *(f"digits {seed}" for seed in range(3))))
    monkeypatch.setattr(script.shared, "chosen", lambda parts, *others: iter(parts))
    script.main()
    record = script.shared.read(script.RESULTS)
    found = record["differences"]["digits"]
    assert found["conv - small"]["seeds"] == 3 and found["time"] in networks.SIZES
    assert len(record["summary"]) == 3 and record["cpu_minutes"] >= 0
    runs = record["parts"]["digits 1"]["runs"]
    assert set(runs) == {"conv", "small", found["time"], "shuffled"} and runs["conv"]["error over images"] == 0
    one, other = (record["parts"][f"digits {seed}"]["runs"]["conv"]["test"] for seed in (0, 1))
    assert one != other


def test_more_rates_are_tried_while_the_best_is_the_first_or_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    best = 1e-3
    tries: list[float] = []

    def pretended(images: object, sizes: object, rate: float, *others: object) -> tuple[None, dict[str, float]]:
        tries.append(rate)
        return None, {"validation": abs(math.log(rate / best))}

    monkeypatch.setattr(script, "train", pretended)
    images = networks.Images("digits")
    monkeypatch.setitem(networks.STEPS, "digits", 24)
    monkeypatch.setitem(networks.RATES, "digits", (1e-3, 2e-3, 4e-3))
    assert script.tune(images, "conv", {"None": 1.0})["rate"] == best
    assert tries == [1e-3, 2e-3, 4e-3, 5e-4]
    tries.clear()
    best = 1.0
    script.tune(images, "conv", {"None": 1.0})
    assert tries == pytest.approx([1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2, 3.2e-2])


def test_networks_of_other_channels_are_built_by_their_channels() -> None:
    images = networks.Images("patches")
    other, plain, mlp = (networks.build(images, sizes, 0) for sizes in (("channels", 3, 4, 5), None, (3,)))
    for model, channels in ((other, [3, 4, 5]), (plain, [16, 32])):
        layers: Any = model.encoder
        assert [each.out_channels for each in layers if isinstance(each, torch.nn.Conv2d)] == channels
    for model, mean in ((other, images.fitting.mean((0, 2, 3))), (mlp, images.fitting.mean(0).flatten())):
        last: Any = model.decoder
        torch.testing.assert_close(last[-1].bias.detach(), mean)


def test_an_arm_whose_step_costs_half_makes_twice_the_steps_and_small_makes_those_of_conv() -> None:
    costs = {"None": 20.0, "(150,)": 10.0, "(69,)": 5.0}
    assert networks.steps_of("wide", (150,), "mnist", costs) == 2 * networks.STEPS["mnist"]
    assert networks.steps_of("small", (69,), "mnist", costs) == networks.STEPS["mnist"]


def test_other_channels_are_tried_at_each_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(networks.STEPS, "digits", 24)
    monkeypatch.setitem(networks.RATES, "digits", (4e-3, 8e-3))
    found = networks_again.other_channels(networks.Images("digits"))
    assert {"('channels', 16, 32, 64)", "('channels', 32, 64)", "milliseconds"} == set(found)
    assert set(found["('channels', 32, 64)"]) == {"0.004", "0.008"}


def test_without_a_code_the_bits_are_those_of_the_frequency_of_each_pixel() -> None:
    images = networks.Images("digits")
    p = images.fitting.mean(0).clamp(1e-3, 1 - 1e-3)
    wanted = -(images.test * p.log2() + (1 - images.test) * (1 - p).log2()).mean().item()
    assert networks_again.mean_image(images)["bits"] == pytest.approx(wanted, abs=1e-4)  # rounded to four digits


def test_a_step_of_training_is_that_of_the_gradient_and_its_rate() -> None:
    images = networks.Images("patches")
    run = networks.Run(images, (3,), 1)
    before = [each.clone() for each in run.model.parameters()]
    run.step(1e-3)
    moved = [(one - other).abs().max().item() for one, other in zip(run.model.parameters(), before, strict=True)]
    assert max(moved) == pytest.approx(1e-3, rel=0.01)  # the first step of Adam is the rate, whatever the gradient
    assert networks.parameters(run.model) == sum(each.numel() for each in before)
