"""The stored comparison of cures of collapse, and small runs of the script that makes it."""

import itertools
import json
from pathlib import Path

import pytest
import torch

from experiments import measure_collapse as script
from vaelib import data
from vaelib.training import fit
from vaelib.vae import VAE

PATH = Path(__file__).resolve().parents[2] / "book/results/collapse.json"
STORED = json.loads(PATH.read_text(encoding="utf-8")) if PATH.is_file() else {}


def flat(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([each.detach().flatten() for each in model.parameters()])


def digits(kind: str) -> dict[str, torch.Tensor]:
    return script.images_of(kind, data.load("digits"), data.load("digits", "test"))


def test_each_stored_arm_says_how_it_was_made_and_chose_its_rate_on_validation_images() -> None:
    assert {"question", "rivals", "tuning", "evaluation", "yes"} <= set(STORED)
    for name, part in STORED["parts"].items():
        kind, arm = name.split(": ")
        assert arm in script.ARMS[kind] and {"command", "provenance", "cpu_minutes"} <= set(part)
        assert part["learning_rate"] == float(max(part["validation"], key=part["validation"].get))
        assert {f"{rate:.6g}" for rate in script.RATES} <= set(part["validation"])


def test_stored_differences_are_paired_and_follow_from_the_stored_runs() -> None:
    assert STORED["differences"] == script.differences(STORED["parts"])


def test_a_stored_run_is_found_again_from_scratch() -> None:
    try:
        source, test = data.load("mnist"), data.load("mnist", "test")
    except data.DataNotFoundError:
        pytest.skip("MNIST is not at hand")
    part, images = STORED["parts"]["sigma: no code"], script.images_of("sigma", source, test)
    model, _ = script.train("sigma", "no code", images["training"], part["learning_rate"], seed=0, epochs=2)
    # Two epochs find the mean image as ten do; a constant, so that nothing is left to noise but Adam's last steps.
    assert script.bound(model, "no code", images["few"], 1) == pytest.approx(part["runs"][0]["L_500"], abs=0.3)


def test_the_loop_without_a_cure_is_that_of_fit() -> None:
    x = digits("sigma")["training"]
    model, _ = script.train("sigma", "none", x, 5e-3, seed=2, epochs=3)
    other = VAE(64, script.HIDDEN, script.LATENT_DIM, likelihood="gaussian", sigma=script.SIGMA, seed=2)
    fit(other, x, epochs=3, learning_rate=5e-3, seed=2, device="cpu", progress=False)
    torch.testing.assert_close(flat(model), flat(other), rtol=0, atol=1e-5)  # the same sums, perhaps in another order


@pytest.mark.parametrize("seen", ["all", "near", "none"])
def test_probabilities_of_all_small_images_sum_to_one_for_each_code(seen: str) -> None:
    model = script.Autoregressive(2, (5,), 2, seen, seed=1)
    with torch.no_grad():
        model.pixels.normal_(generator=torch.Generator().manual_seed(0))
    every = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 4)
    z = torch.randn(3, 1, 2, generator=torch.Generator().manual_seed(1)).expand(3, 16, 2)
    total = model.log_likelihood(every, model.decode(z)).exp().sum(1)
    torch.testing.assert_close(total, torch.ones(3), rtol=0, atol=1e-5)  # float32


def test_a_pixel_sees_earlier_pixels_alone_and_near_ones_are_left_and_above() -> None:
    every, near = script.earlier(4, "all"), script.earlier(4, "near")
    assert torch.equal(every, torch.tril(torch.ones(16, 16), -1))
    assert near[5].nonzero().flatten().tolist() == [0, 1, 2, 4]
    assert near[4].nonzero().flatten().tolist() == [0, 1] and near[0].sum() == 0
    assert script.earlier(4, "none").sum() == 0


def test_free_bits_and_annealing_change_the_objective_as_they_say() -> None:
    x = digits("sigma")["training"][:50]
    model = script.fresh("sigma", "none", 8, seed=0)

    def maximised(arm: str, t: int) -> tuple[float, float, float]:
        noise = torch.Generator().manual_seed(0)
        found = script.objective(model, x, arm, t, 100, noise)
        return found[0].item(), found[1].item(), found[2].item()

    value, log_likelihood, kl = maximised("none", 0)
    assert value == pytest.approx(log_likelihood - kl, abs=1e-4)
    assert maximised("annealing", 25)[0] == pytest.approx(log_likelihood - 0.5 * kl, abs=1e-4)
    assert maximised("annealing", 75)[0] == pytest.approx(value, abs=1e-4)
    # a fresh model's KL is below the floor in each dimension
    assert kl < script.FLOOR
    assert maximised("free bits", 0)[0] == pytest.approx(log_likelihood - 10 * script.FLOOR, abs=1e-4)
    low = maximised("free bits 0.02", 0)[0]
    assert log_likelihood - kl - 0.2 <= low + 1e-4 and low <= log_likelihood - max(kl, 0.2) + 1e-4
    assert maximised("annealing together", 25)[0] == maximised("annealing", 25)[0]


def test_extra_steps_of_the_encoder_leave_the_decoder_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    x = digits("sigma")["training"]
    seen: list[torch.Tensor] = []

    def spy(model: VAE, *others: object) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        seen.append(flat(model.decoder))
        return script_objective(model, *others)

    script_objective = script.objective
    monkeypatch.setattr(script, "objective", spy)
    script.train("sigma", "aggressive", x[:256], 1e-3, seed=0, epochs=5)
    # Ten steps; before each of the first two, five of the encoder: the decoder changes ten times.
    assert len(seen) == 10 + 2 * script.AGGRESSIVE
    changes = sum(not torch.equal(a, b) for a, b in itertools.pairwise(seen))
    assert changes == 9  # and once after the last call


def test_each_kind_has_its_own_sigma_and_annealing_together_no_head_start() -> None:
    sigmas = {kind: script.fresh(kind, "none", 8, 0).log_sigma.exp().item() for kind in script.SIGMAS}
    assert sigmas == pytest.approx({"sigma": 2.5, "sigma 2.0": 2.0})
    x = digits("autoregressive")["training"][:200]
    assert script.head_start("autoregressive", "annealing together", x) is None
    assert script.head_start("sigma 2.0", "none", x) is None


def test_training_begins_at_the_model_without_a_code() -> None:
    x = digits("autoregressive")["training"]
    start = script.head_start("autoregressive", "none", x[:200])
    assert start is not None and script.head_start("autoregressive", "together", x[:200]) is None
    _, curve = script.train("autoregressive", "none", x[:200], 1e-3, 0, epochs=1, start=start)
    without = -script.bound(start, "no code", x[:200], 1)
    # the first batch, with a code that says little yet
    assert curve[0][1] == pytest.approx(without, abs=6)


def test_a_difference_is_decided_beyond_4_3_standard_errors() -> None:
    def part(*values: float) -> dict:
        return {"runs": [{"L_500": value} for value in values]}

    parts = {"sigma: none": part(0, 0, 0), "sigma: annealing": part(1.0, 1.1, 0.9), "sigma: free bits": part(1, -1, 1)}
    found = script.differences(parts)
    assert found["sigma: annealing"]["none"]["verdict"] == "better"
    assert found["sigma: free bits"]["none"]["verdict"] == "not decided"


def test_script_runs_on_the_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "RATES", (3e-3, 9e-3))
    monkeypatch.setattr(script, "SEEDS", (0, 1))
    monkeypatch.setattr(script, "EPOCHS", {"sigma": 2, "autoregressive": 2})
    source, test = data.load("digits"), data.load("digits", "test")
    parts = {
        f"{kind}: {arm}": script.measure(kind, arm, source, test)
        for kind, arm in (("sigma", "none"), ("sigma", "learned sigma"), ("autoregressive", "none"),
                          ("autoregressive", "no code"))
    }  # fmt: skip
    assert len(parts["sigma: none"]["runs"]) == 2 and "sigma" in parts["sigma: learned sigma"]["runs"][0]
    assert script.differences(parts)["sigma: learned sigma"]["none"]["verdict"] == "better"
