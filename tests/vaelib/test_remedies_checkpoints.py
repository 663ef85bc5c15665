"""Each remedy that a message of checkpoints or of the command line names, obeyed as a reader would: it helps."""

import os
import re
import shlex
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from vaelib import checkpoints, data, evaluation, pretrained
from vaelib.__main__ import main
from vaelib.checkpoints import CheckpointError
from vaelib.training import fit
from vaelib.vae import VAE

SMALL = ["--data", "digits", "--device", "cpu", "--quiet", "--hidden", "4", "--latent", "2", "--epochs", "1"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.safetensors"


def refusal(call, kind: type[Exception] = CheckpointError) -> str:
    """What a call that must be refused says."""
    with pytest.raises(kind) as caught:
        call()
    return str(caught.value)


def fits(path: Path, model: nn.Module) -> bool:
    """Whether a file goes into a model without an error or a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        checkpoints.load(path, model)
    return True


# checkpoints


def test_build_the_model_as_it_was(path):
    model = VAE(16, (8,), 2, activation="tanh")
    checkpoints.save(path, model, config=model.config)
    for other in (VAE(16, (8,), 2), VAE(16, (9,), 2, activation="tanh"), VAE(16, (8,), 2, activation="tanh").double()):
        assert "Build the model as it was when it was saved" in refusal(lambda m=other: checkpoints.load(path, m))
    assert fits(path, pretrained.build(checkpoints.peek(path)["config"], seed=7))


def test_wait_stop_it_or_take_another_file(path):
    def run():
        with checkpoints.lock(path):
            checkpoints.save(path, VAE(4, (3,), 2))

    with checkpoints.lock(path):
        assert "wait until it ends, stop it, or give this run a file of its own" in refusal(run)
        with checkpoints.lock(path.with_name("own.safetensors")):
            pass
    run()


def test_the_path_comes_first(path):
    model = VAE(4, (3,), 2)
    for call in (checkpoints.save, checkpoints.load):
        for swapped in ((model, path), (str(path), model.state_dict()), (3, model), (None, model)):
            message = refusal(lambda call=call, swapped=swapped: call(*swapped), TypeError)
            assert message.startswith("a path comes first, then the model: save(path, model), load(path, model); not ")
    assert "; not VAE" in refusal(lambda: checkpoints.save(model, path), TypeError)
    assert not path.exists()
    checkpoints.save(path, model)
    assert fits(path, VAE(4, (3,), 2))


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="no folder where nobody can make a file")
def test_where_no_file_can_be_made_at_all_no_other_run_is_blamed(path):
    def run(file):
        with checkpoints.lock(file):
            pass

    assert "choose a folder you may write to" in refusal(lambda: run("/proc/model"), OSError)
    run(path)


def test_name_a_file_in_the_folder(tmp_path):
    model = VAE(4, (3,), 2)
    for call in (lambda: checkpoints.save(tmp_path, model), lambda: checkpoints.load(tmp_path, model)):
        named = refusal(call, IsADirectoryError).rpartition("such as ")[2]
        checkpoints.save(named, model)
        assert fits(Path(named), model)


def test_choose_a_folder_that_can_be_written_to(tmp_path, path):
    (tmp_path / "file").touch()
    said = refusal(lambda: checkpoints.save(tmp_path / "file" / "model", VAE(4, (3,), 2)), OSError)
    assert "choose a folder you may write to" in said
    checkpoints.save(path, VAE(4, (3,), 2))
    assert fits(path, VAE(4, (3,), 2))


def test_a_file_is_named_in_the_place_of_a_pipe(path, monkeypatch):
    if not hasattr(os, "mkfifo"):
        pytest.skip("Windows has no pipes with a name in a folder")
    pipe = path.with_name("pipe")
    os.mkfifo(pipe)
    named = refusal(lambda: checkpoints.save(pipe, VAE(4, (3,), 2))).rpartition("such as ")[2]
    assert pipe.is_fifo()
    monkeypatch.chdir(path.parent)
    checkpoints.save(named, VAE(4, (3,), 2))
    assert path.exists()


def test_write_one_with_save(path):
    model = VAE(4, (3,), 2)
    said = refusal(lambda: checkpoints.load(path, model), FileNotFoundError)
    (call,) = re.findall(r"write one with vaelib\.(checkpoints\.save\(path, model\))", said)
    eval(call, {"checkpoints": checkpoints, "path": path, "model": model})
    assert fits(path, model)


def test_open_a_pickle_with_torch_and_save_its_weights(tmp_path, path):
    theirs, model = nn.Linear(3, 2), nn.Linear(3, 2)
    pickled = tmp_path / "theirs.pt"
    torch.save(theirs.state_dict(), pickled)
    said = refusal(lambda: checkpoints.load(pickled, model))
    (call,) = re.findall(r"open it with (torch\.load\(path, weights_only=True\)), put the weights into a model", said)
    model.load_state_dict(eval(call, {"torch": torch, "path": pickled}))
    checkpoints.save(path, model)
    assert fits(path, nn.Linear(3, 2)) and torch.equal(model.weight, theirs.weight)


def test_restore_a_damaged_file_from_a_copy(path):
    checkpoints.save(path, nn.Linear(3, 2))
    copy = path.read_bytes()
    path.write_bytes(copy[:-1])
    assert "Restore it from another copy, or train and save again" in refusal(lambda: checkpoints.peek(path))
    path.write_bytes(copy)
    assert fits(path, nn.Linear(3, 2))
    path.write_bytes(copy[:-1])
    checkpoints.save(path, nn.Linear(3, 2))
    assert fits(path, nn.Linear(3, 2))


def test_upgrade_for_a_newer_format(path, monkeypatch):
    with monkeypatch.context() as newer:
        newer.setattr(checkpoints, "_FORMAT", 2)
        checkpoints.save(path, nn.Linear(3, 2))
    assert "upgrade vaelib" in refusal(lambda: checkpoints.peek(path))
    monkeypatch.setattr(checkpoints, "_FORMAT", 2)
    assert fits(path, nn.Linear(3, 2))


def test_see_that_you_may_read_it(path, monkeypatch):
    def refused(_):
        raise PermissionError(13, "Permission denied")

    checkpoints.save(path, nn.Linear(3, 2))
    with monkeypatch.context() as forbidden:  # root may read everything
        forbidden.setattr(Path, "read_bytes", refused)
        said = refusal(lambda: checkpoints.load(path, nn.Linear(3, 2)), PermissionError)
    assert "cannot read the checkpoint (Permission denied): see that you may read it" in said and path.name in said
    assert fits(path, nn.Linear(3, 2))


@pytest.mark.parametrize(
    ("value", "named", "obeyed"),
    [
        (np.arange(3), "torch.as_tensor of it", torch.as_tensor(np.arange(3))),
        (Path("a"), "str of it", str(Path("a"))),
        ({1, 2}, "lists", [1, 2]),
        ({(1, 2): 3}, "dicts with str or int keys", {"1, 2": 3}),
        (None if (sparse := torch.eye(2).to_sparse()) is None else sparse, "t.to_dense()", sparse.to_dense()),
        (torch.zeros(2, dtype=torch.complex128), "t.to(torch.complex64)", torch.zeros(2, dtype=torch.complex64)),
        (torch.zeros(2, dtype=torch.uint16), "t.to(torch.int64)", torch.zeros(2, dtype=torch.int64)),
    ],
    ids=["array", "path", "set", "keys", "sparse", "complex128", "uint16"],
)
def test_what_a_state_can_t_hold_is_held_as_the_message_says(path, value, named, obeyed):
    model = nn.Linear(1, 1)
    said = refusal(lambda: checkpoints.save(path, model, best=value), TypeError)
    assert said.startswith("best: a checkpoint cannot hold a ") and named in said and not path.exists()
    checkpoints.save(path, model, best=obeyed)
    assert checkpoints.peek(path).keys() == {"best"}


def test_what_fields_a_warning_names_are_set_and_it_is_gone(path):
    def build():
        model = nn.Sequential(nn.Linear(2, 2))
        model.calls = 0
        return model

    used = build()
    used.calls = 3
    checkpoints.save(path, used)
    other = build()
    with pytest.warns(UserWarning, match="calls: 3 there, 0 here") as caught:
        checkpoints.load(path, other)
    name, value = re.findall(r"(\w+): (\d+) there", str(caught[0].message))[0]
    setattr(other, name, int(value))
    assert fits(path, other)


# fit on a checkpoint


def test_a_run_goes_on_with_its_own_settings_or_begins_in_another_file(path):
    def run(beta=1.0, file=path, seed=0):
        def objective(model, x, y, step, generator):
            return model.elbo(x, beta=beta, generator=generator)

        x = torch.rand(20, 4, generator=torch.Generator().manual_seed(0))
        options = {"epochs": 1, "device": "cpu", "progress": False, "checkpoint": file}
        return fit(VAE(4, (3,), 2, seed=seed), x, objective=objective, **options)

    run()
    for change in ({"beta": 8.0}, {"seed": 3}):
        said = refusal(lambda change=change: run(**change))
        assert "repeat its settings with a model made in the same way, or give this run another file" in said
        with pytest.warns(UserWarning, match="nothing was trained"):
            run()
        assert run(**change, file=path.with_name(f"{next(iter(change))}.safetensors")).epochs == 1


def test_a_file_without_a_run_and_a_run_need_two_files(path):
    checkpoints.save(path, VAE(4, (3,), 2))
    x, options = torch.rand(20, 4), {"epochs": 1, "device": "cpu", "progress": False}
    said = refusal(lambda: fit(VAE(4, (3,), 2), x, checkpoint=path, **options))
    assert "give this run a file of its own" in said
    assert fit(VAE(4, (3,), 2), x, checkpoint=path.with_name("own"), **options).epochs == 1


# The command line


def said_by(capsys, *arguments: str) -> str:
    """The one line that a refused command prints."""
    try:
        code = main(arguments)
    except SystemExit as left:
        code = left.code
    captured = capsys.readouterr()
    assert code in (1, 2) and captured.out == "" and captured.err.count("\n") == 1
    return captured.err.strip()


def works(capsys, *arguments: str) -> str:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "nothing was trained")
        assert main(arguments) == 0
    return capsys.readouterr().out


def test_the_help_that_is_pointed_to_names_the_options(capsys):
    said = said_by(capsys, "train", "--latents", "3")
    (arguments,) = re.findall(r"\(see (?:python -m vaelib|vaelib) (.*)\)$", said) or [said]
    with pytest.raises(SystemExit) as left:
        main(["train", *arguments.split()[-1:]])
    assert left.value.code == 0 and "--latent LATENT" in capsys.readouterr().out


@pytest.mark.parametrize("option", ["--hidden", "--latent", "--epochs", "--batch-size", "--validation", "--samples"])
def test_the_smallest_number_that_is_named_works(option, capsys):
    said = said_by(capsys, "train", *SMALL, option, "-7")
    (least,) = re.findall(rf"argument {option}: give a whole number from (\d+) to ", said)
    works(capsys, "train", *SMALL, option, least)


@pytest.mark.parametrize("value", ["-1", str(2**32)])
def test_the_largest_seed_that_is_named_works(value, capsys):
    (most,) = re.findall(r"from 0 to ([\d,]+),", said_by(capsys, "train", *SMALL, "--seed", value))
    works(capsys, "train", *SMALL, "--seed", most.replace(",", ""))


@pytest.mark.parametrize(
    ("wrong", "named", "right"),
    [
        (["--device", "gpu"], "--device cpu works everywhere", ["--device", "cpu"]),
        (["--device", "meta"], "--device cpu works everywhere", ["--device", "cpu"]),
        (["--learning-rate", "0"], "give a positive number", ["--learning-rate", "0.001"]),
        (["--learning-rate", "1e30"], "a smaller learning_rate", ["--learning-rate", "0.001"]),
        (["--validation", "1500"], "take less", ["--validation", "1499"]),
        (["--data", "cats"], "digits", ["--data", "digits"]),
        (["--activation", "gelu"], "tanh", ["--activation", "tanh"]),
        (["--likelihood", "poisson"], "gaussian", ["--likelihood", "gaussian"]),
    ],
)
def test_the_value_that_is_named_works(wrong, named, right, capsys):
    assert named in said_by(capsys, "train", *SMALL, *wrong)
    assert "test -ELBO" in works(capsys, "train", *SMALL, *right)


def test_data_that_are_named_are_there(capsys):
    names = said_by(capsys, "data", "cats").partition("take ")[2].partition(" (see")[0].split(", ")
    assert "digits" in names and "digits train" in works(capsys, "data", "digits")


def test_another_file_is_written(tmp_path, path, capsys):
    (tmp_path / "notes.txt").write_text("mine")
    checkpoints.save(tmp_path / "bare", VAE(64, (4,), 2))
    for wrong in ("notes.txt", "notes.txt/model", "."):
        assert "give --out another file" in said_by(capsys, "train", *SMALL, "--out", f"{tmp_path}/{wrong}")
    assert "give this run a file of its own" in said_by(capsys, "train", *SMALL, "--out", f"{tmp_path}/bare")
    works(capsys, "train", *SMALL, "--out", str(path))
    said = said_by(capsys, "train", *SMALL, "--epochs", "2", "--out", str(path))
    assert "epochs: 1 there, 2 here" in said and "repeat its settings" in said and "another file" in said
    works(capsys, "train", *SMALL, "--out", str(path))
    works(capsys, "train", *SMALL, "--epochs", "2", "--out", str(path.with_name("other")))


def test_the_command_that_writes_a_missing_file_and_a_shipped_name_work(path, capsys, monkeypatch):
    said = said_by(capsys, "evaluate", str(path), "--data", "digits")
    (command,) = re.findall(r"write a file with vaelib (train --out .*)$", said)
    works(capsys, *shlex.split(command), *SMALL)
    assert "test -ELBO" in works(capsys, "evaluate", str(path), "--data", "digits", "--device", "cpu")
    names = said.partition("take one of ")[2].partition(", or write")[0].split(", ")
    assert names == pretrained.names()
    monkeypatch.setattr(data, "load", few_of_mnist)
    works(capsys, "evaluate", names[0], "--device", "cpu")


def few_of_mnist(name: str, split: str = "train") -> data.ImageData:
    images = torch.rand(5, 28, 28, generator=torch.Generator().manual_seed(0))
    return data.ImageData(name, images, torch.arange(5))


def test_the_data_that_a_model_was_trained_on_are_given(path, capsys, monkeypatch):
    model = VAE(784, (4,), 2)
    checkpoints.save(path, model, config=model.config)
    said = said_by(capsys, "evaluate", str(path), "--data", "digits", "--device", "cpu")
    assert "images of 784 pixels" in said and "give the --data that it was trained on" in said
    monkeypatch.setattr(data, "load", few_of_mnist)
    assert "5 images of mnist" in works(capsys, "evaluate", str(path), "--data", "mnist", "--device", "cpu")


def test_a_model_with_networks_of_its_own_is_evaluated_in_python(path, capsys):
    def build():
        return VAE(64, (4,), 2, decoder=nn.Sequential(nn.Linear(2, 5), nn.ReLU(), nn.Linear(5, 64)))

    checkpoints.save(path, build(), config=build().config)
    said = said_by(capsys, "evaluate", str(path), "--data", "digits", "--device", "cpu")
    model, images = build(), data.load("digits", "test").images
    calls = re.findall(r"vaelib\.(checkpoints\.load\(path, model\)|evaluation\.mean_elbo\(model, images\))", said)
    names = {"checkpoints": checkpoints, "evaluation": evaluation, "path": path, "model": model, "images": images}
    _, bound = [eval(call, names) for call in calls]
    assert bound < 0


def test_the_same_command_goes_on_after_an_interruption(path, capsys, monkeypatch):
    epochs = ["--epochs", "3"]
    stopped = threading.Event()
    original = checkpoints.save

    def stop(*arguments, **state):
        original(*arguments, **state)
        if not stopped.is_set():
            stopped.set()
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints, "save", stop)
    assert main(["train", *SMALL, *epochs, "--out", str(path)]) == 130
    assert checkpoints.peek(path)["step"] == 12
    monkeypatch.undo()
    works(capsys, "train", *SMALL, *epochs, "--out", str(path))
    assert checkpoints.peek(path)["step"] == 36
