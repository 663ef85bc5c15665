"""The published training in stages: what it trains, at which rates, and that it goes on where it was cut off."""

import pytest

from experiments import reproduce_iwae as tool
from vaelib import data
from vaelib.vae import VAE


def run(folder, stages, k=3):
    train, test = data.load("digits").subset(range(400)), data.load("digits", "test").images[:40]
    model = VAE(64, (16,), 3, activation="tanh", seed=0)
    return tool.reproduce(model, k, stages, folder, train, test, samples=10, progress=False)


@pytest.mark.parametrize("k", [1, 3])
def test_stages_are_the_published_ones_and_a_second_call_goes_on(tmp_path, monkeypatch, k):
    steps = []
    fit = tool.fit
    monkeypatch.setattr(tool, "fit", lambda *a, **b: steps.append((b["epochs"], b["learning_rate"])) or fit(*a, **b))
    two = run(tmp_path, 2, k)
    three = run(tmp_path, 3, k)
    assert three[:2] == two  # the finished stages were taken from their checkpoints
    assert [stage["epochs"] for stage in three] == [1, 4, 13]
    assert steps[2:] == [
        (1, 1e-3),
        (3, pytest.approx(1e-3 * 10 ** (-1 / 7))),
        (9, pytest.approx(1e-3 * 10 ** (-2 / 7))),
    ]
    assert three[2]["test_log_evidence"] > three[0]["test_log_evidence"]
    assert run(tmp_path / "afresh", 3, k) == three


def test_seven_stages_are_1093_epochs():
    assert sum(3**stage for stage in range(7)) == 1093
