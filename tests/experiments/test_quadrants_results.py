"""The stored quadrant table of chapter 12: its origin, what must hold in it, and that its script measures that."""

import copy
import datetime
import json
import sys
from pathlib import Path

import pytest
import torch

from experiments import measure_quadrants as tool
from experiments import shared
from vaelib import data
from vaelib.cvae import CVAE
from vaelib.networks import mlp

ROOT = Path(__file__).resolve().parents[2]
STORED = json.loads(tool.RESULTS.read_text(encoding="utf-8"))
TINY = {"images": 5, "from_q": [1, 50], "from_prior": [1, 50]}


def test_every_part_is_there_and_says_how_it_was_measured():
    assert set(STORED["cells"]) == set(tool.CELLS) and set(STORED["sweeps"]) == set(tool.SWEEPS)
    for group, prefix in (("sweeps", "sweep "), ("cells", "")):
        for name, part in STORED[group].items():
            provenance = part["provenance"]
            assert provenance["command"] == f'python -m experiments.measure_quadrants "{prefix}{name}"'
            assert isinstance(provenance["seed"], int) and provenance["threads"] >= 1
            assert all(provenance[key] for key in ("device", "vaelib", "torch", "python"))
            datetime.date.fromisoformat(provenance["date"])


def test_the_settings_of_the_script_are_those_that_were_tried():
    for kind, settings in tool.SWEEPS.items():
        tried = STORED["sweeps"][kind]["tried"]
        assert [{key: run[key] for key in ("epochs", "learning_rate")} for run in tried] == settings


def test_every_model_was_trained_with_the_settings_and_kept_at_the_epoch_that_were_best_on_validation_images():
    for name, cell in STORED["cells"].items():
        how, by_epoch = cell["training"], cell["training"]["validation_by_epoch"]
        assert len(by_epoch) == how["epochs"]
        assert how["validation"] == min(by_epoch) == by_epoch[how["best_epoch"] - 1]
        if "training" not in tool.CELLS[name]:
            tried = STORED["sweeps"]["cvae" if "prior" in cell["model"] else "nn"]["tried"]
            best = min(tried, key=lambda run: run["validation"])
            assert all(how[key] == best[key] for key in ("epochs", "learning_rate"))


def test_every_small_model_was_compared_with_the_settings_that_were_best_on_held_out_images():
    few, tunings = STORED["few"], {"tuning": tool.FEW_TRIED, "further tuning": tool.FEW_FURTHER}
    assert set(few) == {*tunings, *(f"seed {seed}" for seed in tool.FEW_SEEDS)}
    held_out = {}
    for name, settings in tunings.items():
        assert not set(few[name]["seeds"]) & set(tool.FEW_SEEDS)
        for kind, tried in few[name]["tried"].items():
            values = [run["validation"] for run in tried]
            assert [{key: run[key] for key in run if key != "validation"} for run in tried] == settings[kind]
            assert all(len(each) == len(few[name]["seeds"]) for each in values)
            held_out.setdefault(kind, []).extend(zip(map(sum, values), settings[kind], strict=True))
    best = {kind: min(found, key=lambda pair: pair[0])[1] for kind, found in held_out.items()}
    for seed in tool.FEW_SEEDS:
        part = few[f"seed {seed}"]
        assert part["settings"] == best
        assert part["provenance"]["command"] == f'python -m experiments.measure_quadrants "few seed {seed}"'
        for more, fewer in (("standard, more weights", "conditional"), ("standard", "conditional, fewer weights")):
            assert part["weights"][more] == pytest.approx(part["weights"][fewer], rel=0.005)


def test_a_stored_point_of_the_small_models_comes_out_again():
    if any(file.state != "verified" for file in data.locate("mnist")):
        pytest.skip("MNIST is not at hand")
    found = STORED["few"]["seed 0"]
    model, _ = tool.few("regressor", found["settings"]["regressor"], 0, data.load("mnist"))
    again = tool.loss(model, *tool.split(data.load("mnist", "test").images, 1))
    # Another processor rounds differently, and training amplifies that; seeds differ by more than a nat.
    assert again == pytest.approx(found["test"]["regressor"], abs=0.3)


def test_the_stored_estimates_stand_in_the_order_that_theory_gives():
    for name, cell in STORED["cells"].items():
        found = cell["test"]
        if "exact" in found:
            continue
        # Samples from q and from the prior bound the same number; on average more samples never loosen a bound.
        assert found["from_q_100"]["mean"] < found["elbo"]["mean"], name
        for curve in (found["curve"]["from_q"], found["curve"]["from_prior"]):
            means = [point["mean"] for point in curve.values()]
            assert means == sorted(means, reverse=True), name


@pytest.mark.parametrize(("quadrants", "rows"), [(1, ["..", "#."]), (2, ["#.", "#."]), (3, ["##", "#."])])
def test_the_quadrants_are_seen_in_the_order_of_the_published_table(quadrants, rows):
    expected = torch.tensor([[pixel == "#" for pixel in row] for row in rows])
    assert torch.equal(tool.seen_pixels(quadrants, 2, 2).reshape(2, 2), expected)
    large = tool.seen_pixels(quadrants).reshape(28, 28)
    assert torch.equal(large, expected.repeat_interleave(14, 0).repeat_interleave(14, 1))


def test_seen_and_unseen_pixels_are_told_apart_and_keep_their_order():
    images = torch.arange(2 * 16, dtype=torch.float32).reshape(2, 4, 4)
    x, y = tool.split(images, 1)
    assert torch.equal(y, images[:, 2:, :2].flatten(1))
    assert torch.equal(x[:, :8], images[:, :2].flatten(1)) and torch.equal(x[:, 8:], images[:, 2:, 2:].flatten(1))


def test_a_regressor_is_scored_by_the_probability_of_each_pixel():
    model = mlp((4, 3))
    x, y = torch.rand(6, 3), torch.rand(6, 4)
    oracle = torch.distributions.Bernoulli(logits=model(y), validate_args=False).log_prob(x).sum(1)
    found = tool.evaluate(model, x, y)["exact"]
    assert found["mean"] == pytest.approx(-oracle.mean().item(), abs=1e-3)  # rounded to three digits
    assert found["standard_error"] == pytest.approx(oracle.std().item() / 6**0.5, abs=1e-3)


def test_a_model_whose_latent_variables_do_nothing_has_one_likelihood_however_it_is_estimated():
    cvae = CVAE(3, 4, (8,), 2, prior="conditional")
    with torch.no_grad():
        cvae.decoder[0].weight[:, :2] = 0
        # Recognition and prior network agree: the one ignores x, the other has the same weights for y.
        cvae.encoder[0].weight[:, :3] = 0
        cvae.encoder[0].weight[:, 3:] = cvae.prior_network[0].weight
        cvae.encoder[2].weight.copy_(cvae.prior_network[2].weight)
    x, y = torch.rand(1000, 3), torch.rand(1000, 4)
    found = tool.evaluate(cvae, x, y, TINY)
    assert found["kl"]["mean"] == 0
    # Rounded to three digits.
    assert found["elbo"]["mean"] == pytest.approx(found["from_q_100"]["mean"], abs=2e-3)
    assert found["elbo"]["mean"] == pytest.approx(found["from_prior_100"]["mean"], abs=2e-3)


def test_a_model_comes_back_at_its_best_epoch(monkeypatch):
    digits = data.load("digits")
    fitting, validation = digits.subset(torch.arange(300)), digits.subset(torch.arange(300, 500))
    weights, fit = [], tool.fit

    def spoiled(model, *args, **kwargs):
        """Train, then let the live weights go on to nonsense, as a last epoch that overfits would."""
        history = fit(model, *args, **kwargs)
        weights.append(copy.deepcopy(history.best_weights))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.fill_(7)
        return history

    monkeypatch.setattr(tool, "fit", spoiled)
    training = {"epochs": 2, "learning_rate": 1e-3}
    for name in ("nn 1", "conditional 2"):
        spec = {key: value for key, value in tool.CELLS[name].items() if key != "training"}
        model, how = tool.train({**spec, "hidden_dims": [8]}, training, fitting, validation)
        assert all(torch.equal(weights[-1][key], value) for key, value in model.state_dict().items())
        assert how["validation"] == min(how["validation_by_epoch"]) and how["epochs"] == 2


def test_parts_are_stored_one_by_one_and_an_unknown_one_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(tool, "RESULTS", tmp_path / "quadrants.json")
    monkeypatch.setattr(tool.data, "load", lambda name, split="train": DIGITS[split])
    monkeypatch.setattr(tool.data, "train_validation_split", lambda images, n, seed: (images, images))
    monkeypatch.setattr(tool, "SWEEPS", {kind: [{"epochs": 1, "learning_rate": 1e-3}] for kind in ("nn", "cvae")})
    monkeypatch.setattr(tool.evaluate, "__defaults__", (TINY,))
    for part in ("sweep nn", "nn 3", "sweep cvae", "standard 1"):
        monkeypatch.setattr(sys, "argv", ["measure_quadrants.py", part])
        tool.main()
    stored = shared.read(tool.RESULTS)
    assert set(stored["cells"]) == {"nn 3", "standard 1"} and set(stored["sweeps"]) == {"nn", "cvae"}
    monkeypatch.setattr(sys, "argv", ["measure_quadrants.py", "nn 4"])
    with pytest.raises(SystemExit, match="no such part: nn 4"):
        tool.main()


def test_small_models_are_tuned_and_then_compared_with_what_was_chosen(monkeypatch, tmp_path):
    monkeypatch.setattr(tool, "RESULTS", tmp_path / "quadrants.json")
    monkeypatch.setattr(tool.data, "load", lambda name, split="train": DIGITS[split])
    monkeypatch.setattr(tool.data, "train_validation_split", lambda images, n, seed: (images, images))
    monkeypatch.setattr(tool, "FEW", {"images": 150, "held_out": 50, "epochs": 2, "latent_dim": 2})
    for name in ("FEW_TRIED", "FEW_FURTHER"):
        monkeypatch.setattr(tool, name, {kind: some[:2] for kind, some in getattr(tool, name).items()})
    monkeypatch.setattr(sys, "argv", ["measure_quadrants.py", "few tuning", "few further tuning", "few seed 3"])
    tool.main()
    stored = shared.read(tool.RESULTS)["few"]
    chosen = stored["seed 3"]["settings"]
    for kind, first in stored["tuning"]["tried"].items():
        tried = first + stored["further tuning"]["tried"].get(kind, [])
        best = min(tried, key=lambda run: sum(run["validation"]))
        assert chosen[kind] == {key: best[key] for key in chosen[kind]}
    assert set(stored["seed 3"]["test"]) == set(tool.FEW_TRIED)
    # Drawn with the same seed, the held-out images are none that the model learned from.
    model, value = tool.few("regressor", chosen["regressor"], 3, DIGITS["train"])
    rows = torch.randperm(200, generator=torch.Generator().manual_seed(3))[150:]
    assert value == tool.loss(model, *tool.split(DIGITS["train"].images[rows], 1))


DIGITS = {split: data.load("digits", split).subset(torch.arange(200)) for split in ("train", "test")}
