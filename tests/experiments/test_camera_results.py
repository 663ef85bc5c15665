"""What is stored of the camera's factors, its measures against codes that are known, and small runs of the script."""

import math
import statistics

import pytest
import torch

from experiments import factor_measures as fm
from experiments import measure_camera as script
from experiments import shared
from vaelib import data, pretrained, scene

STORED = shared.read(script.RESULTS)
PARTS = STORED["parts"]


def some(n: int, seed: int) -> data.ImageData:
    factors = scene.draw_factors(n, seed)
    return data.ImageData("scene", scene.render(factors), factors[:, -1].long(), factors=factors)


def test_the_stored_parts_say_how_they_were_made() -> None:
    assert {"question", "rivals", "tuning", "evaluation", "command"} <= set(STORED)
    assert set(PARTS) <= set(script.PARTS)
    assert set(script.PARTS) - set(PARTS) <= set(script.LATER)  # what was added to the plan and not run
    for name, part in PARTS.items():
        assert part["command"] == f'python -m experiments.measure_camera "{name}"'
        assert part["provenance"]["threads"] == 1 and part["cpu_minutes"] < 12


def test_what_was_found_follows_from_the_stored_parts() -> None:
    found = script.found()
    assert {name: PARTS["found"][name] for name in found} == found


def test_probes_find_the_factors_where_they_are_and_nothing_where_they_are_shuffled() -> None:
    factors = tuple(scene.draw_factors(n, seed) for n, seed in ((1000, 0), (300, 1), (1000, 2)))
    codes = [torch.cat([fm.targets(each), torch.eye(fm.KINDS)[each[:, 4].long()]], 1) for each in factors]
    both = fm.split(tuple(codes), factors)  # type: ignore[arg-type]
    order = torch.randperm(1000, generator=torch.Generator().manual_seed(0))
    wrong = both._replace(fit=(both.fit[0], both.fit[1][order]))
    for right, nothing in ((fm.linear(both), fm.linear(wrong)), (fm.nonlinear(both, 0, 20), fm.nonlinear(wrong, 0, 4))):
        # linear in these codes; an MLP of so few steps is no better than that
        assert min(right[name] for name in (*fm.COLUMNS, "kind")) > 0.98 and right["degrees"] < 6
        # 1,000 shuffled cases, from which a probe learns some chance: R^2 near 0, near a quarter of the kinds
        assert max(nothing[name] for name in fm.COLUMNS) < 0.1 and abs(nothing["kind"] - 0.25) < 0.1
        assert 60 < nothing["degrees"] < 120  # 90, and what 1,000 cases leave of chance


def test_mutual_information_is_that_of_distributions_known_by_hand() -> None:
    first = torch.arange(4).repeat_interleave(4).numpy()
    second = torch.arange(4).repeat(4).numpy()
    assert fm.mutual_information(first, second) == pytest.approx(0, abs=1e-12)  # independent
    assert fm.mutual_information(first, first) == pytest.approx(math.log(4))  # the entropy
    assert fm.mutual_information(first, first // 2) == pytest.approx(math.log(2))


def test_mig_and_dci_are_high_for_the_factors_low_turned_and_zero_for_noise() -> None:
    factors = scene.draw_factors(2000, 3)
    own = (factors - factors.mean(0)) / factors.std(0)
    turned = own @ fm.rotation(5, 0)
    noise = torch.randn(2000, 5, generator=torch.Generator().manual_seed(0))
    # 20 bins of 100 each: independent bins share (19 * 19) / (2 * 2,000) = 0.09 of 3 nats
    assert min(fm.mig(own, factors).values()) > 0.95 and fm.dci(own, factors) > 0.85
    assert max(fm.mig(turned, factors).values()) < 0.4 and fm.dci(turned, factors) < 0.5
    assert max(fm.mig(noise, factors).values()) < 0.02 and fm.dci(noise, factors) < 0.05


def test_independent_components_turn_independent_factors_back() -> None:
    factors = scene.draw_factors(2000, 3)
    own = (factors - factors.mean(0)) / factors.std(0)
    found = fm.unmixed(own @ fm.rotation(5, 0))
    # Uniform factors are far from normal. ICA finds each to a correlation of 0.99, which costs bins of 20 some entropy.
    assert torch.corrcoef(torch.cat([own, found], 1).T)[:5, 5:].abs().max(1).values.min() > 0.97
    assert min(fm.mig(found, factors).values()) > 0.4 and fm.dci(found, factors) > 0.7


def test_a_rotation_is_orthogonal() -> None:
    turn = fm.rotation(10, 5)
    torch.testing.assert_close(turn @ turn.T, torch.eye(10), atol=1e-5, rtol=0)


def test_the_stored_measures_of_the_shipped_model_are_found_again() -> None:
    model, test = pretrained.load("scene"), data.load("scene", "test")
    with torch.no_grad():
        mu = torch.cat([model.encode(x).mu for x in test.images.split(1000)])
    again = fm.mig(mu, fm.known(test))
    stored = PARTS["shipped"]["axes"]
    # One of 4,000 codes in another bin moves a gap by some 1e-4.
    assert again == pytest.approx(stored["mig of each"], abs=2e-3)
    ica = fm.mig(fm.unmixed(mu), fm.known(test))
    assert statistics.mean(ica[name] for name in ("height", "blur", "kind")) == pytest.approx(
        PARTS["long rivals"]["shipped, ica"]["mig"], abs=0.01
    )
    assert fm.dci(mu, fm.known(test)) == pytest.approx(stored["dci"], abs=0.02)  # forests split at other points


def test_the_stored_linear_probe_of_an_untrained_network_is_found_again() -> None:
    _, *others = script.scenes(0)
    random = script.conv_encoder(
        script.SHAPE, script.CHANNELS, script.LATENT, generator=torch.Generator().manual_seed(0)
    )
    with torch.no_grad():
        inputs = tuple(torch.cat([random(x) for x in part.images.split(1000)]) for part in others)
    both = fm.split(inputs, tuple(map(fm.known, others)))  # type: ignore[arg-type]
    stored = PARTS["rivals seed 0"]["untrained"]["linear"]
    for key, value in fm.linear(both).items():
        assert value == pytest.approx(stored[key], abs=0.3 if key == "degrees" else 0.003), key


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore:the objective went")  # beta is lowered as it goes
def test_all_parts_run_on_few_scenes_in_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    few = {"train": some(200, 0), "test": some(80, 1)}
    monkeypatch.setattr(script.data, "load", lambda name, split="train": few[split])
    for name, value in {"TRAINING": 100, "PROBING": 60, "CHOOSING": 30, "EPOCHS": 1}.items():
        monkeypatch.setattr(script, name, value)
    monkeypatch.setattr(fm.nonlinear, "__defaults__", (1,))
    monkeypatch.setitem(script.CIRCLE, "epochs", 1)
    monkeypatch.setitem(script.CIRCLE, "pictures", 36)
    monkeypatch.setitem(script.train_pretrained.MODELS["scene"], "epochs", 1)
    assert set(script.run("long seed 1")) == {"probes", "axes", "elbo", "kl saved", "ica"}
    assert set(script.run("long rivals")["pca 20"]["mlp"]) == set(PARTS["shipped"]["probes"]["mlp"])
    one, rivals = script.run("beta 4 seed 0"), script.run("rivals seed 0")
    assert set(one["probes"]["mlp"]) == set(rivals["ceiling"]["mlp"]) == set(PARTS["beta 4 seed 0"]["probes"]["mlp"])
    assert len(script.run("arc K 1")["errors"]) == 100 and len(script.run("circle K 2")["codes"][0]) == 2
