"""A checkpoint gives back exactly what was saved, or raises and changes nothing (faults 34 to 41)."""

import argparse
import hashlib
import json
import math
import os
import pickle
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch
from torch import nn

from vaelib import _identity, checkpoints
from vaelib.checkpoints import CheckpointError
from vaelib.vae import VAE

# A child process that saves for ever: weights and state of one save carry the same number.
ENDLESS_SAVING = """
import itertools, sys, torch
from vaelib import checkpoints
model = torch.nn.Linear(300, 300)
for i in itertools.count():
    torch.nn.init.constant_(model.weight, i), torch.nn.init.constant_(model.bias, i)
    checkpoints.save(sys.argv[1], model, i=i)
    if i == 3:
        print("ready", flush=True)
"""
# A child process that kills itself at one named call in the middle of its second save.
KILLED_AT = """
import os, signal, sys, torch
from vaelib import checkpoints
model = torch.nn.Linear(300, 300)
torch.nn.init.constant_(model.weight, 0), torch.nn.init.constant_(model.bias, 0)
checkpoints.save(sys.argv[1], model, i=0)
torch.nn.init.constant_(model.weight, 1), torch.nn.init.constant_(model.bias, 1)
die = (lambda *_: os.kill(os.getpid(), signal.SIGKILL)) if hasattr(signal, "SIGKILL") else (lambda *_: os._exit(9))
setattr(os, sys.argv[2], die)
checkpoints.save(sys.argv[1], model, i=1)
"""
LOCK_AND_WAIT = """
import sys, time
from vaelib import checkpoints
with checkpoints.lock(sys.argv[1]):
    print("locked", flush=True)
    time.sleep(60)
"""


class Tiny(nn.Module):
    def __init__(self, n: int = 2, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.weight = nn.Parameter(torch.randn(n, 3, generator=generator))
        self.register_buffer("steps", torch.tensor(7))


def start(script: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", script, *arguments], stdout=subprocess.PIPE, text=True)


def same(a: object, b: object) -> bool:
    """Equal values of equal types, tensors bit for bit (NaN equals NaN)."""
    if type(a) is not type(b):
        return False
    if isinstance(a, torch.Tensor):
        bits = [t.contiguous().reshape(-1).view(torch.uint8) for t in (a, b)]
        return a.dtype == b.dtype and a.shape == b.shape and torch.equal(*bits)
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return repr(a) == repr(b)  # repr tells -0.0 from 0.0 and every other double from its neighbour


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in model.state_dict().items()}


def reseal(path: Path, old: bytes, new: bytes) -> None:
    """Change the file and give it a right checksum again: what another version, not an accident, would have written."""
    assert len(old) == len(new)
    data = path.read_bytes()
    header = json.loads(safetensors.safe_open(path, "pt").metadata()["vaelib"])
    blank = data.replace(header["sha256"].encode(), b"0" * 64).replace(old, new)
    assert blank.count(new) == 1
    path.write_bytes(blank.replace(b"0" * 64, hashlib.sha256(blank).hexdigest().encode(), 1))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.safetensors"


# What was saved comes back


@pytest.mark.parametrize(
    "value",
    [
        *(None, True, False, 0, -1, 2**200, "", 'θ \n\ud800 "sha256":"' + "0" * 64, '\\"sha256\\":\\"' + "0" * 64),
        *(0.1, -0.0, math.pi * 1e-300, 5e-324, math.inf, -math.inf, math.nan),
        *([], (), {}, [()], ([1, 2.0],), {1: {"1": [None]}, 0: (3,)}, {"tensor": "x"}, {"tuple": [1]}, {"dict": []}),
        *(torch.tensor(2.5), torch.zeros(0), torch.zeros(3, 0, 2), torch.tensor([math.nan, math.inf, -0.0])),
        *(torch.tensor([0.1, 1e-310], dtype=torch.float64), torch.tensor([1j]), torch.tensor([True, False])),
        *(torch.tensor([0.1, 6e-8]).half(), torch.tensor([0.1, 1e38]).bfloat16(), torch.tensor([2**62, -1])),
        torch.Generator().manual_seed(3).get_state(),
        {"a": [torch.ones(2), {5: (torch.zeros(1), torch.zeros(1))}]},
    ],
    ids=lambda value: repr(value)[:30].encode("ascii", "replace").decode(),
)
def test_every_kind_of_state_comes_back_bit_for_bit(path: Path, value: object) -> None:
    checkpoints.save(path, Tiny(), value=value)
    assert same(checkpoints.load(path, Tiny()), {"value": value})
    assert same(checkpoints.peek(path), {"value": value})


def test_weights_and_buffers_come_back_in_place(path: Path) -> None:
    saved, model = Tiny(seed=1), Tiny(seed=2)
    parameter = model.weight
    checkpoints.save(path, saved)
    model.steps.zero_()
    assert checkpoints.load(path, model) == {}
    assert same(weights(model), weights(saved))
    assert model.weight is parameter and model.weight.requires_grad  # an optimiser that holds it sees the new values


def test_training_resumed_from_a_checkpoint_equals_training_never_interrupted(path: Path) -> None:
    def run(model: nn.Module, optimizer: torch.optim.Optimizer, generator: torch.Generator, steps: int) -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            model(torch.randn(8, 5, generator=generator)).square().sum().backward()
            optimizer.step()

    def build(seed: int) -> tuple[nn.Module, torch.optim.Optimizer, torch.Generator]:
        model = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 2))
        return model, torch.optim.Adam(model.parameters(), lr=0.01), torch.Generator().manual_seed(seed)

    model, optimizer, generator = build(0)
    run(model, optimizer, generator, 3)
    checkpoints.save(path, model, optimizer=optimizer.state_dict(), rng=generator.get_state())
    run(model, optimizer, generator, 4)

    resumed, other_optimizer, other_generator = build(99)
    state = checkpoints.load(path, resumed)
    other_optimizer.load_state_dict(state["optimizer"])
    other_generator.set_state(state["rng"])
    run(resumed, other_optimizer, other_generator, 4)
    assert same(weights(resumed), weights(model))
    assert same(other_optimizer.state_dict(), optimizer.state_dict())


def test_shared_and_strided_tensors_come_back_as_they_look(path: Path) -> None:
    tied = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    tied[1].weight = tied[0].weight
    grid = torch.arange(12.0).reshape(3, 4)
    views = {"t": grid.T, "column": grid[:, 1], "same": grid, "wide": torch.ones(1).expand(5)}
    checkpoints.save(path, tied, **views)
    other = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    assert same(checkpoints.load(path, other), views)
    assert same(weights(other), weights(tied))


def test_half_precision_models_and_models_without_weights_work(path: Path) -> None:
    for model, other in [(Tiny(seed=1).half(), Tiny(seed=2).half()), (nn.Identity(), nn.Identity())]:
        checkpoints.save(path, model, n=1)
        assert checkpoints.load(path, other) == {"n": 1}
        assert same(weights(other), weights(model))


def test_equal_content_gives_equal_bytes(tmp_path: Path) -> None:
    for name in "abcdefgh":  # the order of two metadata entries changes from save to save
        checkpoints.save(tmp_path / name, Tiny(), epoch=1, t=torch.ones(2))
    assert len({(tmp_path / name).read_bytes() for name in "abcdefgh"}) == 1


def test_file_is_plain_safetensors_that_says_what_wrote_it(path: Path) -> None:
    checkpoints.save(path, Tiny(seed=4), n=1)
    with safetensors.safe_open(path, "pt") as file:
        header = json.loads(file.metadata()["vaelib"])
        assert torch.equal(file.get_tensor("model.weight"), Tiny(seed=4).weight)
    assert (header["format"], header["model"], header["torch"]) == (1, "Tiny", torch.__version__)


def test_saved_best_weights_do_not_move_with_the_live_ones(path: Path) -> None:
    model = Tiny(seed=1)
    before = weights(model)
    checkpoints.save(path, model, best=model.state_dict())
    best = checkpoints.load(path, model)["best"]
    with torch.no_grad():
        model.weight += 1
    assert same(best, before) and same(checkpoints.peek(path)["best"], before)
    best["weight"].zero_()  # nor the other way round
    assert model.weight.ne(0).all()


def test_no_device_name_is_written_so_any_device_can_load(path: Path) -> None:
    # The CUDA side of this claim needs a GPU; on the CPU, what can be checked is that no device enters the file.
    checkpoints.save(path, Tiny(), optimizer=torch.optim.Adam(Tiny().parameters()).state_dict())
    assert b"cpu" not in path.read_bytes().replace(torch.__version__.encode(), b"")
    assert checkpoints.peek(path)["optimizer"]["param_groups"][0]["params"] == [0]


# Damage


def test_no_flipped_bit_is_accepted_and_no_weight_changes(path: Path) -> None:
    checkpoints.save(path, Tiny(seed=1), epoch=3)
    data = path.read_bytes()
    model = Tiny(seed=2)
    before = weights(model)
    accepted = []
    for bit in range(8 * len(data)):  # each bit of the file, header, checksum and weights alike
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        try:
            checkpoints.load(path, model)
        except CheckpointError:
            continue
        accepted.append(bit)
    assert accepted == []
    assert same(weights(model), before)
    path.write_bytes(data)
    assert checkpoints.load(path, model) == {"epoch": 3}


def test_no_truncated_or_lengthened_file_is_accepted(path: Path) -> None:
    checkpoints.save(path, Tiny(seed=1), epoch=3)
    data = path.read_bytes()
    model = Tiny(seed=2)
    before = weights(model)
    for cut in [*(data[:n] for n in range(len(data))), data + b"\0", data + data]:
        path.write_bytes(cut)
        with pytest.raises(CheckpointError, match="damaged"):
            checkpoints.load(path, model)
    assert same(weights(model), before)


def test_hostile_pickle_is_refused_and_runs_nothing(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"  # torch.load hands names in .safetensors to safetensors

    class Hostile:
        def __reduce__(self) -> tuple[object, ...]:
            return os.mkdir, (str(tmp_path / "pwned"),)

    torch.save({"weight": Hostile()}, path)
    torch.load(path, weights_only=False)
    assert (tmp_path / "pwned").exists()  # the file is hostile indeed
    (tmp_path / "pwned").rmdir()

    zipped = path.read_bytes()
    torch.save({"weight": Hostile()}, path, _use_new_zipfile_serialization=False)
    plain = [pickle.dumps(Hostile(), protocol) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)]
    for data in [zipped, path.read_bytes(), *plain]:
        path.write_bytes(data)
        for call in (lambda: checkpoints.load(path, Tiny()), lambda: checkpoints.peek(path)):
            with pytest.raises(CheckpointError, match=r"Pickle files .* are refused"):
                call()
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("data", [b"", b"\0" * 100, b"<!DOCTYPE html>", safetensors.torch.save({"a": torch.ones(1)})])
def test_foreign_file_is_refused(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"not written by vaelib\.checkpoints\.save"):
        checkpoints.load(path, Tiny())


def test_newer_format_asks_for_an_upgrade(path: Path) -> None:
    checkpoints.save(path, Tiny(seed=1))
    reseal(path, b'\\"format\\":1', b'\\"format\\":2')
    model = Tiny(seed=2)
    with pytest.raises(CheckpointError, match=r"format 2.*upgrade vaelib"):
        checkpoints.load(path, model)
    assert same(weights(model), weights(Tiny(seed=2)))


# Another model


def test_another_architecture_is_refused_with_every_difference_named(path: Path) -> None:
    checkpoints.save(path, nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2, bias=False), nn.Linear(2, 2)))
    model = nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 2))
    before = weights(model)
    with pytest.raises(CheckpointError) as caught:
        checkpoints.load(path, model)
    for line in [
        "1.bias: not in the file, model (2,) float32",
        "2.weight: file (2, 2) float32, not in the model",
        "2.bias: file (2,) float32, not in the model",
        "0.weight: file (3, 4) float32, model (5, 4) float32",
        "0.bias: file (3,) float32, model (5,) float32",
        "1.weight: file (2, 3) float32, model (2, 5) float32",
    ]:
        assert f"\n  {line}\n" in str(caught.value)
    assert same(weights(model), before)


def test_another_precision_is_refused(path: Path) -> None:
    checkpoints.save(path, Tiny())
    with pytest.raises(CheckpointError, match=r"weight: file \(2, 3\) float32, model \(2, 3\) float64"):
        checkpoints.load(path, Tiny().double())


def test_sizes_that_would_broadcast_are_refused(path: Path) -> None:
    checkpoints.save(path, Tiny(1))  # (1, 3) fills (2, 3) where copy_ alone is asked
    with pytest.raises(CheckpointError, match=r"weight: file \(1, 3\) float32, model \(2, 3\) float32"):
        checkpoints.load(path, Tiny(2))


# What no weight's shape tells


def zeros(model: nn.Module) -> nn.Module:
    with torch.no_grad():
        for each in (*model.parameters(), *model.buffers()):
            each.zero_()
    return model


class Skip(nn.Module):
    """A module as a reader would write it: a flag, a function, and a counter that goes on by use."""

    def __init__(self, skip: bool = True, act: Callable[[torch.Tensor], torch.Tensor] = torch.relu) -> None:
        super().__init__()
        self.layer, self._skip, self.act, self.calls = nn.Linear(3, 3), skip, act, 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return self.act(self.layer(x)) + (x if self._skip else 0)


class OnlyTwo(nn.Module):
    """Runs two of the layers that it has."""

    def __init__(self, layers: nn.Sequential) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers[1](self.layers[0](x))


class Halved(VAE):
    """A VAE that decodes in a way of its own."""

    def decode(self, z: torch.Tensor, y: torch.Tensor | None = None) -> torch.Tensor:
        return super().decode(z, y) / 2


def attention(heads: int, batch_first: bool = True) -> nn.Module:
    return nn.TransformerEncoderLayer(8, heads, 16, 0.0, batch_first=batch_first)


OTHERS: dict[str, tuple[Callable[[], nn.Module], Callable[[], nn.Module], str]] = {
    "slope": (lambda: nn.LeakyReLU(0.01), lambda: nn.LeakyReLU(0.9), "negative_slope: 0.01 there, 0.9 here"),
    "padding": (
        lambda: nn.Sequential(nn.Conv2d(1, 1, 3, padding=1)),
        lambda: nn.Sequential(nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular")),
        "0.padding_mode: 'zeros' there, 'circular' here",
    ),
    "stride": (
        lambda: nn.Conv2d(1, 1, 3, stride=1),
        lambda: nn.Conv2d(1, 1, 3, stride=2),
        r"stride: \[1, 1\] there, \[2, 2\] here",
    ),
    "eps": (lambda: nn.LayerNorm(3), lambda: nn.LayerNorm(3, eps=0.1), "eps: 1e-05 there, 0.1 here"),
    "groups": (lambda: nn.GroupNorm(1, 4), lambda: nn.GroupNorm(2, 4), "num_groups: 1 there, 2 here"),
    "running means": (
        lambda: nn.BatchNorm1d(3, affine=False, track_running_stats=True),
        lambda: nn.BatchNorm1d(3, eps=0.5, affine=False, track_running_stats=True),
        "eps: 1e-05 there, 0.5 here",
    ),
    "heads": (lambda: attention(2), lambda: attention(4), "self_attn.num_heads: 2 there, 4 here"),
    "order of axes": (lambda: attention(2), lambda: attention(2, False), "self_attn.batch_first: True there, False"),
    "shape": (
        lambda: nn.Unflatten(1, (2, 3)),
        lambda: nn.Unflatten(1, (3, 2)),
        r"unflattened_size: \[2, 3\] there, \[3, 2\] here",
    ),
    "flag": (Skip, lambda: Skip(False), "_skip: True there, False here"),
    "function": (Skip, lambda: Skip(act=torch.tanh), "act: relu there, tanh here"),
    "flag deep in a VAE": (
        lambda: VAE(4, (3,), 2, encoder=nn.Sequential(nn.Linear(4, 3), Skip(), nn.Linear(3, 4))),
        lambda: VAE(4, (3,), 2, encoder=nn.Sequential(nn.Linear(4, 3), Skip(False), nn.Linear(3, 4))),
        "encoder.1._skip: True there, False here",
    ),
    "kind of a layer": (
        lambda: nn.Sequential(nn.Linear(3, 3), nn.GELU()),
        lambda: nn.Sequential(nn.Linear(3, 3), nn.Softsign()),
        "1: 'GELU' there, 'Softsign' here",
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_setting_that_no_weight_s_shape_tells_is_refused_by_name(path: Path, name: str) -> None:
    first, second, said = OTHERS[name]
    checkpoints.save(path, first())
    other = zeros(second())
    with pytest.raises(CheckpointError, match=rf"do not fit this .*\n  {said}(?s:.*)\nBuild the model as it was"):
        checkpoints.load(path, other)
    assert all(not each.any() for each in other.state_dict().values())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        checkpoints.load(path, zeros(first()))  # the remedy


def test_weights_go_into_the_same_architecture_however_it_was_trained_and_seeded(path: Path) -> None:
    def build(rate: float, seed: int) -> VAE:
        inner = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3, momentum=rate), nn.ReLU(rate > 0), nn.Dropout(rate))
        encoder = nn.Sequential(inner, nn.Linear(3, 4))
        encoder.register_module("unused", nn.LSTM(3, 4, num_layers=2, dropout=rate))
        return VAE(4, (3,), 2, seed=seed, encoder=OnlyTwo(encoder))

    trained = build(0.5, 1)
    trained.elbo(torch.rand(5, 4))
    trained.eval().requires_grad_(False)
    checkpoints.save(path, trained)
    other = build(0.0, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # Another rate of Dropout, as for going on more gently, changes no number that a trained model gives.
        checkpoints.load(path, other)
    assert same(weights(other), weights(trained))


def test_what_changes_by_use_and_code_are_warned_about(path: Path) -> None:
    skip, vae = Skip(), VAE(4, (3,), 2)
    skip(torch.ones(2, 3))
    checkpoints.save(path, skip)
    fresh = Skip()
    with pytest.warns(UserWarning, match="may compute something else .* calls: 1 there, 0 here"):
        checkpoints.load(path, fresh)
    assert same(weights(fresh), weights(skip))
    checkpoints.save(path, vae)
    with pytest.warns(UserWarning, match=r"fit this Halved, but .*: Halved\.decode$"):
        checkpoints.load(path, Halved(4, (3,), 2, seed=1))
    vae.decode = Halved(4, (3,), 2).decode  # type: ignore[method-assign]
    with pytest.warns(UserWarning, match="decode: nothing there, decode here"):
        checkpoints.load(path, vae)


def test_what_can_t_be_compared_is_warned_about(path: Path) -> None:
    def build() -> Skip:
        skip = Skip()
        skip.lock = threading.Lock()  # type: ignore[assignment]
        return skip

    checkpoints.save(path, build())
    with pytest.warns(UserWarning, match=r"may compute something else .* lock \(a lock\)$"):
        checkpoints.load(path, build())


def test_code_of_another_version_of_python_is_warned_about_once_and_loads(path: Path, monkeypatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 99, 0))
    checkpoints.save(path, Skip())
    plain = path.with_name("plain")
    checkpoints.save(plain, VAE(4, (3,), 2))
    monkeypatch.undo()
    with pytest.warns(UserWarning) as caught:
        checkpoints.load(path, Skip())
    assert [str(each.message).rpartition(": ")[2] for each in caught] == ["code, which another version of Python wrote"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        checkpoints.load(plain, VAE(4, (3,), 2))


@pytest.mark.parametrize("lacking", ["made", "fields", "code"])
def test_a_file_of_an_earlier_version_that_says_less_loads(path: Path, lacking: str, monkeypatch) -> None:
    def less(model: nn.Module) -> dict[str, Any] | None:
        made = _identity.made_of(model)
        return None if lacking == "made" else {key: made[key] for key in made if key not in (lacking, "python")}

    monkeypatch.setattr(checkpoints, "made_of", less)
    checkpoints.save(path, Skip())
    monkeypatch.undo()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        checkpoints.load(path, Skip())
        if lacking == "code":
            with pytest.raises(CheckpointError, match="_skip"):
                checkpoints.load(path, Skip(False))
        else:
            checkpoints.load(path, Skip(False))  # nothing is known


@pytest.mark.parametrize(
    ("config", "other", "said"),
    [
        ({"size": np.int64(3)}, {"size": 4}, "size: 3 there, 4 here"),
        ({"rates": [np.float32(0.5)]}, {"rates": (0.25,)}, r"rates: \[0.5\] there, \[0.25\] here"),
        ({"act": torch.relu}, {"act": torch.tanh}, "act: 'relu' there, 'tanh' here"),
        ({("a", 1): 2}, {("a", 1): 3}, r"\('a', 1\): 2 there, 3 here"),
    ],
)
def test_a_configuration_of_any_kind_is_compared(path: Path, config: Any, other: Any, said: str) -> None:
    def build(config: Any) -> Tiny:
        tiny = Tiny()
        tiny.config = config
        return tiny

    checkpoints.save(path, build(config))
    with pytest.raises(CheckpointError, match=said):
        checkpoints.load(path, build(other))
    checkpoints.load(path, build(config))


def test_a_configuration_that_is_an_object_is_compared(path: Path) -> None:
    def build(width: int) -> Tiny:
        tiny = Tiny()
        tiny.config = argparse.Namespace(width=width)  # type: ignore[assignment]
        return tiny

    checkpoints.save(path, build(3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        checkpoints.load(path, build(3))
    with pytest.warns(UserWarning, match=r"config \(a Namespace\)"):
        checkpoints.load(path, build(4))


# Values and places that cannot work


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.int64(3), 3),
        (np.uint8(3), 3),
        (np.float64(0.1), 0.1),
        (np.float32(0.5), 0.5),
        (np.bool_(True), True),
        ({np.int64(3): [np.float16(0.5)]}, {3: [0.5]}),
    ],
)
def test_numbers_of_numpy_are_numbers(path: Path, value: object, expected: object) -> None:
    checkpoints.save(path, Tiny(), state=value)
    assert same(json.loads(json.dumps(checkpoints.peek(path)["state"])), json.loads(json.dumps(expected)))


@pytest.mark.parametrize(
    ("value", "obeyed", "remedy"),
    [
        (np.arange(3), torch.as_tensor(np.arange(3)), "use torch.as_tensor of it"),
        (Path("a/b"), str(Path("a/b")), "use str of it"),
    ],
)
def test_arrays_and_paths_are_named_with_what_helps_before_anything_is_written(path, value, obeyed, remedy) -> None:
    new = path.parent / "new" / "model.safetensors"
    with pytest.raises(TypeError, match=rf"^history\['a'\]\[0\]: a checkpoint cannot hold a .*{remedy}"):
        checkpoints.save(new, Tiny(), history={"a": [value]})
    assert not new.parent.exists()
    checkpoints.save(new, Tiny(), history={"a": [obeyed]})
    assert same(checkpoints.peek(new), {"history": {"a": [obeyed]}})


@pytest.mark.parametrize(
    ("value", "place"),
    [
        (object(), "state"),
        ({"a": [1, {2}]}, r"state\['a'\]\[1\]"),
        ({(1, 2): 3}, "state"),
        ({"a": b"bytes"}, r"state\['a'\]"),
        (Tiny(), "state"),
        ([torch.eye(2).to_sparse()], r"state\[0\]"),
        (torch.zeros(2, dtype=torch.complex128), "state"),
    ],
)
def test_state_that_cannot_be_held_is_named_and_the_old_file_stays(path: Path, value: object, place: str) -> None:
    checkpoints.save(path, Tiny(), n=1)
    with pytest.raises(TypeError, match=f"^{place}: a checkpoint cannot hold a "):
        checkpoints.save(path, Tiny(), state=value)
    assert checkpoints.peek(path) == {"n": 1}


def test_missing_file_says_how_to_make_one(path: Path) -> None:
    for call in (lambda: checkpoints.load(path, Tiny()), lambda: checkpoints.peek(path)):
        with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*vaelib\.checkpoints\.save"):
            call()


def test_folder_instead_of_a_file_is_refused(tmp_path: Path) -> None:
    def hold() -> None:
        with checkpoints.lock(tmp_path):
            pass

    for call in (lambda: checkpoints.save(tmp_path, Tiny()), lambda: checkpoints.load(tmp_path, Tiny()), hold):
        with pytest.raises(IsADirectoryError, match="is a folder: name a file in it"):
            call()


def test_folder_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    def hold(path: Path) -> None:
        with checkpoints.lock(path):
            pass

    (tmp_path / "file").touch()
    # A file where the folder should be stops root as well, unlike a folder's permissions.
    for call in (lambda path: checkpoints.save(path, Tiny()), hold):
        with pytest.raises(OSError, match=r"cannot write the checkpoint .*choose a folder you may write to.*model\.st"):
            call(tmp_path / "file" / "model.st")


def test_missing_folders_are_made_one_in_another(tmp_path: Path) -> None:
    path = tmp_path / "läufe mit leerzeichen" / "a[1]" / "model.safetensors"
    checkpoints.save(path, Tiny(), n=1)
    assert checkpoints.peek(str(path)) == {"n": 1}
    with checkpoints.lock(tmp_path / "b" / "c" / "model.safetensors"):
        assert (tmp_path / "b" / "c").is_dir()


def test_link_stays_one_and_is_the_same_checkpoint_as_its_target(tmp_path: Path, path: Path) -> None:
    link = tmp_path / "elsewhere" / "latest"
    link.parent.mkdir()
    try:
        link.symlink_to(path)
    except OSError:
        pytest.skip("this system lets no ordinary user make symbolic links")
    checkpoints.save(link, Tiny(seed=1), n=1)
    assert link.is_symlink() and not path.is_symlink()
    assert checkpoints.peek(path) == checkpoints.peek(link) == {"n": 1}
    leftover = path.with_name(f".{path.name}.12345678.tmp")
    leftover.touch()
    with checkpoints.lock(link):
        assert not leftover.exists()
        with pytest.raises(CheckpointError, match="another run is writing to"), checkpoints.lock(path):
            pass
    assert os.listdir(link.parent) == ["latest"]


def test_links_in_a_circle_are_named(tmp_path: Path) -> None:
    one = tmp_path / "one"
    try:
        one.symlink_to(one)
    except OSError:
        pytest.skip("this system lets no ordinary user make symbolic links")
    with pytest.raises(OSError, match=r"cannot write the checkpoint .*one"):
        checkpoints.save(one, Tiny())
    with pytest.raises(OSError, match=r"cannot write the checkpoint .*one"), checkpoints.lock(one):
        pass


# Interrupted saves


def test_full_disk_leaves_the_old_file_and_no_other(tmp_path: Path, path: Path) -> None:
    checkpoints.save(path, Tiny(), n=1)
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))  # writes beyond 10 kB fail, as on a full disk
    try:
        with pytest.raises(OSError, match=r"cannot write the checkpoint .*: free space .*untouched"):
            checkpoints.save(path, nn.Linear(100, 100), n=2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert checkpoints.load(path, Tiny()) == {"n": 1}
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_error_at_the_last_moment_keeps_its_kind_and_leaves_no_file(
    tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def fail(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    checkpoints.save(path, Tiny(), n=1)
    monkeypatch.setattr(os, call, fail)
    with pytest.raises(PermissionError, match=r"cannot write the checkpoint \(Permission denied\)"):
        checkpoints.save(path, Tiny(), n=2)
    assert checkpoints.peek(path) == {"n": 1}
    assert os.listdir(tmp_path) == [path.name]


def test_killed_while_saving_leaves_a_whole_file(tmp_path: Path) -> None:
    runs = [(tmp_path / f"{i}.st", start(ENDLESS_SAVING, str(tmp_path / f"{i}.st"))) for i in range(3)]
    for path, process in runs:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        process.kill()
        process.communicate()
        model = nn.Linear(300, 300)
        i = checkpoints.load(path, model)["i"]
        assert i >= 3 and model.weight.eq(i).all() and model.bias.eq(i).all()


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_killed_between_writing_and_renaming_leaves_the_old_file(tmp_path: Path, path: Path, call: str) -> None:
    process = start(KILLED_AT, str(path), call)
    process.communicate()
    assert process.returncode in (-9, 9)
    model = nn.Linear(300, 300)
    assert checkpoints.load(path, model) == {"i": 0}
    assert model.weight.eq(0).all()
    assert len(os.listdir(tmp_path)) == 2  # the kill was in the middle: a temporary file is there
    with checkpoints.lock(path):  # the next run clears it away
        assert sorted(os.listdir(tmp_path)) == [path.name, path.name + ".lock"]


# Two runs


def test_second_run_on_the_same_path_is_refused_until_the_first_ends(path: Path) -> None:
    def hold() -> None:
        with checkpoints.lock(path):
            pass

    process = start(LOCK_AND_WAIT, str(path))
    assert process.stdout is not None and process.stdout.readline() == "locked\n"
    with pytest.raises(CheckpointError, match="another run is writing to"):
        hold()
    process.kill()
    process.communicate()
    hold()  # a killed run holds nothing


def test_second_lock_in_the_same_process_is_refused_and_other_files_stay_free(path: Path) -> None:
    def nested() -> None:
        with checkpoints.lock(path):
            pass

    with checkpoints.lock(path), checkpoints.lock(path.with_name("other")):
        with pytest.raises(CheckpointError, match="another run"):
            nested()
        with pytest.raises(CheckpointError, match="another run"):
            nested()  # the refusal has not freed the lock
    nested()
    with pytest.raises(KeyError), checkpoints.lock(path):
        raise KeyError
    nested()  # an error in the block frees it
