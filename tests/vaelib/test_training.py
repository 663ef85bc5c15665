"""The training loop: what it reaches, and what survives when something goes wrong."""

import functools
import io
import itertools
import math
import os
import re
import signal
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vaelib import _cuda, _progress, _run, checkpoints, data, evaluation, training
from vaelib.autoencoder import Autoencoder
from vaelib.checkpoints import CheckpointError
from vaelib.cvae import CVAE
from vaelib.distributions import bernoulli_log_prob
from vaelib.training import TrainingError, choose_device, fit
from vaelib.vae import VAE


def images(n: int = 200, dim: int = 16, seed: int = 0) -> Tensor:
    """Rows with two directions of variation, so that there is something to learn."""
    generator = torch.Generator().manual_seed(seed)
    return torch.sigmoid(torch.randn(n, 2, generator=generator) @ torch.randn(2, dim, generator=generator))


def model(seed: int = 0) -> VAE:
    return VAE(16, (8,), 2, seed=seed)


def train(vae: nn.Module, x: Tensor | data.ImageData | None = None, **options) -> training.History:
    settings = {"epochs": 3, "batch_size": 32, "device": "cpu", "progress": False} | options
    return fit(vae, images() if x is None else x, **settings)


def weights(vae: nn.Module) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in vae.parameters()]


def same(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


class stop_at:
    """An objective that is the ELBO and presses Ctrl-C during one step, once: the same when the run is resumed."""

    def __init__(self, step: int) -> None:
        self.step = step
        handle, name = tempfile.mkstemp()
        os.close(handle)
        self.not_yet = Path(name)

    def __call__(self, vae, x, y, step, generator):
        if step == self.step and self.not_yet.exists():
            self.not_yet.unlink()
            signal.raise_signal(signal.SIGINT)
        return vae.elbo(x, generator=generator)


def plain(vae, x, y, step, generator):
    return vae.elbo(x, generator=generator, check=False)


@pytest.mark.parametrize("schedule", ["linear", None])
def test_training_is_the_loop_that_the_book_writes_by_hand(schedule):
    x, mine, fitted = images(80), model(), model()
    train(fitted, x, epochs=8, batch_size=16, learning_rate=0.1, schedule=schedule)
    mine.start_at_mean(x)
    noise = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(mine.parameters(), betas=(0.9, 0.99))
    for epoch in range(8):
        for i, rows in enumerate(torch.randperm(len(x), generator=torch.Generator().manual_seed(epoch)).split(16)):
            t, factor = 5 * epoch + i, 1.0
            if schedule == "linear":
                factor = min((t + 1) / 4, (40 - t) / 36)
            optimizer.param_groups[0]["lr"] = 0.1 * factor
            optimizer.zero_grad()
            (-mine.elbo(x[rows], generator=noise).elbo.mean()).backward()
            optimizer.step()
    for ours, theirs in zip(weights(mine), weights(fitted), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


def test_training_on_the_digits_raises_the_elbo_of_unseen_digits():
    digits, test = data.load("digits"), data.load("digits", "test")
    vae = VAE(64, (128,), 8)
    untrained = evaluation.mean_elbo(vae, test.images)
    history = train(vae, digits, epochs=20, batch_size=128)
    trained = evaluation.mean_elbo(vae, test.images)
    # The best that a model without latent variables can do: every pixel has its mean.
    mean = digits.images.mean(0).clamp(1e-3, 1 - 1e-3).flatten()
    no_latents = bernoulli_log_prob(test.images.flatten(1), torch.logit(mean).expand(len(test), 64)).mean().item()
    # Untrained, every pixel has probability one half: 64 log 2 nats, and a KL on top.
    assert untrained < -64 * math.log(2) < no_latents < trained - 1
    assert history.epochs == 20 and history.elbo[-1] > history.elbo[0]


def test_history_holds_the_means_over_all_examples_also_with_a_smaller_last_batch():
    x, seen = images(70), []

    def objective(vae, batch, y, step, generator):
        seen.append(batch.mean(1).detach())
        return batch.mean(1) + 0 * vae.elbo(batch, generator=generator, check=False).elbo

    history = train(model(), x, epochs=1, objective=objective)
    assert [len(batch) for batch in seen] == [32, 32, 6]
    assert history.train == {"objective": [pytest.approx(x.mean().item(), rel=1e-5)]}
    # Every example once: the sorted values are those of the data.
    torch.testing.assert_close(torch.cat(seen).sort().values, x.mean(1).sort().values)


def test_loss_is_exactly_minus_the_elbo():
    first, second = model(), model()
    x = images(32)
    train(first, x, epochs=1, schedule=None, learning_rate=0.01)
    second.start_at_mean(x)
    optimizer = torch.optim.Adam(second.parameters(), lr=0.01, betas=(0.9, 0.99), fused=True)
    order = torch.randperm(32, generator=torch.Generator().manual_seed(0))
    loss = -second.elbo(x[order], generator=torch.Generator().manual_seed(0)).elbo.mean()
    loss.backward()
    optimizer.step()
    # The same sums in another order.
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_linear_schedule_rises_for_a_tenth_and_falls_to_zero():
    rates = []
    original = torch.optim.Adam.step
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.Adam, "step", lambda self: (rates.append(self.param_groups[0]["lr"]), original(self)))
        train(model(), images(320), epochs=10, learning_rate=0.02)
    assert len(rates) == 100 and rates[9] == max(rates) == pytest.approx(0.02)
    assert rates[0] == pytest.approx(0.002) and 0 < rates[-1] < 0.001
    assert rates[:10] == sorted(rates[:10]) and rates[10:] == sorted(rates[10:], reverse=True)


def test_the_seed_decides_everything_and_the_global_random_state_decides_nothing():
    first, second, third = model(), model(), model()
    train(first)
    torch.rand(3)
    train(second)
    train(third, seed=1)
    assert same(weights(first), weights(second)) and not same(weights(first), weights(third))


def test_fewer_images_than_a_batch_and_a_single_image_work():  # FAULTS 20, 27
    assert train(model(), images(5), epochs=2).epochs == 2
    assert train(model(), images(1), epochs=2).epochs == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learning_rate": 0.0}, "learning_rate must be a positive number, not 0.0"),
        ({"learning_rate": -1.0}, "learning_rate must be a positive number"),
        ({"learning_rate": math.nan}, "learning_rate must be a positive number"),
        ({"learning_rate": True}, "learning_rate must be a positive number, not True"),
        ({"learning_rate": "0.1"}, "learning_rate must be a positive number, not '0.1'"),
        ({"seed": 1.5}, "seed must be a whole number from 0 to 2\\*\\*32 - 1, not 1.5"),
        ({"seed": None}, "seed must be a whole number"),
        ({"seed": 2**63}, "seed must be a whole number"),
        ({"epochs": -1}, "epochs must be a whole number of at least 1, not -1"),
        ({"epochs": 0}, "epochs must be"),
        ({"batch_size": 0}, "batch_size must be"),
        ({"schedule": "cosine"}, "choose 'linear' or None"),
        ({"x": torch.zeros(0, 16)}, "the data are empty"),
        ({"validation": torch.zeros(0, 16)}, "the data are empty"),
        ({"x": torch.full((4, 16), 255.0)}, "divide by 255"),
        ({"x": torch.zeros(4, 15)}, r"\(N, 16\)"),
    ],
)
def test_settings_that_can_t_be_right_are_refused_before_anything_changes(options, message):  # FAULTS 16, 18, 19, 28
    vae = model()
    before = weights(vae)
    with pytest.raises(ValueError, match=message):
        train(vae, **options)
    assert same(before, weights(vae))


def test_data_are_checked_once_and_not_at_each_step(monkeypatch):
    calls = []
    original = VAE.check
    monkeypatch.setattr(VAE, "check", lambda self, x: (calls.append(len(x)), original(self, x))[1])
    train(model(), images(200), validation=images(50))
    assert calls == [200, 50]


def test_conditions_must_match_the_images_one_for_one():
    class Conditional(VAE):
        condition_dim = 10

        def elbo(self, x, y, **options):
            assert len(x) == len(y)
            return super().elbo(x, **options)

    vae = Conditional(16, (8,), 2)
    with pytest.raises(ValueError, match="200 images need 200 conditions y, not None"):
        train(vae)
    with pytest.raises(ValueError, match="not 7"):
        train(vae, y=np.zeros(7))
    labelled = data.ImageData("own", images().view(200, 4, 4), torch.arange(200) % 10)
    assert train(vae, labelled, validation=labelled).epochs == 3


@pytest.mark.parametrize("when", ["first epoch", "middle of an epoch"])
def test_a_loss_that_is_no_number_stops_at_that_step_and_names_it(when, tmp_path):  # FAULTS 29
    poison = {"first epoch": 0, "middle of an epoch": 9}[when]  # seven batches an epoch
    path = tmp_path / "run.safetensors"
    vae, at_the_step = model(), []

    def objective(vae, x, y, step, generator):
        if step == poison:
            at_the_step.extend(weights(vae))
            terms = vae.elbo(x, generator=generator, check=False)
            return training.ElboTerms(terms.log_likelihood, terms.kl * math.nan)
        return plain(vae, x, y, step, generator)

    with pytest.raises(TrainingError, match=f"epoch {poison // 7 + 1}, batch {poison % 7 + 1}: kl is nan"):
        train(vae, objective=objective, checkpoint=path)
    assert same(at_the_step, weights(vae))
    if poison:
        restored = model(seed=9)
        assert checkpoints.load(path, restored)["step"] == 7


def test_a_rate_far_too_high_is_reported_as_such():
    with pytest.raises(TrainingError, match="a smaller learning_rate"):
        train(model(), learning_rate=1e20, schedule=None, epochs=20)


def test_memory_that_runs_out_is_reported_with_a_smaller_batch_and_let_go(monkeypatch):  # FAULTS 30
    def objective(vae, x, y, step, generator):
        if step == 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return plain(vae, x, y, step, generator)

    vae = model()
    with pytest.raises(TrainingError, match="ran out of memory at batch_size=32: try batch_size=16"):
        train(vae, objective=objective)
    assert all(parameter.grad is None for parameter in vae.parameters())
    assert train(vae, batch_size=16).epochs == 3


def test_a_device_that_is_not_there_is_refused_with_the_one_that_is():  # FAULTS 31
    absent = "mps" if torch.cuda.is_available() else "cuda"
    with pytest.raises(ValueError, match=f"no {absent} device is available here: use device='cpu'"):
        train(model(), device=absent)
    assert choose_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("step", [0, 6, 10, 20])
def test_ctrl_c_leaves_model_history_and_checkpoint_in_agreement_and_resuming_exact(step, tmp_path):  # FAULTS 32, 33
    path = tmp_path / "run.safetensors"
    whole, stopped, resumed = model(), model(), model()
    expected = train(whole, objective=plain, validation=images(40, seed=1))
    handler = signal.getsignal(signal.SIGINT)
    stop = stop_at(step)
    history = train(stopped, objective=stop, checkpoint=path, validation=images(40, seed=1))
    assert signal.getsignal(signal.SIGINT) is handler
    assert history.interrupted == (step < 20) and history.epochs == (step + 1) // 7
    saved = model(seed=8)
    state = checkpoints.load(path, saved)
    assert state["step"] == step + 1 and same(weights(saved), weights(stopped))
    assert state["history"]["train"] == history.train
    again = train(resumed, objective=stop, checkpoint=path, validation=images(40, seed=1))
    assert same(weights(whole), weights(resumed))
    assert again.train == expected.train and again.validation == expected.validation and not again.interrupted


def test_a_second_ctrl_c_stops_at_once():
    def objective(vae, x, y, step, generator):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        return plain(vae, x, y, step, generator)

    with pytest.raises(KeyboardInterrupt):
        train(model(), objective=objective)


def test_training_works_in_a_thread_where_signals_can_t_be_caught():
    vae, histories = model(), []
    thread = threading.Thread(target=lambda: histories.append(train(vae)))
    thread.start()
    thread.join()
    assert histories[0].epochs == 3


def tanh(seed: int = 0) -> VAE:
    return VAE(16, (8,), 2, activation="tanh", seed=seed)


def weighted(beta: float):
    def objective(vae, x, y, step, generator):
        return vae.elbo(x, beta=beta, generator=generator)

    return objective


WEIGHT = 1.0


def weighted_by_a_global(vae, x, y, step, generator):
    return vae.elbo(x, beta=WEIGHT, generator=generator)


class Plus:
    """A transform with a field and a helper."""

    def __init__(self, amount: float) -> None:
        self.amount = amount

    def __call__(self, x, generator):
        return self.clamped(x + self.amount)

    def clamped(self, x):
        return x.clamp(0, 1)


class PlusAndMirror(Plus):
    def clamped(self, x):
        return x.clamp(0, 1).flip(1)


def condition_model() -> CVAE:
    return CVAE(16, 3, (8,), 2)


LABELS = torch.arange(200) % 3
# What is trained first, what is asked of the same file then, and what the message must name.
OTHER_RUNS = {
    "activation": (model, {}, tanh, {}, "activation: 'relu' there, 'tanh' here"),
    "likelihood": (model, {}, lambda: VAE(16, (8,), 2, likelihood="gaussian"), {}, "likelihood: 'bernoulli' there"),
    "sigma": (
        lambda: VAE(16, (8,), 2, likelihood="gaussian", sigma=0.1),
        {},
        lambda: VAE(16, (8,), 2, likelihood="gaussian"),
        {},
        "sigma: 0.1 there, 1.0 here",
    ),
    "size": (model, {}, lambda: VAE(16, (9,), 2), {}, r"hidden_dims: \[8\] there, \[9\] here"),
    "model seed": (model, {}, lambda: model(seed=3), {}, "weights: neither those with which that run began"),
    "frozen layer": (model, {}, lambda: frozen_encoder(model()), {}, "model: not the same here"),
    "seed": (model, {}, model, {"seed": 1}, "seed: 0 there, 1 here"),
    "epochs": (model, {}, model, {"epochs": 4}, "epochs: 3 there, 4 here"),
    "schedule": (model, {}, model, {"schedule": None}, "schedule: 'linear' there, None here"),
    "data": (model, {}, model, {"x": images(seed=5)}, "data: not the same here"),
    "mirrored data": (model, {}, model, {"x": images().flip(1)}, "data: not the same here"),
    "order of the data": (model, {}, model, {"x": images().flip(0)}, "data: not the same here"),
    "labels": (condition_model, {"y": LABELS}, condition_model, {"y": 2 - LABELS}, "conditions: not the same here"),
    "validation": (model, {}, model, {"validation": images(40)}, "validation: not the same here"),
    "no validation": (model, {"validation": images(40)}, model, {}, "validation: not the same here"),
    "beta": (model, {"objective": weighted(1.0)}, model, {"objective": weighted(8.0)}, "objective: not the same"),
    "objective": (model, {}, model, {"objective": weighted(1.0)}, "objective: not the same here"),
    "constant in the code": (
        model,
        {"objective": lambda m, x, y, step, g: m.elbo(x, beta=2.0, generator=g)},
        model,
        {"objective": lambda m, x, y, step, g: m.elbo(x, beta=3.0, generator=g)},
        "objective: not the same here",
    ),
    "default": (
        model,
        {"objective": lambda m, x, y, step, g, beta=2.0: m.elbo(x, beta=beta, generator=g)},
        model,
        {"objective": lambda m, x, y, step, g, beta=3.0: m.elbo(x, beta=beta, generator=g)},
        "objective: not the same here",
    ),
    "transform": (model, {}, model, {"transform": data.binarize}, "transform: not the same here"),
    "field of a transform": (model, {"transform": Plus(0.1)}, model, {"transform": Plus(0.2)}, "transform: not"),
    "helper of a transform": (
        *(model, {"transform": Plus(0.1)}),
        *(model, {"transform": PlusAndMirror(0.1)}, "transform: not the same here"),
    ),
    "partial": (
        *(model, {"transform": functools.partial(data.binarize, threshold=0.5)}),
        *(model, {"transform": functools.partial(data.binarize, threshold=0.4)}, "transform: not the same here"),
    ),
}


def frozen_encoder(vae: VAE) -> VAE:
    vae.encoder.requires_grad_(False)
    return vae


@pytest.mark.parametrize("name", OTHER_RUNS)
def test_another_run_s_checkpoint_is_refused_and_what_differs_is_named(name, tmp_path):  # FAULTS 59
    first, options, other, other_options, named = OTHER_RUNS[name]
    path = tmp_path / "run.safetensors"
    train(first(), checkpoint=path, **options)
    before, second = path.read_bytes(), other()
    at_start = weights(second)
    with pytest.raises(CheckpointError, match=named):
        train(second, checkpoint=path, **other_options)
    assert path.read_bytes() == before and same(at_start, weights(second))
    # The remedy: the settings repeated with a model made in the same way.
    with pytest.warns(UserWarning, match="nothing was trained"):
        assert train(first(), checkpoint=path, **options).epochs == 3


def test_a_global_value_that_an_objective_names_is_part_of_it(tmp_path, monkeypatch):  # FAULTS 59
    path = tmp_path / "run.safetensors"
    train(model(), checkpoint=path, objective=weighted_by_a_global)
    monkeypatch.setitem(globals(), "WEIGHT", 8.0)
    with pytest.raises(CheckpointError, match="objective: not the same here"):
        train(model(), checkpoint=path, objective=weighted_by_a_global)


def test_a_finished_run_says_that_nothing_was_trained(tmp_path):  # FAULTS 60
    path = tmp_path / "run.safetensors"
    first, second = model(), model()
    expected = train(first, checkpoint=path)
    before = path.read_bytes()
    with pytest.warns(UserWarning, match="nothing was trained: .* holds this run, finished after 3 epochs"):
        history = train(second, checkpoint=path)
    assert same(weights(first), weights(second)) and history.train == expected.train
    # In the process that trained it, too, where the model is at its end already.
    with pytest.warns(UserWarning, match="nothing was trained"):
        train(first, checkpoint=path)
    assert path.read_bytes() == before


def test_a_run_at_a_constant_rate_is_extended_by_epochs(tmp_path):
    path = tmp_path / "run.safetensors"
    whole, extended = model(), model()
    expected = train(whole, epochs=5, schedule=None)
    train(extended, epochs=3, schedule=None, checkpoint=path)
    history = train(model(), epochs=5, schedule=None, checkpoint=path)
    assert history.train == expected.train and not history.interrupted
    last = model(seed=4)
    checkpoints.load(path, last)
    assert same(weights(whole), weights(last))
    with pytest.raises(CheckpointError, match="epochs: 5 there, 4 here"):
        train(model(), epochs=4, schedule=None, checkpoint=path)


class WithALock:
    def __init__(self) -> None:
        self.lock = threading.Lock()

    def __call__(self, vae, x, y, step, generator):
        return vae.elbo(x, generator=generator)


def test_what_can_t_be_compared_by_content_is_taken_with_a_warning(tmp_path):
    path = tmp_path / "run.safetensors"
    train(model(), checkpoint=path, objective=WithALock())
    with pytest.warns(UserWarning) as caught:
        train(model(), checkpoint=path, objective=WithALock())
    assert any("objective (a lock) can't be compared by content" in str(each.message) for each in caught)


def test_the_same_run_is_recognised_whatever_the_number_of_threads(tmp_path):
    path, x = tmp_path / "run.safetensors", torch.rand(2000, 784, generator=torch.Generator().manual_seed(0))
    threads = torch.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            fit(VAE(784, (4,), 2), x, epochs=1 + count, schedule=None, checkpoint=path, device="cpu", progress=False)
    finally:
        torch.set_num_threads(threads)
    assert checkpoints.peek(path)["step"] == 3 * 16


def test_a_file_that_holds_no_run_is_refused(tmp_path):
    checkpoints.save(tmp_path / "model.safetensors", model())
    with pytest.raises(CheckpointError, match="no training run"):
        train(model(), checkpoint=tmp_path / "model.safetensors")


def test_ctrl_c_during_the_checkpoint_s_write_counts(tmp_path, monkeypatch):
    path, write = tmp_path / "run.safetensors", checkpoints.atomic_write
    pressed = []

    def interrupted_write(*arguments):
        if not pressed:
            pressed.append(True)
            signal.raise_signal(signal.SIGINT)
        write(*arguments)

    monkeypatch.setattr(checkpoints, "atomic_write", interrupted_write)
    history = train(model(), checkpoint=path)
    assert history.interrupted and history.epochs == 1
    assert not train(model(), checkpoint=path).interrupted


def test_ctrl_c_before_the_first_step_counts(monkeypatch):
    class PressedAtOnce(training.Bar):
        def __enter__(self):
            signal.raise_signal(signal.SIGINT)
            return super().__enter__()

    monkeypatch.setattr(training, "Bar", PressedAtOnce)
    history = train(model())
    assert history.interrupted and history.epochs == 0


@pytest.mark.parametrize("before", [signal.SIG_IGN, None])
def test_a_signal_that_was_ignored_stays_ignored(before, monkeypatch):  # FAULTS 68
    handler = signal.getsignal(signal.SIGINT)
    if before is None:  # as where C code has set it
        monkeypatch.setattr(signal, "getsignal", lambda number: None)
    else:
        signal.signal(signal.SIGINT, before)
    try:
        history = train(model(), objective=stop_at(3)) if before is not None else train(model())
        assert not history.interrupted and history.epochs == 3
        assert before is None or signal.getsignal(signal.SIGINT) is before
    finally:
        signal.signal(signal.SIGINT, handler)


def test_a_run_on_a_checkpoint_in_use_is_refused(tmp_path: Path):  # FAULTS 40
    path = tmp_path / "run.safetensors"
    with checkpoints.lock(path), pytest.raises(CheckpointError, match="another run"):
        train(model(), checkpoint=path)


def test_best_weights_are_a_copy_from_the_best_epoch():  # FAULTS 41
    vae = model()
    # A rate that overshoots later, so that the best epoch is not always the last.
    history = train(vae, epochs=12, learning_rate=0.3, schedule=None, validation=images(40, seed=0))
    assert history.best_epoch == 1 + int(np.argmax(history.validation_elbo))
    copy = {name: tensor.clone() for name, tensor in history.best_weights.items()}
    train(vae, epochs=2)
    assert all(torch.equal(copy[name], tensor) for name, tensor in history.best_weights.items())
    best = model()
    best.load_state_dict(history.best_weights)
    noise = torch.Generator().manual_seed(0)
    validation = best.elbo(images(40, seed=0), generator=noise).elbo.mean().item()
    assert validation == pytest.approx(max(history.validation_elbo), rel=1e-5)


def test_validation_does_not_change_training():
    first, second = model(), model()
    train(first)
    train(second, validation=images(50, seed=3))
    assert same(weights(first), weights(second))


def test_transform_acts_on_every_training_batch_and_not_on_validation():
    sizes = []

    def transform(x, generator):
        sizes.append(len(x))
        return data.binarize(x, generator)

    history = train(model(), epochs=1, transform=transform, validation=images(50))
    assert sizes == [32] * 6 + [8] and history.epochs == 1


def test_an_autoencoder_trains_by_its_own_loss_with_no_objective():
    autoencoder, by_hand = Autoencoder(16, (8,), 2), Autoencoder(16, (8,), 2)
    history = train(autoencoder, epochs=20, learning_rate=0.02)
    assert history.train["objective"][-1] > 0.3 * history.train["objective"][0] and history.elbo == []
    train(by_hand, epochs=20, learning_rate=0.02, objective=lambda m, x, y, step, g: -m.loss(x))
    assert same(weights(autoencoder), weights(by_hand))


class Own(nn.Module):
    """A model that knows nothing of vaelib: a linear decoder of one number, as a reader would write it."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Linear(16, 2), nn.Linear(1, 16)

    def elbo(self, x, y=None):
        mu, log_var = self.encoder(x).chunk(2, 1)
        z = mu + (0.5 * log_var).exp() * torch.randn_like(mu)
        log_likelihood = -nn.functional.binary_cross_entropy_with_logits(self.decoder(z), x, reduction="none").sum(1)
        return training.ElboTerms(log_likelihood, 0.5 * (mu.square() + log_var.exp() - 1 - log_var).sum(1))


def own(seed: int = 0) -> Own:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Own()


def test_any_module_with_an_elbo_trains_and_its_global_noise_follows_the_seed():
    first, second, third = own(), own(), own()
    before = torch.get_rng_state()
    history = train(first, epochs=5)
    assert torch.equal(before, torch.get_rng_state())
    torch.rand(3)
    train(second, epochs=5)
    train(third, epochs=5, seed=1)
    assert history.elbo[-1] > history.elbo[0]
    assert same(weights(first), weights(second)) and not same(weights(first), weights(third))


class WithLoss(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(16, 16)

    def loss(self, x):
        return (self.layer(x) - x).square().sum(1)


def test_a_loss_is_minimised():
    history = train(WithLoss(), epochs=20, learning_rate=0.02)
    assert -1 < history.train["objective"][-1] < 0 and history.train["objective"][0] < -1


def test_a_model_with_neither_bound_nor_loss_is_told_what_is_missing():
    with pytest.raises(TypeError, match=r"Linear has neither elbo\(x\) nor loss\(x\).*objective="):
        train(nn.Linear(16, 1))


class Dropping(VAE):
    """A VAE with Dropout and BatchNorm in its encoder, which notes the mode in which it is asked for its bound."""

    def __init__(self, seed: int = 0) -> None:
        network = nn.Sequential(nn.Linear(16, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 4))
        with torch.no_grad():
            draw = torch.Generator().manual_seed(seed)
            for parameter in network.parameters():
                parameter.uniform_(-0.3, 0.3, generator=draw)
        super().__init__(16, (8,), 2, seed=seed, encoder=network)
        self.modes: list[bool] = []

    def elbo(self, x, y=None, **options):
        self.modes.append(self.training)
        return super().elbo(x, y, **options)


def test_training_trains_validation_evaluates_and_the_model_gets_its_own_mode_back():  # FAULTS 64
    vae = Dropping().eval()
    frozen = vae.encoder[1].train()
    train(vae, images(64), epochs=1, validation=images(20, seed=1))
    assert vae.modes == [True, True, False] and not vae.training and frozen.training
    means = frozen.running_mean.clone()
    first, second = (evaluation.mean_elbo(vae, images(50, seed=2)) for _ in range(2))
    assert first == second and torch.equal(means, frozen.running_mean) and frozen.training and not vae.training


def test_a_run_with_dropout_resumes_bit_for_bit(tmp_path):  # FAULTS 33, 64
    path = tmp_path / "run.safetensors"
    whole, stopped, resumed = Dropping(), Dropping(), Dropping()
    stop = stop_at(10)
    train(whole, objective=plain)
    train(stopped, objective=stop, checkpoint=path)
    torch.rand(5)
    train(resumed, objective=stop, checkpoint=path)
    assert same(weights(whole), weights(resumed))
    assert torch.equal(whole.encoder[1].running_mean, resumed.encoder[1].running_mean)


def test_a_gradient_that_is_no_number_stops_before_the_weights_change(tmp_path):  # FAULTS 29
    path = tmp_path / "run.safetensors"
    vae, at_the_step = model(), []

    def objective(vae, x, y, step, generator):
        terms = vae.elbo(x, generator=generator)
        if step == 9:
            at_the_step.extend(weights(vae))
            # sqrt has no derivative at 0: the value is finite and the gradient is not.
            zero = (vae.decoder[0].weight.sum() * 0).sqrt()
            return training.ElboTerms(terms.log_likelihood + zero, terms.kl)
        return terms

    with pytest.raises(TrainingError, match="epoch 2, batch 3: the sum of the gradients is nan"):
        train(vae, objective=objective, checkpoint=path)
    assert same(at_the_step, weights(vae))
    assert checkpoints.load(path, model(seed=9))["step"] == 7


def test_an_objective_of_the_wrong_shape_is_named():
    with pytest.raises(ValueError, match=r"shape \(\), not one value per example \(32,\)"):
        train(model(), objective=lambda m, x, y, step, g: m.elbo(x).elbo.mean())


def test_the_progress_line_ends_with_both_terms_and_no_time(capsys):
    vae = model()
    history = train(vae, progress=True)
    last = capsys.readouterr().err.rstrip("\n").split("\r")[-1].strip()
    log_likelihood, kl = history.train["log_likelihood"][-1], history.train["kl"][-1]
    assert last == (
        f"3 epochs: -ELBO {kl - log_likelihood:.2f} = -log p(x|z) {-log_likelihood:.2f} + KL {kl:.2f} nats per image"
    )


class _ReplayedByHand:
    """Stands for a CUDA graph on a machine without CUDA: a replay does again what was recorded."""

    def __init__(self, update) -> None:
        self.update = update

    def register_generator_state(self, generator) -> None:
        pass

    def replay(self) -> None:
        self.update()


@pytest.fixture
def accelerator(monkeypatch):
    """The bookkeeping of the CUDA path (rates, sums, skipping after a bad loss), with CUDA's own parts replaced."""

    class Stream:
        def wait_stream(self, other) -> None:
            pass

    class OnCpu(_cuda.Recorder):
        def prepare_optimizer(self) -> None:
            super().prepare_optimizer()
            for group in self.optimizer.param_groups:
                group["capturable"] = False

        def _record(self, take_step) -> None:
            self.graph = _ReplayedByHand(lambda: take_step(self.rows))

    class OnDevice(_run.Run):
        def __init__(self, *arguments) -> None:
            super().__init__(*arguments)
            self.recorder = OnCpu(self.optimizer, self.generator, self.batch_size, True)

    monkeypatch.setattr(torch.cuda, "Stream", lambda device: Stream())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Stream())
    return lambda: monkeypatch.setattr(training, "Run", OnDevice)


def test_the_steps_of_an_accelerator_are_those_of_the_cpu(accelerator):
    expected, vae = model(), model()
    plain_history = train(expected)
    accelerator()
    history = train(vae)
    # The rate is a float32 number on the device, where the plain path has a float64 one.
    for a, b in zip(weights(expected), weights(vae), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    assert history.train["kl"] == pytest.approx(plain_history.train["kl"], rel=1e-4)


@pytest.mark.parametrize(
    ("call", "named"), [(1, "epoch 1, batch 1"), (2, "epoch 1, batch 2"), (10, "epoch 2, batch 3")]
)
def test_a_bad_step_of_an_accelerator_is_named_and_changes_no_weight(accelerator, call, named):  # FAULTS 29
    class Poisoned(VAE):
        calls = 0

        def elbo(self, x, **options):
            terms = super().elbo(x, **options)
            Poisoned.calls += 1
            return training.ElboTerms(terms.log_likelihood, terms.kl * (math.nan if Poisoned.calls == call else 1.0))

    before_the_bad_step = model()
    if call == 1:
        before_the_bad_step.start_at_mean(images())
    else:
        train(before_the_bad_step, objective=stop_at(call - 2))
    accelerator()
    vae = Poisoned(16, (8,), 2)
    with pytest.raises(TrainingError, match=f"{named}: kl is nan"):
        train(vae)
    for a, b in zip(weights(before_the_bad_step), weights(vae), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_a_run_on_an_accelerator_goes_on_with_its_rates(accelerator, tmp_path):
    """The optimizer's state comes from the file; the rate must be the one on the device again, which each step sets."""
    accelerator()
    whole, halves, objective = model(), model(), stop_at(5)
    train(whole)
    for _ in range(2):
        train(halves, objective=objective, checkpoint=tmp_path / "run.safetensors")
    for a, b in zip(weights(whole), weights(halves), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_an_accelerator_checks_what_a_transform_returned_at_the_end_of_the_epoch(accelerator, monkeypatch):
    settled = []
    monkeypatch.setattr(_run.CheckedTransform, "settle", lambda self, like: settled.append(like.shape))
    accelerator()
    train(model(), epochs=2, transform=lambda x, g: x.flip(1))
    assert settled == [(200, 16)] * 2


class OnlyElbo(nn.Module):
    """What `vaelib.contract.HasElbo` asks for, and nothing more."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(16, 1)

    def elbo(self, x, y=None):
        return -self.layer(x).square().squeeze(1)


def test_the_contract_holds_what_it_says_for_evaluation_and_names_what_is_lacking():
    only, x = OnlyElbo(), images(40)
    expected = only.elbo(x).mean().item()
    assert evaluation.mean_elbo(only, x) == pytest.approx(expected, rel=1e-6)
    with pytest.raises(TypeError, match=r"active_units needs encode of a model, and OnlyElbo lacks encode"):
        evaluation.active_units(only, x)
    with pytest.raises(TypeError, match=r"lacks log_weights, data_shape: see vaelib.contract.MayHave"):
        evaluation.log_evidence(only, x)
    with pytest.raises(TypeError, match="mean_elbo needs elbo of a model, and WithLoss lacks elbo"):
        evaluation.mean_elbo(WithLoss(), x)
    with pytest.raises(TypeError, match=r"WithLoss.loss has no parameter y, and y was given"):
        train(WithLoss(), y=LABELS)


class Beta(VAE):
    """A model with a field of its own, swept with one file."""

    weight = 1.0

    def __init__(self, beta: float) -> None:
        super().__init__(16, (8,), 2)
        self.beta = beta

    def elbo(self, x, y=None, *, generator=None, check=True):
        return super().elbo(x, beta=self.beta * self.weight, generator=generator, check=check)


class Scorer:
    beta = 1.0

    def __call__(self, vae, x, y, step, generator):
        return self.scored(vae.elbo(x, generator=generator))

    @staticmethod
    def scored(terms):
        return terms.log_likelihood - terms.kl


class OtherScorer(Scorer):
    @staticmethod
    def scored(terms):
        return terms.log_likelihood - 2 * terms.kl


def test_fields_class_values_and_static_methods_are_part_of_a_run(tmp_path, monkeypatch):  # FAULTS 59
    path = tmp_path / "field.safetensors"
    train(Beta(1.0), checkpoint=path)
    with pytest.raises(CheckpointError, match="model: not the same here"):
        train(Beta(20.0), checkpoint=path)
    monkeypatch.setattr(Beta, "weight", 20.0)
    with pytest.raises(CheckpointError, match="model: not the same here"):
        train(Beta(1.0), checkpoint=path)
    path = tmp_path / "scorer.safetensors"
    train(model(), objective=Scorer(), checkpoint=path)
    with pytest.raises(CheckpointError, match="objective: not the same here"):
        train(model(), objective=OtherScorer(), checkpoint=path)
    monkeypatch.setattr(Scorer, "beta", 2.0)
    with pytest.raises(CheckpointError, match="objective: not the same here"):
        train(model(), objective=Scorer(), checkpoint=path)


kl = 3.0


def test_a_global_that_shares_its_name_with_an_attribute_is_no_part_of_an_objective(tmp_path, monkeypatch):
    path = tmp_path / "run.safetensors"

    def objective(vae, x, y, step, generator):
        terms = vae.elbo(x, generator=generator)
        return terms.log_likelihood - terms.kl

    train(model(), objective=objective, checkpoint=path)
    monkeypatch.setitem(globals(), "kl", 4.0)
    with pytest.warns(UserWarning, match="nothing was trained"):
        train(model(), objective=objective, checkpoint=path)


class PlainLikelihood:
    """A class of the reader's own that is no module: its repr holds an address."""

    name = "plain"

    def __init__(self, scale: float = 1.0) -> None:
        self.scale = scale

    def log_prob(self, x, decoded):
        return -self.scale * (x - decoded).square().sum(-1)

    def mean(self, decoded):
        return decoded

    def sample(self, decoded, generator=None):
        return decoded

    def check(self, x):
        pass


def test_a_likelihood_of_a_plain_class_is_recognised_by_its_fields(tmp_path):
    path = tmp_path / "run.safetensors"
    trained = VAE(16, (8,), 2, likelihood=PlainLikelihood())
    train(trained, checkpoint=path)
    checkpoints.load(path, VAE(16, (8,), 2, likelihood=PlainLikelihood()))
    with pytest.raises(CheckpointError, match=r"likelihood: 'PlainLikelihood\(scale=1.0\)' there"):
        checkpoints.load(path, VAE(16, (8,), 2, likelihood=PlainLikelihood(30.0)))


def test_terms_without_their_sums_are_refused_and_not_averaged():
    x = images(32)

    def terms(log_likelihood, kl):
        return lambda vae, x, y, step, generator: training.ElboTerms(log_likelihood(vae, x), kl(vae, x))

    def right(vae, x):
        return vae.elbo(x).log_likelihood

    def per_dimension(vae, x):
        mu, log_var = vae.encode(x)
        return 0.5 * (mu.square() + log_var.exp() - 1 - log_var)

    for log_likelihood, kl, named in (
        (right, per_dimension, r"kl has shape \(32, 2\), not one value per example \(32,\)"),
        (lambda vae, x: right(vae, x).mean(), lambda vae, x: vae.elbo(x).kl, r"log_likelihood has shape \(\)"),
    ):
        with pytest.raises(ValueError, match=named):
            train(model(), x, objective=terms(log_likelihood, kl))


def test_a_weight_for_each_example_multiplies_its_own_kl():
    x, weight = images(32), torch.linspace(0, 2, 32)
    first, second = model(), model()
    options = {"epochs": 1, "schedule": None}

    def by_terms(vae, x, y, step, generator):
        return vae.elbo(x, beta=weight, generator=generator)

    def by_hand(vae, x, y, step, generator):
        log_likelihood, kl = vae.elbo(x, generator=generator)
        return log_likelihood - weight * kl

    train(first, x, objective=by_terms, **options)
    train(second, x, objective=by_hand, **options)
    for a, b in zip(weights(first), weights(second), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)  # the same sums in another order


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_progress_line_of_a_terminal_moves_and_shows_both_terms_while_training_runs(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert _progress.is_watched() and _progress.stream() is terminal
    clock = itertools.count()
    monkeypatch.setattr("tqdm.std.time", lambda: 10.0 * next(clock))  # so that no line is left out
    train(model(), images(1600), epochs=2, progress=True)  # 50 steps an epoch
    lines = terminal.getvalue().split("\r")
    for shown in ("20%", "40%", "50%", "70%", "90%", "100%"):  # each 20 steps, and at the end of an epoch
        assert any(
            re.match(rf" *{shown}.*-ELBO .* = -log p\(x\|z\) .* \+ KL .* nats per image", line) for line in lines
        ), shown
    assert any("epoch 1: -ELBO" in line for line in lines) and any("epoch 2: -ELBO" in line for line in lines)
    assert lines[-1].startswith("2 epochs: -ELBO")


def test_nobody_watches_where_there_is_no_terminal_and_no_line_is_written_where_none_is_wanted(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stderr", None)
    assert not _progress.is_watched()
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert not _progress.is_watched()
    train(model(), progress=False)
    assert sys.stderr.getvalue() == "" and capsys.readouterr().out == ""


def test_a_plain_objective_and_a_stopped_run_have_a_line_of_their_own(capsys):
    train(WithLoss(), progress=True)
    assert re.search(r"3 epochs: objective -\d+\.\d\d\s*$", capsys.readouterr().err)
    train(model(), progress=True, objective=stop_at(9))
    assert "1 epochs, stopped in epoch 2: -ELBO" in capsys.readouterr().err


def test_the_order_of_the_images_is_another_in_each_epoch_and_for_each_seed():
    def orders(seed):
        seen = []

        def objective(vae, x, y, step, generator):
            seen.append(x[:, 0].tolist())
            return vae.elbo(x, generator=generator)

        train(model(), epochs=2, batch_size=200, objective=objective, seed=seed)
        return seen

    found = [order for seed in (0, 1, 2) for order in orders(seed)]
    assert all(sorted(order) == sorted(found[0]) for order in found)
    assert len({tuple(order) for order in found}) == 6 and orders(1) == found[2:4]


def test_a_single_step_of_the_schedule_has_the_whole_rate():
    whole, constant = model(), model()
    train(whole, epochs=1, batch_size=200, learning_rate=0.01)
    train(constant, epochs=1, batch_size=200, learning_rate=0.01, schedule=None)
    assert same(weights(whole), weights(constant)) and not same(weights(whole), weights(model()))


def test_two_steps_of_the_schedule_are_whole_and_whole():
    rates = [training._rate(step, 2, 0.5, "linear") for step in range(2)]
    assert rates == [0.5, 0.5]
    assert [training._rate(step, 30, 1.0, "linear") for step in (0, 1, 2, 3, 16, 29)] == pytest.approx(
        [1 / 3, 2 / 3, 1, 1, 14 / 27, 1 / 27]
    )
    assert training._rate(7, 30, 0.5, None, seed=0) == 0.5


def test_memory_that_runs_out_with_one_image_in_a_batch_is_not_told_to_take_none():
    def objective(vae, x, y, step, generator):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(TrainingError, match="at batch_size=1: try batch_size=1"):
        train(model(), images(3), batch_size=1, objective=objective)


def test_a_divergence_in_the_very_first_step_leaves_the_model_as_it_began(tmp_path):
    vae, path = model(), tmp_path / "run.safetensors"
    before = model()
    before.start_at_mean(images())
    with pytest.raises(TrainingError, match="epoch 1, batch 1: log_likelihood is -inf"):
        train(vae, checkpoint=path, objective=lambda m, x, y, s, g: infinite(m.elbo(x, generator=g)))
    assert same(weights(vae), weights(before)) and not path.exists()


def infinite(terms):
    return training.ElboTerms(terms.log_likelihood - math.inf, terms.kl)


def test_the_objective_alone_is_named_where_its_terms_are_finite():
    with pytest.raises(TrainingError, match="epoch 1, batch 2: objective is nan"):
        train(model(), objective=lambda m, x, y, s, g: m.elbo(x).elbo * (math.nan if s == 1 else 1.0))


def test_a_model_of_one_s_own_may_take_a_generator_a_check_or_anything():
    seen = []

    class Asked(WithLoss):
        def loss(self, x, check=True, generator=None):
            seen.append((check, generator))
            return super().loss(x)

    class Anything(WithLoss):
        def loss(self, x, **options):
            seen.append((options.get("check"), options.get("generator")))
            return super().loss(x)

    for kind in (Asked, Anything):
        train(kind(), epochs=1, batch_size=200)
    assert [check for check, _ in seen] == [False, False]
    assert all(isinstance(generator, torch.Generator) for _, generator in seen)
    by_anything = training.fit(Anything(), images(), y=LABELS, epochs=1, device="cpu", progress=False)
    assert by_anything.epochs == 1


def test_the_best_epoch_of_a_plain_objective_is_that_of_its_highest_value():
    history = train(WithLoss(), epochs=6, learning_rate=1.0, schedule=None, validation=images(40))
    scores = history.validation["objective"]
    assert history.best_epoch == 1 + int(np.argmax(scores)) and history.validation_elbo == []
