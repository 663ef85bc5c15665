"""The state of a training run, and what surrounds its loop: order, sums, validation, watching, saving and resuming."""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from os import PathLike, fspath
from typing import Any

import torch
from torch import Tensor, nn

from vaelib import checkpoints
from vaelib._content import digest, of_a_library
from vaelib._cuda import Recorder
from vaelib._guards import (
    CheckedTransform,
    TrainingError,
    copied,
    note_used_networks,
    trainable,
    warn_of_other_validation,
    warn_of_used_networks,
)
from vaelib._identity import changed, differences, identity
from vaelib._model_checks import global_noise
from vaelib._notices import warn
from vaelib._objectives import NAMES, about_a_negative_kl, batch_means, that_writes_nothing
from vaelib._state import storable
from vaelib.checkpoints import CheckpointError
from vaelib.contract import Objective, Transform
from vaelib.networks import evaluating

_EVALUATION_ROWS = 2000
_GRADIENT = "the sum of the gradients"
# Nats a pixel that no log density reaches: sigma would have to be exp(-19).
_NATS_A_PIXEL = 20
# Likelihoods that are probabilities and not densities.
_PROBABILITIES = ("bernoulli", "discretised_logistic")
_FEW = 100


@dataclass
class History:
    """What training measured: means over the examples, one number per finished epoch, in nats per image.

    ``train`` and ``validation`` map "objective", "log_likelihood" and "kl" to lists; a custom objective that returns a
    plain tensor, or a model with a loss, leaves "objective" alone. ``best_weights`` is a copy of the weights after
    ``best_epoch`` (counted from 1), the epoch with the highest validation ELBO, whatever the weight of the KL then was
    (or objective, where that is all there is; a warning says so if it depends on the step, since its values can't be
    compared then); load it with ``model.load_state_dict``. ``interrupted`` says that the run has steps left to take.
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


class Run:
    """One run: everything that a checkpoint has to hold, and the tensors on the device that the loop works with.

    Args:
        model: on the device already.
        data: checked images and conditions.
        held_out: those of validation, if any.
        settings: what identifies the run.
        objective: what is maximised.
        transform: of each training batch.
        device: where to compute.
        given: the reader's own objective, if that is what is maximised.
        shape: of one image, as the reader gave it, for the transform.
    """

    def __init__(
        self,
        model: nn.Module,
        data: tuple[Tensor, Tensor | None],
        held_out: tuple[Tensor, Tensor | None] | None,
        settings: dict[str, Any],
        objective: Objective,
        transform: Transform | None,
        device: torch.device,
        given: Objective | None,
        shape: tuple[int, ...] = (),
    ) -> None:
        # Any: what a model offers beyond nn.Module (start_at_mean, config) is looked up, not declared.
        self.model: Any = model
        self.objective, self.device, self.given_transform = that_writes_nothing(objective), device, transform
        self.x, self.y = _moved(data, device)
        self.held_out = None if held_out is None else _moved(held_out, device)
        self.settings, self.batch_size = settings, settings["batch_size"]
        grey = None if self.held_out is None else self.held_out[0]
        self.transform = None if transform is None else CheckedTransform(transform, model, grey, shape)
        if transform is None:
            warn_of_other_validation(self.x[: self.batch_size], grey)
        self.batches = math.ceil(len(self.x) / self.batch_size)
        self.total_steps = self.batches * settings["epochs"]
        self.step = 0
        self.given, self.began_with = given, ""
        self.history = History()
        self.said: set[str] = set()
        # MPS has no float64.
        self.sums = torch.zeros(3, device=device, dtype=torch.float32 if device.type == "mps" else torch.float64)
        self.names: tuple[str, ...] = ()  # of what the objective gives, once that is known
        self.first = torch.full_like(self.sums[0], math.inf)  # the objective in the first step, where that was here
        self.generator = torch.Generator(device=device).manual_seed(settings["seed"])
        self.parameters = trainable(model)
        self.idle = set(range(len(self.parameters)))  # those that have not had a gradient yet
        self.optimizer = torch.optim.Adam(self.parameters, lr=settings["learning_rate"], betas=(0.9, 0.99), fused=True)
        self.recorder: Recorder | None = None
        if device.type == "cuda":
            # A reader's own code may do what a graph can't record, or would be recorded with the values of that moment.
            recordable = given is None and transform is None and all(map(of_a_library, map(type, model.modules())))
            self.recorder = Recorder(self.optimizer, self.generator, self.batch_size, recordable)

    # What the loop calls

    def shuffled(self, epoch: int) -> Tensor:
        """Return the row numbers of an epoch: they follow from seed and epoch, so no checkpoint holds them."""
        generator = torch.Generator("cpu").manual_seed(self.settings["seed"] * 1_000_003 + epoch)
        return torch.randperm(len(self.x), generator=generator, device="cpu").to(self.device)

    def recorded(self, take_step: Callable[[Tensor], None]) -> Callable[[Tensor], None]:
        """Return the step as the device takes it fastest: on CUDA recorded and replayed, elsewhere as it is."""
        return take_step if self.recorder is None else self.recorder.recorded(take_step)

    def set_rate(self, rate: float) -> None:
        """Set the learning rate of the step that follows."""
        if self.recorder is not None:
            self.recorder.announce(self.step, rate)
            return
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def watch(self, means: Tensor) -> None:
        """Stop training before the optimizer's step where a term or a gradient is not finite: on CUDA it is skipped.

        Raises:
            TrainingError: at once on a CPU, at the end of the epoch on CUDA, where nothing waits for the device.
            TypeError: for an objective that returned ElboTerms before and a tensor now, or the other way round.
            ValueError: where no parameter has a gradient.
        """
        self._name(means)
        if self.idle:
            self.idle -= {place for place in self.idle if self.parameters[place].grad is not None}
        gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        if not gradients:
            raise ValueError(
                f"no parameter of this {type(self.model).__name__} gets a gradient: the objective must depend on those "
                "of the model that it is given"
            )
        # A sum is finite only where all of its numbers are, and costs a tenth of a norm.
        total = torch.stack([gradient.sum() for gradient in gradients]).sum().to(means)
        if self.step == 0:
            self.first.copy_(means[0])
        if self.recorder is not None:
            self.recorder.watch(torch.cat([means, total.unsqueeze(0)]))
        elif not math.isfinite((means.sum() + total).item()):
            raise self._diverged(self.step, torch.cat([means, total.unsqueeze(0)]))

    def working(self) -> AbstractContextManager[None]:
        """Work where the steps of an epoch are to run: on CUDA on a stream of their own."""
        return nullcontext() if self.recorder is None else self.recorder.own_stream()

    def wait(self) -> None:
        """Wait for the device at the end of an epoch, and raise where a step of it was skipped."""
        if self.recorder is not None and (bad := self.recorder.bad_step()) >= 0:
            raise self._diverged(bad, self.recorder.bad_values)
        if self.transform is not None:
            self.transform.settle(self.x)

    def finish_epoch(self) -> None:
        """Add the means of the epoch to the history, and those of validation, and keep the best weights."""
        self._warn_of_what_can_t_be()
        self._warn_of_idle_parameters()
        for name, value in self.means().items():
            self.history.train.setdefault(name, []).append(value)
        self.sums.zero_()
        if self.held_out is None:
            return
        for name, value in self._validate(*self.held_out, self.step).items():
            self.history.validation.setdefault(name, []).append(value)
        self._warn_of_scores_that_differ_in_kind(*self.held_out)
        scores = self.history.validation_elbo or self.history.validation["objective"]
        if math.isfinite(scores[-1]) and scores[-1] == max(filter(math.isfinite, scores)):
            self.history.best_epoch = len(scores)
            self.history.best_weights = copied(self.model.state_dict())

    def _name(self, means: Tensor) -> None:
        """Note which means the objective gives; they must be the same in each step, since they are summed."""
        names = NAMES[: len(means)]
        if self.names and names != self.names:
            kinds = ["ElboTerms" if len(each) > 1 else "a tensor" for each in (self.names, names)]
            raise TypeError(
                f"the objective returned {kinds[0]} before and {kinds[1]} now (step {self.step}): return the same "
                "always; the log likelihood alone is ElboTerms(log_likelihood, kl, beta=0.0)"
            )
        self.names = names

    def _warn_of_what_can_t_be(self) -> None:
        """Warn, once of each kind, where an epoch ended where no training leads, or at what no bound can be."""
        first, found = self.first.item(), self.means()
        mean, limit = found["objective"], _NATS_A_PIXEL * self.x[0].numel()
        epoch = math.ceil(self.step / self.batches)
        what = f"the objective went from {first:.4g} in the first step to a mean of {mean:.4g} in epoch {epoch}"
        plain = self.given is not None and len(self.names) == 1
        if (plain and first > 0 and mean > 10 * first + 10) or mean > max(10 * abs(first) + 10, limit):
            self._say("run off", f"{what}, and fit maximises it: {self._if_it_is_a_loss()}")
        elif math.isfinite(first) and mean < first - 3 * abs(first) - 10:
            rate = self.settings["learning_rate"]
            remedy = f"a smaller learning_rate than {rate:g} is the usual remedy"
            self._say("run off", f"{what}, where it should grow: {remedy}")
        likelihood = getattr(getattr(self.model, "likelihood", None), "name", None)
        if plain and mean > 0 and likelihood in _PROBABILITIES:
            self._say(
                "run off",
                f"the objective is positive (a mean of {mean:.4g} in epoch {epoch}), as no bound on the logarithm of a "
                f"probability ({likelihood}) is, and fit maximises it: {self._if_it_is_a_loss()}",
            )
        if "kl" not in found:
            return
        if (said := about_a_negative_kl(found["kl"], len(self.x))) is not None:
            self._say("kl", said)
        if likelihood in _PROBABILITIES and found["log_likelihood"] > 0:
            self._say(
                "probability",
                f"the mean log likelihood is {found['log_likelihood']:.4g} in epoch {epoch}, and the logarithm of a "
                f"probability ({likelihood}) is never above 0: ElboTerms takes log p(x|z), not its negative",
            )

    def _if_it_is_a_loss(self) -> str:
        if len(self.names) > 1:
            return "if its terms are those of a loss, note that ElboTerms takes log p(x|z), not its negative"
        if self.given is not None:
            return "if it is a loss, return its negative"
        if callable(getattr(self.model, "elbo", None)):
            return "if elbo(x) returns a loss, call that method loss"
        return "if loss(x) returns a bound, call that method elbo"

    def _say(self, kind: str, message: str) -> None:
        if kind not in self.said:
            self.said.add(kind)
            warn(message)

    def _warn_of_idle_parameters(self) -> None:
        """Warn, after the first epoch, of parameters that no step of it gave a gradient, of zero or otherwise."""
        idle = {id(self.parameters[place]) for place in self.idle}
        self.idle.clear()
        names = [name for name, parameter in self.model.named_parameters() if id(parameter) in idle]
        if names:
            more = f" and {len(names) - 5} more" if len(names) > 5 else ""
            warn(
                f"no gradient reached {', '.join(names[:5])}{more} in a whole epoch, so that training leaves them as "
                "they are: use them in the objective, without detach() or torch.no_grad() on the way, or say that they "
                "are to stay with requires_grad_(False)"
            )

    def _warn_of_scores_that_differ_in_kind(self, x: Tensor, y: Tensor | None) -> None:
        """Warn, after the first epoch, of a plain objective that depends on the step: its values can't be compared."""
        if self.given is None or len(self.names) > 1 or len(self.history.validation["objective"]) > 1:
            return
        few = x[:_FEW], None if y is None else y[:_FEW]
        found = []
        for step in (self.step, self.total_steps):
            found.append(self._validate(*few, step))
        if repr(found[0]) != repr(found[1]):  # as text, since NaN is not equal to itself
            warn(
                "the objective depends on the step, so that its values in different epochs can't be compared, as "
                "best_epoch and best_weights do: return ElboTerms, such as model.elbo(x, beta=beta), of which the ELBO "
                "is compared, whatever beta was"
            )

    def means(self) -> dict[str, float]:
        """Return the means of the epoch under way."""
        done = (self.step - 1) % self.batches + 1
        seen = min(done * self.batch_size, len(self.x))
        return dict(zip(self.names, (self.sums[: len(self.names)] / seen).tolist(), strict=True))

    # Saving and resuming

    def start(self, checkpoint: str | PathLike[str] | None) -> None:
        """Take up the run that the checkpoint holds, or begin one.

        Raises:
            CheckpointError: where the file holds another run; the model is then unchanged.
        """
        if checkpoint is not None:
            # By content, so that no other model, data, conditions, objective or transform is taken for these.
            self.settings["identity"] = identity(
                self.model,
                data=self.x,
                conditions=self.y,
                validation=self.held_out,
                objective=self.given,
                transform=self.given_transform,
            )
            self.settings["changed"] = {}
            self.began_with = digest(self.model.state_dict())
            with suppress(FileNotFoundError):
                self._resume(checkpoint, checkpoints.peek(checkpoint))
                return
        warn_of_used_networks(self.model)
        note_used_networks(self.model)
        if hasattr(self.model, "start_at_mean"):
            self.model.start_at_mean(self.x)

    def save(self, checkpoint: str | PathLike[str] | None) -> None:
        """Write everything that going on needs, if there is a file to write to."""
        if checkpoint is None:
            return
        self.history.interrupted = self.step < self.total_steps
        # What the run has changed itself as it went, such as a counter of the objective's, makes it no other run.
        now = identity(self.model, objective=self.given, transform=self.given_transform)
        self.settings["changed"] |= changed(self.settings["identity"], now)
        checkpoints.save(
            checkpoint,
            self.model,
            config=storable(getattr(self.model, "config", None)),
            settings=self.settings,
            began_with=self.began_with,
            weights=digest(self.model.state_dict()),
            step=self.step,
            sums=self.sums,
            optimizer=self.optimizer.state_dict(),
            generator={"device": self.device.type, "state": self.generator.get_state()},
            global_generator=torch.get_rng_state(),
            history=vars(self.history),
        )

    def release(self) -> None:
        """Let go of everything that training holds on the device."""
        self.recorder = None
        self.optimizer.zero_grad(set_to_none=True)
        self.optimizer.state.clear()
        del self.x, self.y, self.held_out
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _resume(self, path: str | PathLike[str], state: dict[str, Any]) -> None:
        place, saved, own = fspath(path), state.get("settings"), self.settings
        if saved is None:
            raise CheckpointError(f"{place} holds a model but no training run: give this run a file of its own")
        configs = state.get("config"), getattr(self.model, "config", None)
        # At a constant rate the steps of more epochs begin with those of fewer.
        extended = own["schedule"] is None and own["epochs"] > saved["epochs"]
        different, unknown, lost = differences(saved | ({"epochs": own["epochs"]} if extended else {}), own, configs)
        if not different and self.began_with not in (state["began_with"], state["weights"]):
            different = ["weights: neither those with which that run began nor those of the file (another seed?)"]
        if different:
            raise CheckpointError(
                f"{place} holds another run ({'; '.join(different)}): repeat its settings with a model made in the "
                "same way, or give this run another file"
            )
        if unknown:
            warn(f"{place} is taken for this run, though {', '.join(unknown)} can't be compared by content")
        if lost:
            warn(
                f"the run in {place} had changed as it went what no checkpoint holds, and goes on with what is here: "
                + ", ".join(lost)
            )
        own["changed"] = saved.get("changed", {})
        checkpoints.restore(path, self.model)
        self.began_with = state["began_with"]
        self.step = state["step"]
        self.sums = state["sums"].to(self.sums)
        self.optimizer.load_state_dict(state["optimizer"])
        self.history = History(**state["history"])
        self.names = NAMES[: len(self.history.train)]
        if state["generator"]["device"] == self.device.type:
            self.generator.set_state(state["generator"]["state"])
        torch.set_rng_state(state["global_generator"])
        if self.recorder is not None:
            self.recorder.prepare_optimizer()
        if self.step >= self.total_steps:
            warn(f"nothing was trained: {place} holds this run, finished after {self.history.epochs} epochs")

    @torch.no_grad()
    def _validate(self, x: Tensor, y: Tensor | None, step: int) -> dict[str, float]:
        generator = torch.Generator(device=self.device).manual_seed(self.settings["seed"])
        sums = torch.zeros_like(self.sums)
        with evaluating(self.model), global_noise(self.device, self.settings["seed"]):
            for start in range(0, len(x), _EVALUATION_ROWS):
                rows = slice(start, start + _EVALUATION_ROWS)
                given = x[rows], None if y is None else y[rows]
                _, means = batch_means(self.objective(self.model, *given, step, generator), x[rows])
                self._name(means)
                sums[: len(means)] += means * len(x[rows])
        return dict(zip(self.names, (sums[: len(self.names)] / len(x)).tolist(), strict=True))

    def _diverged(self, step: int, values: Tensor) -> TrainingError:
        """Return the error that names where training went wrong and in which term."""
        epoch, batch = divmod(step, self.batches)
        found = dict(zip((*self.names, _GRADIENT), values.tolist(), strict=False))
        bad = [name for name in (*reversed(self.names), _GRADIENT) if not math.isfinite(found[name])]
        name = bad[0] if bad else "objective"
        return TrainingError(
            f"epoch {epoch + 1}, batch {batch + 1}: {name} is {found[name]}. Training stopped before that step "
            "changed the weights; a smaller learning_rate is the usual remedy."
        )


def _moved(data: tuple[Tensor, Tensor | None], device: torch.device) -> tuple[Tensor, Tensor | None]:
    x, y = data
    return x.to(device), None if y is None else y.to(device)


def _difference(means: dict[str, list[float]]) -> list[float]:
    return [a - b for a, b in zip(means.get("log_likelihood", []), means.get("kl", []), strict=True)]
