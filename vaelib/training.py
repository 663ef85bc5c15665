"""One training loop for every model of the book: fast, resumable, and safe to interrupt."""

import math
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from os import PathLike
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from vaelib import checkpoints
from vaelib.checkpoints import CheckpointError
from vaelib.data import ImageData, in_notebook
from vaelib.networks import check_positive_integer
from vaelib.vae import ElboTerms

Objective = Callable[[nn.Module, Tensor, Tensor | None, int, torch.Generator], Tensor | ElboTerms]
Transform = Callable[[Tensor, torch.Generator], Tensor]
Images = ImageData | Tensor | np.ndarray

_TERMS = ("objective", "log_likelihood", "kl")
_EVALUATION_ROWS = 2000


class TrainingError(RuntimeError):
    """Training that had to stop: a loss that is no longer a number, or memory that ran out."""


@dataclass
class History:
    """What training measured: means over the examples, one number per finished epoch, in nats per image.

    ``train`` and ``validation`` map "objective", "log_likelihood" and "kl" to lists; a custom objective that returns a
    plain tensor leaves "objective" alone. ``best_weights`` is a copy of the weights after ``best_epoch`` (counted from
    1), the epoch with the highest validation ELBO (or objective, where that is all there is); load it with
    ``model.load_state_dict``.
    """

    train: dict[str, list[float]] = field(default_factory=dict)
    validation: dict[str, list[float]] = field(default_factory=dict)
    best_epoch: int | None = None
    best_weights: dict[str, Tensor] | None = None
    interrupted: bool = False

    @property
    def epochs(self) -> int:
        """The number of finished epochs."""
        return len(self.train.get("objective", []))

    @property
    def elbo(self) -> list[float]:
        """The training ELBO of each epoch."""
        return _difference(self.train)

    @property
    def validation_elbo(self) -> list[float]:
        """The validation ELBO of each epoch."""
        return _difference(self.validation)


def fit(
    model: nn.Module,
    data: Images,
    *,
    epochs: int,
    y: Tensor | np.ndarray | None = None,
    batch_size: int = 128,
    learning_rate: float = 3e-3,
    schedule: str | None = "linear",
    objective: Objective | None = None,
    transform: Transform | None = None,
    validation: Images | tuple[Images, Tensor | np.ndarray] | None = None,
    device: str | torch.device = "auto",
    seed: int = 0,
    checkpoint: str | PathLike[str] | None = None,
    progress: bool = True,
) -> History:
    """Maximise the ELBO, or another objective, over minibatches with Adam, and return what was measured.

    ``theta, phi <- argmax 1/N sum_n L(theta, phi; x_n)``, one gradient step for each minibatch (the AEVB algorithm).
    The images stay in one tensor on the device, shuffled by index; they are checked once. The model is moved to the
    device, trained in place, and moved back. The first run of a fresh model starts its decoder at the mean image.

    Args:
        model: a model with ``elbo``, or any module together with an ``objective``.
        data: ImageData, or images ``(N, H, W)``, ``(N, 1, H, W)`` or ``(N, D)``.
        epochs: passes over the data.
        y: conditions, one for each image; they replace the labels of ImageData.
        batch_size: images in a step; the last batch of an epoch may be smaller.
        learning_rate: the highest rate of the schedule.
        schedule: "linear" (10% of the steps up from 0, then down to 0) or None (constant).
        objective: ``(model, x, y, step, generator) -> (batch,)`` or ElboTerms, maximised in place of the ELBO.
        transform: ``(x, generator) -> x`` on each training batch, such as `vaelib.data.binarize`.
        validation: images on which the ELBO is measured after each epoch, always with the same noise; a pair of
            images and conditions where y replaces the labels.
        device: "auto" (CUDA, then MPS, then CPU) or a name.
        seed: seeds the order of the data and the noise.
        checkpoint: a file, written after each epoch and on interruption; a run that finds it goes on from there, on a
            CPU bit for bit as if it had never stopped.
        progress: show one line with both terms of the ELBO.

    Ctrl-C (the stop button) ends training after the step under way: model, history and checkpoint agree, and
    ``history.interrupted`` is True. A second Ctrl-C raises KeyboardInterrupt at once.

    Raises: ValueError for settings or data that can't be right; CheckpointError for a checkpoint of another run or one
    that another run is writing; TrainingError when a term is no longer finite (epoch, batch and term are named, the
    weights are those before that step, the last checkpoint is intact) or memory runs out.
    Source: Kingma and Welling (2014), algorithm 1; chapters 7 and 9.
    """
    check_positive_integer("epochs", epochs)
    check_positive_integer("batch_size", batch_size)
    if not (learning_rate > 0 and math.isfinite(learning_rate)):
        raise ValueError(f"learning_rate must be positive and finite, not {learning_rate}")
    if schedule not in ("linear", None):
        raise ValueError(f"unknown schedule {schedule!r}: choose 'linear' or None")
    place = choose_device(device)
    home = next(model.parameters()).device
    x, conditions = _examples(model, data, y)
    held_out = None
    if validation is not None:
        held_out = _examples(model, *(validation if isinstance(validation, tuple) else (validation, None)))
    settings = {
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "schedule": schedule,
        "seed": seed,
        "data": [*x.shape, float(x.mean())],
    }
    with ExitStack() as stack:
        if checkpoint is not None:
            stack.enter_context(checkpoints.lock(checkpoint))
        stack.callback(model.to, home)
        model.to(place)
        run = _Run(model, x, conditions, held_out, settings, objective, transform, place)
        run.start(checkpoint)
        stopped = stack.enter_context(_interruption())
        bar = stack.enter_context(_Bar(progress, run))
        try:
            run.train(stopped, bar, checkpoint)
        except torch.OutOfMemoryError as error:
            run.release()
            raise TrainingError(
                f"{place} ran out of memory at batch_size={batch_size}: try batch_size={max(1, batch_size // 2)}. "
                "What training held on the device is free again."
            ) from error
    return run.history


def choose_device(device: str | torch.device = "auto") -> torch.device:
    """Return the device to compute on: for "auto" CUDA where there is one, then Apple's MPS, then the CPU.

    Raises: ValueError for a device that this machine, or this build of PyTorch, does not have.
    """
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    chosen = torch.device(device)
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available.get(chosen.type, True):
        raise ValueError(
            f"no {chosen.type} device is available here: use device='cpu', or 'auto' to take the best there is"
        )
    return chosen


class _Run:
    """The state of one training run: everything that a checkpoint has to hold."""

    def __init__(
        self,
        model: nn.Module,
        x: Tensor,
        y: Tensor | None,
        held_out: tuple[Tensor, Tensor | None] | None,
        settings: dict[str, Any],
        objective: Objective | None,
        transform: Transform | None,
        device: torch.device,
    ) -> None:
        # Any: what the model offers (elbo, start_at_mean, config) is looked up, not declared.
        self.model: Any = model
        self.objective, self.transform, self.device = objective, transform, device
        self.x, self.y = x.to(device), None if y is None else y.to(device)
        self.held_out = None
        if held_out is not None:
            self.held_out = (held_out[0].to(device), None if held_out[1] is None else held_out[1].to(device))
        self.settings, self.seed = settings, settings["seed"]
        self.batches = math.ceil(len(x) / settings["batch_size"])
        self.total_steps = self.batches * settings["epochs"]
        self.step = 0
        self.history = History()
        self.names: Sequence[str] = _TERMS
        # MPS has no float64.
        self.sums = torch.zeros(3, device=device, dtype=torch.float32 if device.type == "mps" else torch.float64)
        self.generator = torch.Generator(device=device).manual_seed(self.seed)
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.Adam(parameters, lr=settings["learning_rate"], betas=(0.9, 0.99), fused=True)
        self.accelerator = _Accelerator(self) if device.type == "cuda" else None

    def start(self, checkpoint: str | PathLike[str] | None) -> None:
        """Take up the run that the checkpoint holds, or begin one."""
        if checkpoint is not None:
            try:
                state = checkpoints.peek(checkpoint)
            except FileNotFoundError:
                pass
            else:
                self._resume(checkpoint, state)
                return
        start_at_mean = getattr(self.model, "start_at_mean", None)
        if start_at_mean is not None:
            start_at_mean(self.x)

    def train(self, stopped: threading.Event, bar: "_Bar", checkpoint: str | PathLike[str] | None) -> None:
        """Take the remaining steps, and write the checkpoint after each epoch and when stopped."""
        while self.step < self.total_steps and not stopped.is_set():
            epoch = self.step // self.batches
            self._train_epoch(epoch, stopped, bar)
            if self.step == (epoch + 1) * self.batches:
                self._finish_epoch()
            self.history.interrupted = stopped.is_set() and self.step < self.total_steps
            if checkpoint is not None:
                checkpoints.save(checkpoint, self.model, **self._state())

    def _train_epoch(self, epoch: int, stopped: threading.Event, bar: "_Bar") -> None:
        order = self._order(epoch)
        with nullcontext() if self.accelerator is None else self.accelerator.own_stream():
            for batch in range(self.step % self.batches, self.batches):
                rows = order[batch * self.settings["batch_size"] : (batch + 1) * self.settings["batch_size"]]
                self._take_step(rows, epoch, batch)
                self.step += 1
                bar.show()
                if stopped.is_set():
                    break
        if self.accelerator is not None:
            self.accelerator.check()

    def release(self) -> None:
        """Let go of everything that training holds on the device."""
        self.accelerator = None
        self.optimizer.zero_grad(set_to_none=True)
        self.optimizer.state.clear()
        del self.x, self.y, self.held_out
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def means(self) -> dict[str, float]:
        """Return the means of the epoch under way."""
        done = (self.step - 1) % self.batches + 1
        seen = min(done * self.settings["batch_size"], len(self.x))
        return dict(zip(self.names, (self.sums[: len(self.names)] / seen).tolist(), strict=True))

    def _take_step(self, rows: Tensor, epoch: int, batch: int) -> None:
        if self.accelerator is not None:
            self.accelerator.take_step(rows)
            return
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate()
        values = self.forward(rows)
        if not torch.isfinite(values).all():
            raise self.diverged(epoch, batch, values)
        self.backward(rows, values)

    def forward(self, rows: Tensor) -> Tensor:
        """Return the means over one batch of what is maximised and, where they are known, of both terms of the ELBO."""
        x = self.x.index_select(0, rows)
        if self.transform is not None:
            x = self.transform(x, self.generator)
        return torch.stack(self._values(x, None if self.y is None else self.y[rows], self.generator))

    def backward(self, rows: Tensor, values: Tensor) -> None:
        """Change the weights by one gradient step and add to the sums of the epoch."""
        self.optimizer.zero_grad(set_to_none=True)
        (-values[0]).backward()
        self.optimizer.step()
        self.sums[: len(values)] += values.detach() * len(rows)

    def diverged(self, epoch: int, batch: int, values: Tensor) -> TrainingError:
        """Return the error that names where training went wrong and in which term."""
        found = dict(zip(self.names, values.tolist(), strict=False))
        name = next((name for name in reversed(found) if not math.isfinite(found[name])), "objective")
        return TrainingError(
            f"epoch {epoch + 1}, batch {batch + 1}: {name} is {found[name]}. Training stopped before that step "
            "changed the weights; a smaller learning_rate is the usual remedy."
        )

    def _values(self, x: Tensor, y: Tensor | None, generator: torch.Generator) -> list[Tensor]:
        found: Tensor | ElboTerms
        if self.objective is None:
            found = self.model.elbo(*((x,) if y is None else (x, y)), generator=generator, check=False)
        else:
            found = self.objective(self.model, x, y, self.step, generator)
        if isinstance(found, ElboTerms):
            log_likelihood, kl = found.log_likelihood.mean(), found.kl.mean()
            return [log_likelihood - found.beta * kl, log_likelihood, kl]
        if found.shape != x.shape[:1]:
            raise ValueError(
                f"the objective returned shape {tuple(found.shape)}, not one value per example {tuple(x.shape[:1])}"
            )
        self.names = _TERMS[:1]
        return [found.mean()]

    def rate(self) -> float:
        """Return the learning rate of the step under way."""
        peak = self.settings["learning_rate"]
        if self.settings["schedule"] is None:
            return peak
        warm_up = max(1, round(0.1 * self.total_steps))
        return peak * min(
            (self.step + 1) / warm_up, (self.total_steps - self.step) / max(1, self.total_steps - warm_up)
        )

    def _order(self, epoch: int) -> Tensor:
        """Return the shuffled row numbers of an epoch: they follow from seed and epoch, so no checkpoint holds them."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        return torch.randperm(len(self.x), generator=generator).to(self.device)

    def _finish_epoch(self) -> None:
        for name, value in self.means().items():
            self.history.train.setdefault(name, []).append(value)
        self.sums.zero_()
        if self.held_out is None:
            return
        for name, value in self._validate(*self.held_out).items():
            self.history.validation.setdefault(name, []).append(value)
        scores = self.history.validation_elbo or self.history.validation["objective"]
        if scores[-1] == max(scores):
            self.history.best_epoch = len(scores)
            self.history.best_weights = {
                name: tensor.detach().to("cpu", copy=True) for name, tensor in self.model.state_dict().items()
            }

    @torch.no_grad()
    def _validate(self, x: Tensor, y: Tensor | None) -> dict[str, float]:
        generator = torch.Generator(device=self.device).manual_seed(self.seed)
        sums = torch.zeros_like(self.sums)
        for start in range(0, len(x), _EVALUATION_ROWS):
            rows = slice(start, start + _EVALUATION_ROWS)
            values = torch.stack(self._values(x[rows], None if y is None else y[rows], generator))
            sums[: len(values)] += values * len(x[rows])
        return dict(zip(self.names, (sums[: len(self.names)] / len(x)).tolist(), strict=True))

    def _state(self) -> dict[str, Any]:
        return {
            "config": getattr(self.model, "config", None),
            "settings": self.settings,
            "step": self.step,
            "sums": self.sums,
            "optimizer": self.optimizer.state_dict(),
            "generator": {"device": self.device.type, "state": self.generator.get_state()},
            "history": vars(self.history),
        }

    def _resume(self, path: str | PathLike[str], state: dict[str, Any]) -> None:
        saved = state.get("settings")
        if saved is None:
            raise CheckpointError(f"{path} holds a model but no training run: give this run a file of its own")
        differing = [
            f"{key}: {saved[key]!r} there, {self.settings[key]!r} here"
            for key in saved
            if saved[key] != self.settings[key]
        ]
        if differing:
            raise CheckpointError(
                f"{path} holds another run ({'; '.join(differing)}): repeat its settings, or give this run another file"
            )
        checkpoints.load(path, self.model)
        self.step = state["step"]
        self.sums = state["sums"].to(self.sums)
        self.optimizer.load_state_dict(state["optimizer"])
        self.history = History(**state["history"])
        self.names = list(self.history.train) or self.names
        if state["generator"]["device"] == self.device.type:
            self.generator.set_state(state["generator"]["state"])
        if self.accelerator is not None:
            self.accelerator.prepare_optimizer()


class _Accelerator:
    """Steps on a CUDA device: recorded once as a CUDA graph and replayed, with no wait for the device in an epoch.

    A small model's step is dozens of kernels, each shorter than the time to launch it; a replay launches them at once.
    A loss that is no longer finite makes the optimizer skip that step and all later ones, on the device.
    """

    WARM_UP = 3

    def __init__(self, run: _Run) -> None:
        self.run = run
        self.rate = torch.zeros((), device=run.device)
        self.step = torch.zeros((), device=run.device, dtype=torch.int64)
        self.bad_step = torch.full((), -1, device=run.device, dtype=torch.int64)
        self.bad_values = torch.zeros(3, device=run.device)
        self.skip = torch.zeros((), device=run.device)
        self.rows = torch.zeros(run.settings["batch_size"], device=run.device, dtype=torch.int64)
        self.graph: torch.cuda.CUDAGraph | None = None
        self.eager_steps = 0
        # A user's own function may do what a graph can't record.
        self.recordable = run.objective is None and run.transform is None
        self.stream = torch.cuda.Stream(run.device)
        self.prepare_optimizer()

    def prepare_optimizer(self) -> None:
        """Keep the rate and the step number on the device, where a recorded step can read them."""
        for group in self.run.optimizer.param_groups:
            group["lr"], group["capturable"] = self.rate, True
        # The fused Adam reads these two, as torch.amp.GradScaler sets them: it skips the update where found_inf is 1.
        vars(self.run.optimizer).update(grad_scale=None, found_inf=self.skip)

    def take_step(self, rows: Tensor) -> None:
        """Take one step without waiting for it."""
        self.rate.fill_(self.run.rate())
        self.step.fill_(self.run.step)
        whole = len(rows) == len(self.rows)
        if whole and self.recordable and self.eager_steps >= self.WARM_UP and self.graph is None:
            self._record()
        if whole and self.graph is not None:
            self.rows.copy_(rows)
            self.graph.replay()
        else:
            self._update(rows)
            self.eager_steps += 1

    @contextmanager
    def own_stream(self) -> Iterator[None]:
        """Work on a stream of one's own, as recording demands, between what came before and what follows."""
        outer = torch.cuda.current_stream(self.run.device)
        self.stream.wait_stream(outer)
        with torch.cuda.stream(self.stream):
            yield
        outer.wait_stream(self.stream)

    def check(self) -> None:
        """Wait for the device, and raise where a step of the epoch had a loss that is not finite."""
        bad_step = int(self.bad_step.item())
        if bad_step >= 0:
            epoch, batch = divmod(bad_step, self.run.batches)
            raise self.run.diverged(epoch, batch, self.bad_values)

    def _update(self, rows: Tensor) -> None:
        run = self.run
        values = run.forward(rows)
        bad = ~torch.isfinite(values.detach()).all()
        first = bad & (self.bad_step < 0)
        self.bad_values[: len(values)] = torch.where(first, values.detach(), self.bad_values[: len(values)])
        self.bad_step.copy_(torch.where(first, self.step, self.bad_step))
        self.skip.copy_(self.bad_step >= 0)
        run.backward(rows, values)

    def _record(self) -> None:
        self.graph = torch.cuda.CUDAGraph()
        self.graph.register_generator_state(self.run.generator)
        self.run.optimizer.zero_grad(set_to_none=True)
        with torch.cuda.graph(self.graph, stream=self.stream):
            self._update(self.rows)


class _Bar:
    """One progress line: live while training runs, and a summary without timings when it ends."""

    def __init__(self, enabled: bool, run: _Run) -> None:
        self.run = run
        self.shown_at = run.step
        self.bar = tqdm(
            total=run.total_steps,
            initial=run.step,
            disable=not enabled,
            # In a notebook standard error looks like an error; in a terminal it keeps standard output clean.
            file=sys.stdout if in_notebook() else sys.stderr,
            bar_format="{percentage:3.0f}%|{bar:20}| {elapsed}<{remaining}{postfix}",
        )

    def __enter__(self) -> "_Bar":
        return self

    def show(self) -> None:
        """Move the bar on; on an accelerator only once an epoch, since reading the terms would make it wait."""
        run = self.run
        due = run.step % run.batches == 0 or (run.device.type == "cpu" and run.step - self.shown_at >= 20)
        if not self.bar.disable and due:
            self.bar.set_postfix_str(
                f"epoch {math.ceil(run.step / run.batches)}: {_in_words(run.means())}", refresh=False
            )
            self.bar.update(run.step - self.shown_at)
            self.shown_at = run.step

    def __exit__(self, kind: type | None, *rest: object) -> None:
        history = self.run.history
        if kind is None and history.epochs:
            end = {name: values[-1] for name, values in history.train.items()}
            stopped = f", stopped in epoch {history.epochs + 1}" if history.interrupted else ""
            self.bar.bar_format = "{desc}"
            self.bar.set_description_str(f"{history.epochs} epochs{stopped}: {_in_words(end)}")
        self.bar.close()


@contextmanager
def _interruption() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C into a flag, so that no step is cut in half; the second one acts as usual."""
    stopped = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return
    before = signal.getsignal(signal.SIGINT)

    def note(number: int, frame: object) -> None:
        stopped.set()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, note)
    try:
        yield stopped
    finally:
        signal.signal(signal.SIGINT, before)


def _examples(model: nn.Module, data: Images, y: Tensor | np.ndarray | None) -> tuple[Tensor, Tensor | None]:
    """Return checked rows, and one condition for each where the model takes conditions."""
    images, labels = (data.images, data.labels) if isinstance(data, ImageData) else (data, None)
    conditions = labels if y is None else torch.as_tensor(y)
    home = next(model.parameters()).device
    images = torch.as_tensor(images).to(home)
    check = getattr(model, "check", None)
    x = images if check is None else check(images)
    if len(x) == 0:
        raise ValueError("there are no images to train on or to validate with: the data are empty")
    if y is None and not hasattr(model, "condition_dim"):
        return x, None
    if conditions is None or len(conditions) != len(x):
        raise ValueError(
            f"{len(x)} images need {len(x)} conditions y, not {None if conditions is None else len(conditions)}"
        )
    check_condition = getattr(model, "check_condition", None)
    conditions = conditions.to(home)
    return x, conditions if check_condition is None else check_condition(conditions)


def _in_words(means: dict[str, float]) -> str:
    if "kl" not in means:
        return f"objective {means['objective']:.2f}"
    negative_elbo = means["kl"] - means["log_likelihood"]
    return (
        f"-ELBO {negative_elbo:.2f} = -log p(x|z) {-means['log_likelihood']:.2f} + KL {means['kl']:.2f} nats per image"
    )


def _difference(means: dict[str, list[float]]) -> list[float]:
    return [a - b for a, b in zip(means.get("log_likelihood", []), means.get("kl", []), strict=True)]
