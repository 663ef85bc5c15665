"""A thing is recognised by its content in any process, and a change of what it does is noticed (faults 59).

Run as a script this file prints the hash of each thing of its table, for two processes whose sets have other orders.
"""

import abc
import argparse
import collections
import contextlib
import dataclasses
import enum
import functools
import json
import logging
import operator
import os
import random
import re
import subprocess
import sys
import threading
import types
import warnings
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from vaelib import _content, checkpoints
from vaelib._content import Unknown, digest, of_a_library
from vaelib._identity import changed, differences, identity
from vaelib.checkpoints import CheckpointError
from vaelib.training import fit
from vaelib.vae import VAE

WORDS = {"encoder", "decoder", "prior", "posterior", "evidence"}
FUNCTIONS = {len, max, lambda x: x, lambda x: x + 1}
SETTINGS = {"beta": 1.0, ("a", 1): [1, {2, 3}]}


class Kind(enum.Enum):
    ELBO = 1
    IWAE = 2


class Level(enum.IntEnum):
    LOW = 1


@dataclasses.dataclass
class Config:
    beta: float = 1.0
    names: set = dataclasses.field(default_factory=lambda: {"a", "b", "c"})


@dataclasses.dataclass(frozen=True, slots=True)
class Slotted:
    beta: float = 1.0


@dataclasses.dataclass
class Objective:
    config: Config

    def __call__(self, model, x, y, step, generator):
        return model.elbo(x, beta=self.config.beta, generator=generator)


class Base(abc.ABC):
    @abc.abstractmethod
    def weight(self): ...


class Own(Base):
    """Fields, slots of no kind, and members of each."""

    words = WORDS

    def __init__(self, beta=1.0):
        self.beta, self.act = beta, torch.relu

    def weight(self):
        return self.beta

    @property
    def twice(self):
        return 2 * self.beta

    @functools.cached_property
    def thrice(self):
        return 3 * self.beta

    @classmethod
    def of(cls):
        return cls()

    @staticmethod
    def one():
        return 1

    def __call__(self, model, x, y, step, generator):
        return super().__call__


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.utils.skip_init(nn.Linear, 2, 2)
        nn.init.ones_(self.layer.weight), nn.init.zeros_(self.layer.bias)
        self.act = nn.functional.relu

    def extra_repr(self):
        return f"act={self.act}"  # with an address

    def forward(self, x):
        return self.act(self.layer(x))


@functools.lru_cache
def cached(beta):
    return beta


def decorated(function):
    @functools.wraps(function)
    def wrapper(*arguments, **options):
        return function(*arguments, **options)

    return wrapper


@decorated
def uses_much(model, x, y, step, generator, weights=(1, 2), *, log=None):
    """Names globals of every kind."""
    used = WORDS, FUNCTIONS, SETTINGS, Kind.ELBO, Config, Own, cached, np.exp, torch.nn.functional.relu, Path
    return [each for each in used if str(step) in {"x", "y", "zz"}] + [x.lower() for x in WORDS]


def closing_over(*values):
    return lambda model, x: values


def recursive(n):
    return 1 if n == 0 else n * recursive(n - 1)


def in_itself():
    found = [1]
    found.append(found)
    return found


def no_value_yet():
    def objective():
        return later

    if not WORDS:
        later = 1
    return objective


THINGS = {
    "numbers and texts": lambda: [None, True, 1, 0.1, 1j, "ü", b"x", Fraction(1, 3), Path("a/b"), range(3), ...],
    "numbers of NumPy": lambda: [np.int64(1), np.float32(0.1), np.bool_(True), np.datetime64("2020-01-01")],
    "slices and types of numbers": lambda: [slice(1, None), torch.float32, np.dtype("f4"), torch.Size([1, 2])],
    "tensors and arrays": lambda: [torch.ones(2, 3), torch.ones(2).bfloat16(), np.arange(3), np.array(["a", None])],
    "a set of words": lambda: WORDS,
    "a set of functions": lambda: FUNCTIONS,
    "a dict with keys of all kinds": lambda: {**SETTINGS, Kind.ELBO: 1, len: 2, frozenset(WORDS): 3},
    "a mapping that can't be changed": lambda: types.MappingProxyType(SETTINGS),
    "a list in itself": in_itself,
    "members of an enumeration": lambda: [Kind.ELBO, Level.LOW, re.IGNORECASE],
    "a dataclass with a factory": Config,
    "a frozen dataclass with slots": Slotted,
    "an objective that is a dataclass": lambda: Objective(Config()),
    "an object with members of every kind": Own,
    "a class": lambda: Own,
    "a named tuple": lambda: collections.namedtuple("Pair", "a b")(1, {"x", "y"}),
    "containers of Python": lambda: [collections.deque([1], 3), collections.Counter("aab"), bytearray(b"x")],
    "namespaces": lambda: [argparse.Namespace(a=1), types.SimpleNamespace(words=WORDS)],
    "a function that names globals of every kind": lambda: uses_much,
    "a closure": lambda: closing_over(WORDS, Own(), torch.ones(2)),
    "a name without a value": no_value_yet,
    "a function that calls itself": lambda: recursive,
    "a partial": lambda: functools.partial(uses_much, weights=WORDS),
    "methods": lambda: [Own().weight, Own.of, SETTINGS.get, [1].append, "a".join],
    "a cached function": lambda: cached,
    "functions of libraries": lambda: [torch.relu, np.exp, len, operator.itemgetter(1), nn.functional.relu, nn.ReLU],
    "generators of numbers": lambda: [
        np.random.default_rng(3),
        np.random.RandomState(3),
        random.Random(3),
        torch.Generator().manual_seed(3),
    ],
    "a distribution": lambda: torch.distributions.Normal(0.0, 1.0),
    "a network": Net,
    "networks of PyTorch": lambda: [nn.Conv2d(1, 1, 3).requires_grad_(False).apply(zero), nn.GRU(2, 3).apply(zero)],
    "a pattern and a logger": lambda: [re.compile("a+"), logging.getLogger("vaelib")],
    "modules": lambda: [torch, np, types],
}


def zero(module):
    for parameter in module.parameters(recurse=False):
        nn.init.zeros_(parameter)


def test_the_same_thing_has_the_same_hash_in_processes_whose_sets_have_other_orders():
    found = []
    for seed in ("1", "2"):
        command = [sys.executable, __file__]
        child = subprocess.run(
            command, env=os.environ | {"PYTHONHASHSEED": seed}, check=False, capture_output=True, text=True
        )
        assert child.returncode == 0, child.stderr
        found.append(json.loads(child.stdout))
    assert len(found[0]) == len(THINGS) >= 20
    assert {name: value for name, value in found[0].items() if value != found[1][name] or value.startswith("?")} == {}


def helpers(source):
    module = types.ModuleType("helpers_of_the_reader")
    exec(source, vars(module))
    return module


def function(source, **names):
    """The function f of a piece of source, as a reader's file would define it."""
    return vars(helpers_with(source, names))["f"]


def helpers_with(source, names):
    module = types.ModuleType("readers_file")
    vars(module).update(names)
    exec(source, vars(module))
    return module


class Counting:
    calls = 0

    def __init__(self, beta=1.0, log=None):
        self.beta, self.log = beta, log

    def __call__(self, *arguments):
        return self.beta


class CountingMore(Counting):
    def __call__(self, *arguments):
        return 2 * self.beta


CHANGES = {
    "constant": (function("def f(m): return 1.0"), function("def f(m): return 2.0")),
    "operator": (function("def f(m): return m + m"), function("def f(m): return m - m")),
    "function that is called": (function("def f(m): return m.a()"), function("def f(m): return m.b()")),
    "default": (function("def f(m, b=1): return b"), function("def f(m, b=2): return b")),
    "keyword default": (function("def f(m, *, b=1): return b"), function("def f(m, *, b=2): return b")),
    "closed-over value": (closing_over(1.0), closing_over(2.0)),
    "order of closed-over values": (closing_over(1.0, 2.0), closing_over(2.0, 1.0)),
    "global value": (function("def f(m): return b", b=1), function("def f(m): return b", b=2)),
    "value in a global dict": (function("def f(m): return b", b={"a": 1}), function("def f(m): return b", b={"a": 2})),
    "global of a nested function": (
        *(function("def f(m): return [b for _ in (lambda: b)()]", b=1),),
        *(function("def f(m): return [b for _ in (lambda: b)()]", b=2),),
    ),
    "helper in another file": (
        function("def f(m): return helpers.g(m)", helpers=helpers("def g(m): return 1")),
        function("def f(m): return helpers.g(m)", helpers=helpers("def g(m): return 2")),
    ),
    "value in another file": (
        function("def f(m): return helpers.b", helpers=helpers("b = 1")),
        function("def f(m): return helpers.b", helpers=helpers("b = 2")),
    ),
    "attribute of a function": (
        function("def f(m): return f.b\nf.b = 1"),
        function("def f(m): return f.b\nf.b = 2"),
    ),
    "exception caught": (
        function("def f(m):\n try: return m.a()\n except ValueError: return 1"),
        function("def f(m):\n try: return m.a()\n except KeyError: return 1"),
    ),
    "argument of a partial": (functools.partial(len, 1), functools.partial(len, 2)),
    "keyword of a partial": (functools.partial(sorted, reverse=True), functools.partial(sorted, reverse=False)),
    "field of an object": (Counting(1.0), Counting(2.0)),
    "method of an object": (Counting(), CountingMore()),
    "owner of a method": (Counting(1.0).__call__, Counting(2.0).__call__),
    "owner of a built-in method": ({"a": 1}.get, {"a": 2}.get),
    "field of a dataclass": (Config(1.0), Config(2.0)),
    "factory's value of a dataclass": (Config(names={"a"}), Config(names={"b"})),
    "slot": (Slotted(1.0), Slotted(2.0)),
    "member of an enumeration": (Kind.ELBO, Kind.IWAE),
    "nesting": ([1, [2], 3], [1, [2, 3]]),
    "which of two is meant again": ([Config, Objective, Config], [Config, Objective, Objective]),
    "seed of a generator": (np.random.default_rng(1), np.random.default_rng(2)),
    "seed of a torch.Generator": (torch.Generator().manual_seed(1), torch.Generator().manual_seed(2)),
    "parameter of a distribution": (torch.distributions.Normal(0.0, 1.0), torch.distributions.Normal(0.0, 2.0)),
    "type of a number": (1, 1.0),
    "type of a tensor": (torch.zeros(2), torch.zeros(2, dtype=torch.int32)),
    "shape of a tensor": (torch.zeros(2, 3), torch.zeros(3, 2)),
    "array with objects": (np.array(["a", None]), np.array(["b", None])),
    "pattern": (re.compile("a"), re.compile("a", re.IGNORECASE)),
    "item that is taken": (operator.itemgetter(1), operator.itemgetter(2)),
    "what a cached function does": (functools.lru_cache(lambda: 1), functools.lru_cache(lambda: 2)),
    "what a decorated function does": (decorated(lambda: 1), decorated(lambda: 2)),
    "what a library made of a function": (torch.no_grad()(lambda: 1), torch.no_grad()(lambda: 2)),
    "slope of a layer": (nn.LeakyReLU(0.1), nn.LeakyReLU(0.2)),
    "heads of an attention": (nn.MultiheadAttention(8, 2).apply(zero), nn.MultiheadAttention(8, 4).apply(zero)),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_of_what_a_thing_does_is_noticed(name):
    first, second = CHANGES[name]
    assert digest(first) == digest(first) != digest(second)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (function("def f(m): return 1"), function("\n\ndef f(m):\n    '''What it does.'''\n    return 1  # note")),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        (closing_over([1]), closing_over([1])),
        (functools.partial(len), functools.partial(len)),
        ([(x := [1]), x], [[1], [1]]),
    ],
    ids=["docstring and comments", "order of a dict", "made again", "partial made again", "the same list twice"],
)
def test_what_does_the_same_has_the_same_hash(first, second):
    assert digest(first) == digest(second)


class Named:
    """What sorts by its repr in another order in each process, as an address does."""

    def __init__(self, name):
        self.name = name

    def __repr__(self):
        return os.environ[self.name]


def test_the_order_of_a_set_does_not_depend_on_a_repr(monkeypatch):
    found = set()
    for orders in ("ab", "ba"):
        for name, order in zip(("FIRST", "SECOND"), orders, strict=True):
            monkeypatch.setenv(name, order)
        found.add(digest({Named("FIRST"), Named("SECOND")}))
    assert len(found) == 1


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (threading.Lock(), "a lock"),
        ({"file": sys.__stdout__}, "a TextIOWrapper"),
        ((x for x in "ab"), "a generator"),
        (torch.eye(2).to_sparse(), "a Tensor"),
        (torch.zeros(2, device="meta"), "a Tensor"),
        (functools.reduce(lambda inner, _: [inner], range(5000), []), "a list"),
    ],
    ids=["lock", "file", "generator", "sparse tensor", "tensor without numbers", "depth"],
)
def test_what_has_no_content_to_compare_is_named(value, what):
    with pytest.raises(Unknown, match=what):
        digest(value)


def test_a_file_of_the_readers_with_the_name_of_one_of_python_s_is_not_known_by_name(monkeypatch, tmp_path):
    (tmp_path / "statistics_of_mine.py").write_text("def f(): return 1")
    module = types.ModuleType("code")
    module.__file__ = str(tmp_path / "code.py")
    exec("def f(): return 1", vars(module))
    monkeypatch.setitem(sys.modules, "code", module)
    with contextlib.ExitStack() as stack:
        stack.callback(_content._known.cache_clear)
        _content._known.cache_clear()
        assert not of_a_library(module.f)
    assert of_a_library(json.dumps) and of_a_library(nn.ReLU) and of_a_library(VAE) and not of_a_library(Own)


def test_what_is_typed_in_is_never_known_by_its_name_whoever_started_python(monkeypatch):
    started = types.ModuleType("__main__")
    started.__file__ = str(Path(pytest.__file__).parent / "__main__.py")  # as under python -m pytest
    exec("def f(): return b\nb = 1", vars(started))
    monkeypatch.setitem(sys.modules, "__main__", started)
    monkeypatch.setattr(_content, "_known", _content._known.__wrapped__)
    before = digest(started.f)
    started.b = 2
    assert digest(started.f) != before


# What a run changes itself


def test_what_a_run_changes_itself_is_told_from_what_differs():
    counting = Counting(1.0, log=[])
    model = VAE(4, (3,), 2)
    before = identity(model, objective=counting, data=torch.ones(2))
    counting.log.append(1)
    after = changed(before, identity(model, objective=counting))
    assert list(after) == ["objective"] and list(after["objective"]) == ["log"]
    saved = {"identity": before, "changed": after}

    def compared(objective, x=1):
        return differences(saved, {"identity": identity(model, objective=objective, data=x * torch.ones(2))}, ({}, {}))

    assert compared(counting) == ([], [], [])  # goes on in the process that stopped
    assert compared(Counting(1.0, log=[])) == ([], [], ["objective log"])  # in a new one
    assert compared(Counting(2.0, log=[])) == (["objective: not the same here (beta)"], [], ["objective log"])
    assert compared(counting, x=2) == (["data: not the same here"], [], [])
    assert compared(None)[0] == [
        "objective: not the same here (Counting.__call__, Counting.__init__, Counting.calls, beta)"
    ]


def test_training_the_model_does_not_change_an_objective_that_holds_its_layers():
    model = VAE(4, (3,), 2)
    objective = closing_over(model.encoder, model.decoder[0].weight)
    before = identity(model, objective=objective, method=model.elbo)
    with torch.no_grad():
        model.decoder[0].weight += 1
    assert changed(before, identity(model, objective=objective, method=model.elbo)) == {}


LOG: list[float] = []


def logging_into_a_list(model, x, y, step, generator):
    LOG.append(step)
    return model.elbo(x, generator=generator)


def logging_through_a_helper(model, x, y, step, generator):
    noted(step)
    return model.elbo(x, generator=generator)


def noted(step):
    LOG.append(step)


class Stepping:
    """Counts its calls in Python, and draws from a generator of its own."""

    def __init__(self):
        self.calls, self.random = 0, np.random.default_rng(0)

    def __call__(self, model, x, y, step, generator):
        self.calls += 1
        return model.elbo(x, beta=self.random.random(), generator=generator)


def with_beta(model, x, y, step, generator, beta):
    return model.elbo(x, beta=beta, generator=generator)


RESUMED = {
    "a list that it logs into": (lambda: logging_into_a_list, "objective LOG"),
    "a list that a helper logs into": (lambda: logging_through_a_helper, "objective noted"),
    "a counter and a generator": (Stepping, "objective calls, objective random"),
    "a dataclass with a factory": (lambda: Objective(Config()), None),
    "a lambda": (lambda: lambda m, x, y, s, g: m.elbo(x, beta=float("a" in {"a", "b"}), generator=g), None),
    "a partial": (lambda: functools.partial(with_beta, beta=2.0), None),
}


def trained(name, folder, epochs):
    """Train, or go on from what is there, and return what was warned of."""
    x = torch.rand(20, 4, generator=torch.Generator().manual_seed(0))
    path = Path(folder) / name
    options = {"checkpoint": path, "schedule": None, "batch_size": 10, "device": "cpu", "progress": False}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        history = fit(VAE(4, (3,), 2), x, epochs=epochs, objective=RESUMED[name][0](), **options)
    assert history.epochs == epochs
    return [str(each.message) for each in caught]


def test_a_run_whose_objective_changes_itself_goes_on_in_a_new_process_and_says_what_was_lost(tmp_path):
    said = {}
    for epochs in ("1", "2"):
        command = [sys.executable, __file__, str(tmp_path), epochs]
        child = subprocess.run(
            command, env=os.environ | {"PYTHONHASHSEED": epochs}, check=False, capture_output=True, text=True
        )
        assert child.returncode == 0, child.stderr
        said[epochs] = json.loads(child.stdout)
    assert said["1"] == {name: [] for name in RESUMED}
    for name, (_, lost) in RESUMED.items():
        assert len(said["2"][name]) == (lost is not None)
        assert all(each.endswith(f"goes on with what is here: {lost}") for each in said["2"][name])


@pytest.mark.parametrize("name", RESUMED)
def test_the_same_objects_go_on_in_the_same_process_without_a_word(name, tmp_path, monkeypatch):
    made = RESUMED[name][0]()
    monkeypatch.setitem(RESUMED, name, (lambda: made, None))
    assert [trained(name, tmp_path, epochs) for epochs in (1, 2, 3)] == [[], [], []]
    (finished,) = trained(name, tmp_path, 3)
    assert finished.startswith("nothing was trained")


def test_what_a_run_changed_is_still_known_when_it_has_gone_on_twice(tmp_path, monkeypatch):
    name = "a counter and a generator"
    for epochs, said in ((1, 0), (2, 1), (3, 1)):
        assert len(trained(name, tmp_path, epochs)) == said
    monkeypatch.setattr(Stepping, "__init__", lambda self: vars(self).update(calls=0, random=None))
    with pytest.raises(CheckpointError, match=r"objective: not the same here \(Stepping.__init__\)"):
        trained(name, tmp_path, 4)


class Once:
    """Changes itself at its first call alone."""

    def __init__(self):
        self.called = False

    def __call__(self, model, x, y, step, generator):
        self.called = True
        return model.elbo(x, generator=generator)


def test_what_only_the_first_part_of_a_run_changed_is_known_after_the_second(tmp_path, monkeypatch):
    once = Once()
    monkeypatch.setitem(RESUMED, "once", (lambda: once, None))
    assert [trained("once", tmp_path, epochs) for epochs in (1, 2)] == [[], []]
    monkeypatch.setitem(RESUMED, "once", (Once, None))
    (lost,) = trained("once", tmp_path, 3)
    assert lost.endswith("goes on with what is here: objective called")


def test_a_model_whose_configuration_is_an_object_is_trained_saved_and_recognised(tmp_path):
    def model(width):
        made = Regression()
        made.config = argparse.Namespace(width=width)
        return made

    options = {"epochs": 1, "device": "cpu", "progress": False, "checkpoint": tmp_path / "run.safetensors"}
    fit(model(3), torch.rand(20, 2), **options)
    assert checkpoints.peek(options["checkpoint"])["config"] == "a Namespace"
    x = torch.rand(20, 2, generator=torch.Generator().manual_seed(0))
    options["checkpoint"] = tmp_path / "other.safetensors"
    fit(model(3), x, **options)
    with pytest.warns(UserWarning, match="nothing was trained"):
        fit(model(3), x, **options)
    with pytest.raises(CheckpointError, match=r"model: not the same here \(config\)"):
        fit(model(4), x, **options)


class Regression(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = zeroed(nn.Linear(2, 2))

    def loss(self, x):
        return (self.layer(x) - x).square().sum(1)


def zeroed(module):
    module.apply(zero)
    return module


if __name__ == "__main__" and len(sys.argv) > 1:
    print(json.dumps({name: trained(name, sys.argv[1], int(sys.argv[2])) for name in RESUMED}))
elif __name__ == "__main__":
    hashes = {}
    for name, make in THINGS.items():
        try:
            hashes[name] = digest(make())
        except Unknown as error:
            hashes[name] = f"? {error}"
    print(json.dumps(hashes))
