"""One training loop for every model of the book: fast, resumable, and safe to interrupt."""

import threading
from collections.abc import Callable
from contextlib import ExitStack
from os import PathLike
from typing import Any

import torch
from torch import Tensor, nn

from vaelib import checkpoints
from vaelib._devices import choose_device
from vaelib._guards import TrainingError, training_mode, unchanged_by_failure
from vaelib._inputs import Array, Images, images_and_labels, naming_types, training_examples, validation_examples
from vaelib._interrupt import interruption
from vaelib._model_checks import check_model
from vaelib._objectives import batch_means, check_function, objective_of
from vaelib._progress import Bar
from vaelib._run import History, Run
from vaelib.contract import ElboTerms, Objective, Transform
from vaelib.networks import check_positive_integer, check_positive_number, check_seed, first_tensor

__all__ = ["ElboTerms", "History", "Objective", "TrainingError", "Transform", "choose_device", "fit"]


def training_loop(run: Run, stopped: threading.Event, show: Callable[[], None], save: Callable[[], None]) -> None:
    """The training loop: from a batch of images to a step of the optimizer, epoch by epoch."""
    model, optimizer, generator = run.model, run.optimizer, run.generator

    def take_step(rows: Tensor) -> None:
        x, y = run.x.index_select(0, rows), None if run.y is None else run.y[rows]
        if run.transform is not None:
            x = run.transform(x, generator)
        # Means over the batch: what is maximised, and all that is remembered (both terms of the ELBO, if known).
        objective, means = batch_means(run.objective(model, x, y, run.step, generator), x)
        optimizer.zero_grad(set_to_none=True)
        (-objective).backward()
        run.watch(means)  # a number that is not finite stops training here, before it reaches the weights
        optimizer.step()
        run.sums[: len(means)] += means * len(rows)

    step_on = run.recorded(take_step)
    while run.step < run.total_steps and not stopped.is_set():
        epoch, done = divmod(run.step, run.batches)
        with run.working():
            for rows in run.shuffled(epoch).split(run.batch_size)[done:]:
                run.set_rate(_rate(run.step, run.total_steps, **run.settings))
                step_on(rows)
                run.step += 1
                show()
                if stopped.is_set():
                    break
        run.wait()
        if run.step == (epoch + 1) * run.batches:
            run.finish_epoch()
        save()


def _rate(step: int, total: int, learning_rate: float, schedule: str | None, **others: object) -> float:
    """Return the learning rate of a step: up from 0 in the first tenth of the steps, then down to 0, or constant."""
    if schedule is None:
        return learning_rate
    warm_up = max(1, round(0.1 * total))
    return learning_rate * min((step + 1) / warm_up, (total - step) / max(1, total - warm_up))


def fit(
    model: nn.Module,
    data: Images,
    *,
    epochs: int,
    y: Array | None = None,
    batch_size: int = 128,
    learning_rate: float = 3e-3,
    schedule: str | None = "linear",
    objective: Objective | None = None,
    transform: Transform | None = None,
    validation: Images | tuple[Images, Array] | None = None,
    device: str | torch.device = "auto",
    seed: int = 0,
    checkpoint: str | PathLike[str] | None = None,
    progress: bool = True,
) -> History:
    """Maximise the ELBO, or another objective, over minibatches with Adam, and return what was measured.

    ``theta, phi <- argmax 1/N sum_n L(theta, phi; x_n)``, one gradient step for each minibatch (the AEVB algorithm).
    The images stay in one tensor on the device, shuffled by index; they are checked once. The model is moved to the
    device, trained in place in train mode, and put back. The first run of a fresh model starts its decoder at the mean
    image.

    What looks wrong is warned about: parameters that get no gradient, a negative KL, an objective that runs off.

    Ctrl-C (the stop button) ends training after the step under way: model, history and checkpoint agree, and
    ``history.interrupted`` is True. A second Ctrl-C raises KeyboardInterrupt at once.

    Args:
        model: a model with ``elbo``, or with ``loss``, which is minimised (see `vaelib.contract`), or any module
            together with an ``objective``.
        data: ImageData, or images ``(N, H, W)``, ``(N, C, H, W)`` or ``(N, D)``.
        epochs: passes over the data.
        y: conditions, one for each image; they replace the labels of ImageData.
        batch_size: images in a step; the last batch of an epoch may be smaller.
        learning_rate: the highest rate of the schedule.
        schedule: "linear" (10% of the steps up from 0, then down to 0) or None (constant).
        objective: ``(model, x, y, step, generator) -> (batch,)`` or ElboTerms, maximised in place of the ELBO.
        transform: ``(x, generator) -> x`` on each training batch, such as `vaelib.data.binarize`, in the shape in which
            the images are given; each is checked.
        validation: images on which the ELBO is measured after each epoch, in eval mode and always with the same noise,
            as they are, without the transform; a pair of images and conditions where y replaces the labels.
        device: "auto" (CUDA, then MPS, then CPU) or a name.
        seed: seeds the order of the data and the noise; that of layers such as Dropout too.
        checkpoint: a file, written after each epoch and on interruption; a run that finds it goes on from there, on a
            CPU bit for bit as if it had never stopped.
        progress: show one line with both terms of the ELBO.

    Raises:
        ValueError: for settings or data that can't be right, or what a transform or an objective returns.
        TypeError: for a model without ``elbo`` or ``loss``, or for data that are no images.
        CheckpointError: for a checkpoint of another run, or one that another run is writing.
        TrainingError: when a term or a gradient is no longer finite (epoch, batch and term are named, the weights are
            those before that step, the last checkpoint is intact), or memory runs out.

    Source:
        Kingma and Welling (2014), algorithm 1; chapters 7 and 9.
    """
    settings: dict[str, Any] = {
        "epochs": check_positive_integer("epochs", epochs),
        "batch_size": check_positive_integer("batch_size", batch_size),
        "learning_rate": check_positive_number("learning_rate", learning_rate),
        "schedule": schedule,
        "seed": check_seed(seed),
    }
    if schedule not in ("linear", None):
        raise ValueError(f"unknown schedule {schedule!r}: choose 'linear' or None")
    check_model(model, own_bound=objective is None)
    check_function("objective", objective, "model, x, y, step, generator")
    check_function("transform", transform, "x, generator")
    maximised = objective_of(model) if objective is None else objective
    place, home = choose_device(device), first_tensor(model).device
    examples = training_examples(model, data, y)
    held_out = validation_examples(model, validation, y)
    with ExitStack() as stack:
        if checkpoint is not None:
            if isinstance(checkpoint, bool):
                raise TypeError(f"checkpoint must be the path of a file, not {checkpoint}")
            stack.enter_context(checkpoints.lock(checkpoint))
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.callback(model.to, home)
        stack.enter_context(training_mode(model.to(place), settings["seed"], place))
        shape = tuple(images_and_labels(data)[0].shape[1:])
        run = Run(model, examples, held_out, settings, maximised, transform, place, objective, shape)
        stack.enter_context(naming_types(run.x))
        stack.enter_context(unchanged_by_failure(run))
        run.start(checkpoint)
        stopped = stack.enter_context(interruption())
        bar = stack.enter_context(Bar(progress, run))
        try:
            training_loop(run, stopped, bar.show, lambda: run.save(checkpoint))
        except torch.OutOfMemoryError as error:
            run.release()
            raise TrainingError(
                f"{place} ran out of memory at batch_size={batch_size}: try batch_size={max(1, batch_size // 2)}. "
                "What training held on the device is free again."
            ) from error
        finally:
            run.history.interrupted = run.step < run.total_steps
    return run.history
