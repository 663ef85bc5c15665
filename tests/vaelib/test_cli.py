"""vaelib, or python -m vaelib: what it prints, what it refuses in one line, and what an interruption leaves behind."""

import io
import math
import os
import re
import signal
import subprocess
import sys
import time
import warnings

import pytest
import torch
from PIL import Image
from torch import nn

import vaelib
from vaelib import __main__ as command_line
from vaelib import checkpoints, data, evaluation, pretrained, training
from vaelib.__main__ import main
from vaelib._made import Rendered
from vaelib._sets import SETS
from vaelib.autoencoder import Autoencoder
from vaelib.cvae import CVAE
from vaelib.vae import VAE

SMALL = ["--data", "digits", "--device", "cpu", "--quiet", "--hidden", "16", "--latent", "2"]


def run(*arguments):
    command = [sys.executable, "-m", "vaelib", *map(str, arguments)]
    return subprocess.run(command, check=False, capture_output=True, text=True, encoding="utf-8", timeout=240)


def elbo_line(text):
    """Return the one line with the test -ELBO."""
    (line,) = re.findall(r"^test -ELBO .*$", text, flags=re.MULTILINE)
    return line


def one_line(text):
    """Return the text's only line; a traceback has many."""
    (line,) = text.splitlines()
    return line


def test_a_warning_is_one_line_without_one_of_the_program():
    program = (
        "import sys, warnings; from vaelib import data, __main__\n"
        "def load(*_): warnings.warn('small'); raise ValueError('no data')\n"
        "data.load = load; sys.exit(__main__.main(['train', '--data', 'digits']))"
    )
    found = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True, timeout=240)
    assert found.returncode == 1 and found.stderr.splitlines() == ["vaelib: small", "vaelib train: no data"]


def test_evaluate_repeats_the_number_that_train_printed(tmp_path, capsys):
    out = tmp_path / "model.safetensors"
    assert main(["train", *SMALL, "--epochs", "1", "--out", str(out)]) == 0
    trained = elbo_line(capsys.readouterr().out)
    assert main(["evaluate", str(out), "--data", "digits", "--device", "cpu"]) == 0
    assert elbo_line(capsys.readouterr().out) == trained
    assert "297 images of digits, grey pixels, not binarised, z sampled once" in trained


def test_more_training_gives_a_lower_test_negative_elbo(capsys):
    found = {}
    for epochs in ("1", "20"):
        assert main(["train", *SMALL, "--epochs", epochs, "--validation", "100"]) == 0
        found[epochs] = float(re.findall(r"-ELBO (\S+)", capsys.readouterr().out)[0])
    # 64 pixels that each cost log 2 when nothing is known: no sane model of the digits lies above.
    assert found["20"] < found["1"] < 64 * 0.6931


def test_binarised_pixels_are_said_to_be_binarised(capsys):
    assert main(["train", *SMALL, "--epochs", "1", "--binarize"]) == 0
    assert "binarised pixels" in elbo_line(capsys.readouterr().out).replace("not binarised", "")


def test_a_conditional_model_is_trained_and_evaluated_with_its_classes_and_importance_samples(tmp_path, capsys):
    out = tmp_path / "cvae.safetensors"
    assert main(["train", *SMALL, "--conditional", "--hidden", "64", "--epochs", "60", "--out", str(out)]) == 0
    trained = elbo_line(capsys.readouterr().out)
    assert "297 images of digits given their class, grey pixels" in trained
    assert main(["evaluate", str(out), "--data", "digits", "--device", "cpu", "--quiet", "--samples", "50"]) == 0
    output = capsys.readouterr().out
    assert elbo_line(output) == trained and "50 importance samples" in output
    bound, estimate = (float(re.findall(rf"-{name} (\S+) nats", output)[0]) for name in ("ELBO", "log p"))
    # 50 samples tighten the bound, by less than the whole KL term.
    assert bound - 10 < estimate < bound


def test_the_version_is_the_package_s(capsys):
    with pytest.raises(SystemExit) as left:
        main(["--version"])
    assert left.value.code == 0
    assert one_line(capsys.readouterr().out) == f"vaelib {vaelib.__version__}"


@pytest.mark.parametrize(
    ("started", "name"),
    [
        ("/usr/local/bin/vaelib", "vaelib"),
        ("Scripts/vaelib.exe", "vaelib"),
        ("/a/vaelib/__main__.py", "python -m vaelib"),
    ],
)
def test_the_messages_name_the_command_that_was_typed(started, name, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", [started])
    with pytest.raises(SystemExit):
        main(["fly"])
    message = one_line(capsys.readouterr().err)
    assert message.startswith(f"{name}: ") and message.endswith(f"(see {name} --help)")


def test_data_command_lists_both_splits_of_the_digits(capsys):
    assert main(["data", "digits"]) == 0
    printed = capsys.readouterr().out
    assert "digits train: 1500 x 8 x 8 images" in printed
    assert "digits test: 297 x 8 x 8 images" in printed
    assert printed.splitlines()[-1] == "the digits come with scikit-learn: verified"


# FAULTS 51: non-zero exit, one line, no traceback.


def test_unknown_flag_exits_with_2_and_one_line():
    finished = run("train", "--epoch-count", "3")
    assert finished.returncode == 2
    assert "--epoch-count" in one_line(finished.stderr)
    assert "--help" in finished.stderr


@pytest.mark.parametrize("arguments", [[], ["fly"], ["train", "--epochs", "ten"], ["train", "--data", "cats"]])
def test_unknown_command_or_value_exits_with_2_and_one_line(arguments, capsys):
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 2
    assert one_line(capsys.readouterr().err)


@pytest.fixture
def nothing_is_done(monkeypatch):
    """Fail where data are loaded or a model is trained, since something was to be refused before."""

    def fail(*_, **__):
        raise AssertionError("too late")

    for name in ("load", "locate"):
        monkeypatch.setattr(data, name, fail)
    monkeypatch.setattr(command_line, "fit", fail)
    monkeypatch.setattr(command_line, "_report", fail)


@pytest.mark.usefixtures("nothing_is_done")
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("notes.txt/model.safetensors", "cannot write the checkpoint"),
        ("notes.txt", "not written by vaelib.checkpoints.save"),
        ("", "is a folder: name a file in it, such as "),
        ("a\0b", "null byte"),
        ("x" * 300, "cannot write the checkpoint"),
    ],
)
def test_an_output_that_can_t_be_written_is_refused_before_anything_is_done(name, said, tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("mine")
    assert main(["train", *SMALL, "--out", f"{tmp_path}/{name}"]) == 1
    message = one_line(capsys.readouterr().err)
    assert message.startswith("vaelib train: --out: ") and said in message
    assert message.endswith("; or give --out another file")
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no pipes with a name in a folder")
@pytest.mark.usefixtures("nothing_is_done")
def test_a_pipe_is_no_output_and_no_checkpoint(tmp_path, capsys):
    pipe = tmp_path / "pipe"  # never a device of this machine, which a mistake would replace by a file
    os.mkfifo(pipe)
    for arguments in (["train", *SMALL, "--out", str(pipe)], ["evaluate", str(pipe)]):
        assert main(arguments) == 1
        assert "is a device or a pipe, no file" in one_line(capsys.readouterr().err)
    assert pipe.is_fifo()


SIZES = "give a whole number from 1 to 1,000,000, not"
NUMBERS = "give a whole number from {} to 1,000,000,000, not"


@pytest.mark.usefixtures("nothing_is_done")
@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        *(("--hidden", value, f"{SIZES} '{value}'") for value in ("0", "-3", "a,b", "1.5", "1000001", "1e3")),
        *(("--latent", value, f"{SIZES} '{value}'") for value in ("0", "1000000000", str(10**30))),
        *(("--epochs", value, f"{NUMBERS.format(1)} '{value}'") for value in ("0", "-1", "ten", "1000000001")),
        *(("--batch-size", value, f"{NUMBERS.format(1)} '{value}'") for value in ("0", "-5", "nan")),
        *(("--validation", value, f"{NUMBERS.format(0)} '{value}'") for value in ("-1", "half")),
        *(("--samples", value, f"{NUMBERS.format(0)} '{value}'") for value in ("-1", "1.0")),
        *(("--seed", value, f"from 0 to 4,294,967,295, not '{value}'") for value in ("-1", str(2**32), str(2**70))),
        *(("--learning-rate", value, f"a positive number, not '{value}'") for value in ("0", "-1", "nan", "inf", "x")),
        *(("--device", value, "--device cpu works everywhere") for value in ("gpu", "", "meta", "cuda:77")),
        ("--likelihood", "poisson", "invalid choice: 'poisson'"),
        ("--activation", "gelu", "invalid choice: 'gelu'"),
        ("--data", "cats", "no data of the name 'cats', and no such folder: take digits"),
        ("--beta", "nan", "unrecognized arguments: --beta nan"),
    ],
)
def test_an_option_that_can_t_be_right_is_named_before_anything_is_done(option, value, said, capsys):
    with pytest.raises(SystemExit) as left:
        main(["train", *SMALL, option, value])
    assert left.value.code == 2
    message = one_line(capsys.readouterr().err)
    assert option in message and said in message


@pytest.mark.usefixtures("nothing_is_done")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["evaluate", "mnist-2d", "--samples", "-1"], "argument --samples: give a whole number from 0"),
        (["evaluate", "mnist-2d", "--device", "meta"], "argument --device: nothing can be computed on device 'meta'"),
        (["evaluate"], "required: model"),
        (["data", "digits", "cats"], "no data of the name 'cats': take digits"),
    ],
)
def test_options_of_the_other_commands_are_named_too(arguments, said, capsys):
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 2 and said in one_line(capsys.readouterr().err)


def options_of(*arguments):
    return command_line._parser().parse_args(arguments)


def test_options_have_the_values_that_the_help_states():
    assert vars(options_of("train")) == {
        "command": "train",
        "run": command_line._train,
        "hidden": None,  # 400, where there are no channels
        "channels": None,
        "latent": 20,
        "likelihood": None,  # bernoulli for grey images
        "sigma": None,  # 1 for grey images
        "activation": "relu",
        "epochs": 10,
        "batch_size": 128,
        "learning_rate": 3e-3,
        "constant": False,
        "validation": 0,
        "seed": 0,
        "out": None,
        "conditional": False,
        "size": None,  # 28, of a folder
        "colour": False,
        "skip_broken": False,
        "data": "mnist",
        "binarize": False,
        "samples": 0,
        "quiet": False,
        "device": "auto",
    }
    assert options_of("train", "--hidden").hidden == []
    assert options_of("train", "--hidden", "1000000", "1", "--seed", str(2**32 - 1)).hidden == [1_000_000, 1]
    evaluated = {"command", "run", "model", "data", "binarize", "samples", "quiet", "device", "skip_broken"}
    assert set(vars(options_of("evaluate", "x"))) == evaluated | {"size", "colour"}  # which the model says
    grey = data.load("digits", "test").subset(3)
    config = command_line._config(grey, options_of("train"))
    assert (config["hidden_dims"], config["likelihood"]) == ([400], "bernoulli") and "sigma" not in config
    colour = command_line._config(data.load("patches", "test"), options_of("train"))
    assert (colour["hidden_dims"], colour["likelihood"], colour["sigma"]) == ([400], "gaussian", "learned")
    assert options_of("data").names == [] and options_of("data", "mnist").names == ["mnist"]


@pytest.mark.parametrize("command", ["train", "evaluate", "data"])
def test_the_help_says_what_each_option_is_and_its_default(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "500")  # no line broken at a hyphen
    for arguments in (["--help"], [command, "--help"]):
        with pytest.raises(SystemExit) as left:
            main(arguments)
        assert left.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    subparsers = next(each for each in command_line._parser()._actions if isinstance(each.choices, dict))
    assert (
        {each.dest for each in subparsers._choices_actions} == set(subparsers.choices) == {"train", "evaluate", "data"}
    )
    for each in subparsers._choices_actions:
        assert " ".join(each.help.split()) in text
    for option in subparsers.choices[command]._actions:
        assert " ".join(option.help.split()) in text
        for default in option.default if isinstance(option.default, list) else [option.default]:
            stated = default in (None, False, "==SUPPRESS==") or re.search(rf"\({default}\b.*\)$", option.help)
            assert stated, option.dest
    assert command != "data" or "(all)" in text


def test_the_options_reach_the_model_and_the_training(monkeypatch, tmp_path, capsys):
    seen = {}

    def fit(model, train, **options):
        seen.update(options, model=model, images=len(train))
        return training.History(train={"objective": [0.0]}, interrupted=True)

    monkeypatch.setattr(command_line, "fit", fit)
    out = tmp_path / "a" / "b" / "model.safetensors"
    most = ["--hidden", "5", "3", "--latent", "2", "--likelihood", "gaussian", "--activation", "tanh", "--epochs", "7"]
    most += ["--batch-size", "9", "--learning-rate", "0.5", "--constant", "--validation", "100", "--seed", "4"]
    assert main(["train", "--data", "digits", "--device", "cpu", *most, "--binarize", "--out", str(out)]) == 130
    assert f"stopped in epoch 2; the same command goes on from {out}" in one_line(capsys.readouterr().out)
    model, validation = seen.pop("model"), seen.pop("validation")
    assert model.config == {
        **{"data_dim": 64, "hidden_dims": [5, 3], "latent_dim": 2},
        **{"likelihood": "gaussian", "activation": "tanh", "sigma": 1.0},
    }
    assert torch.equal(model.encoder[0].weight, VAE(64, (5, 3), 2, "gaussian", "tanh", seed=4).encoder[0].weight)
    train, expected = data.train_validation_split(data.load("digits"), 100, seed=4)
    binary = data.binarize(expected.images, torch.Generator().manual_seed(4))
    assert torch.equal(validation.images, binary) and seen.pop("images") == len(train) == 1400
    assert seen == {
        **{"epochs": 7, "batch_size": 9, "learning_rate": 0.5, "schedule": None, "transform": data.binarize},
        **{"device": "cpu", "seed": 4, "checkpoint": out, "progress": True},
    }
    assert main(["train", "--data", "digits", "--device", "cpu", "--quiet", "--conditional"]) == 130
    assert one_line(capsys.readouterr().out) == "stopped in epoch 2"
    assert isinstance(seen["model"], CVAE) and seen["model"].condition_dim == 10
    assert (seen["schedule"], seen["transform"], seen["validation"], seen["checkpoint"]) == ("linear", None, None, None)
    assert seen["progress"] is False and seen["images"] == 1500


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--learning-rate", "1e30"], "a smaller learning_rate"),
        (["--validation", "1500"], "--validation 1500: digits has 1500 training images, take less"),
    ],
)
def test_what_the_data_show_to_be_wrong_is_said_in_one_line(arguments, said, capsys):
    assert main(["train", *SMALL, *arguments]) == 1
    assert said in one_line(capsys.readouterr().err)


def test_all_but_one_image_may_be_set_aside(monkeypatch):
    monkeypatch.setattr(command_line, "fit", lambda *_, **__: training.History(interrupted=True))
    assert main(["train", *SMALL, "--validation", "1499"]) == 130


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")]
)
def test_a_model_that_needs_more_memory_than_there_is_gets_a_remedy(error, monkeypatch, capsys):
    def fit(*_, **__):
        raise error

    monkeypatch.setattr(command_line, "fit", fit)
    assert main(["train", *SMALL]) == 1
    assert "not enough memory for this model: take a smaller --hidden, --channels or --latent" in one_line(
        capsys.readouterr().err
    )


def test_a_mistake_of_the_library_s_own_is_not_hidden(monkeypatch):
    def fit(*_, **__):
        raise RuntimeError("a bug")

    monkeypatch.setattr(command_line, "fit", fit)
    with pytest.raises(RuntimeError, match="a bug"):
        main(["train", *SMALL])


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Files of many kinds that somebody might hand in."""
    folder = tmp_path_factory.mktemp("files")
    vae, own = VAE(64, (4,), 2), VAE(64, (4,), 2, decoder=nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 64)))
    sloped = VAE(64, (4,), 2, encoder=nn.Sequential(nn.Linear(64, 4), nn.LeakyReLU(0.9), nn.Linear(4, 4)))
    torch.save({"weight": torch.zeros(3)}, folder / "pickle.pt")
    (folder / "notes.txt").write_text("notes")
    checkpoints.save(folder / "bare", vae)
    checkpoints.save(folder / "own networks", own, config=own.config)
    checkpoints.save(folder / "own slope", sloped, config=sloped.config | {"activation": "leaky_relu"})
    checkpoints.save(folder / "foreign", nn.Linear(2, 2), config={"width": 2})
    checkpoints.save(folder / "text", nn.Linear(2, 2), config="x")
    checkpoints.save(folder / "autoencoder", Autoencoder(64, (4,), 2), config={"data_dim": 64, "latent_dim": 2})
    checkpoints.save(folder / "mnist", VAE(784, (4,), 2), config=VAE(784, (4,), 2).config)
    (folder / "cut").write_bytes((folder / "bare").read_bytes()[:-1])
    return folder


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("pickle.pt", "Pickle files"),
        ("notes.txt", "not written by vaelib.checkpoints.save"),
        ("cut", "damaged"),
        ("", "is a folder: name a file in it"),
        ("notes.txt/x", "there is no file"),
        ("absent", "there is no file"),
        *((name, "does not say enough of how its model was built") for name in ("bare", "own networks", "own slope")),
        *((name, "does not say enough of how its model was built") for name in ("foreign", "text", "autoencoder")),
        ("mnist", "takes images of 784 pixels, and those of digits have 64: give the --data that it was trained on"),
    ],
)
def test_evaluate_refuses_what_it_can_t_evaluate_in_one_line(name, said, files, capsys):
    assert main(["evaluate", str(files / name), "--data", "digits", "--device", "cpu"]) == 1
    captured = capsys.readouterr()
    assert said in one_line(captured.err) and captured.out == ""


def test_a_shipped_model_is_evaluated_by_its_name(monkeypatch, capsys):
    small = VAE(64, (4,), 2)
    monkeypatch.setattr(pretrained, "load", lambda name: small if name == "mnist-2d" else None)
    assert main(["evaluate", "mnist-2d", "--data", "digits", "--device", "cpu", "--binarize"]) == 0
    printed = elbo_line(capsys.readouterr().out)
    test = data.load("digits", "test")
    binary = data.binarize(test.images, torch.Generator().manual_seed(0))
    assert f"test -ELBO {-evaluation.mean_elbo(small, binary):.2f} nats per image (297 images of digits, bin" in printed


@pytest.mark.parametrize("quiet", [False, True])
def test_the_bar_of_the_log_evidence_is_shown_unless_quiet_is_asked_for(quiet, monkeypatch, capsys):
    monkeypatch.setattr(pretrained, "load", lambda name: VAE(64, (4,), 2))
    options = ["evaluate", "mnist-2d", "--data", "digits", "--device", "cpu", "--samples", "2"]
    assert main([*options, *(["--quiet"] if quiet else [])]) == 0
    assert ("297/297" in capsys.readouterr().err) is not quiet


def test_a_checkpoint_of_other_settings_is_left_alone(tmp_path, capsys):
    out = tmp_path / "model.safetensors"
    assert main(["train", *SMALL, "--epochs", "1", "--out", str(out)]) == 0
    before = out.read_bytes()
    capsys.readouterr()
    assert main(["train", *SMALL, "--epochs", "2", "--out", str(out)]) == 1
    assert "epochs: 1 there, 2 here" in one_line(capsys.readouterr().err)
    assert out.read_bytes() == before


# FAULTS 32 and 33, from outside.


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for one process")
def test_interrupted_training_exits_cleanly_and_the_same_command_finishes_it(tmp_path, capsys):
    out = tmp_path / "model.safetensors"
    # Two seconds of training: on a busy machine, too, it is stopped before its end, and not while it reports.
    epochs = 100
    arguments = ["train", *SMALL, "--epochs", epochs]
    command = [sys.executable, "-m", "vaelib", *map(str, arguments), "--out", str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while not out.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        printed, errors = process.communicate(timeout=60)
    assert process.returncode == 130  # so that `vaelib train ... && ...` does not go on with an unfinished model
    assert errors == ""
    assert "the same command goes on from" in one_line(printed)
    state = checkpoints.peek(out)
    assert state["history"]["interrupted"]
    assert 0 < state["step"] < epochs * 12  # 1,500 images are 12 batches of at most 128

    # On a CPU a resumed run is the uninterrupted one bit for bit, so every printed digit agrees.
    lines = []
    for extra in (["--out", str(out)], []):
        assert main([*map(str, arguments), *extra]) == 0
        lines.append(elbo_line(capsys.readouterr().out))
    assert checkpoints.peek(out)["step"] == epochs * 12 and lines[0] == lines[1]


# Somebody who has read enough, a full disk, Ctrl-C


class Output(io.StringIO):
    """A standard output that fails once it is flushed."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def flush(self):
        raise self.error


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (BrokenPipeError(32, "Broken pipe"), 141, ""),
        (
            OSError(28, "No space left on device"),
            1,
            "vaelib: cannot write to standard output: No space left on device\n",
        ),
    ],
)
def test_an_output_that_takes_no_more_ends_the_command_without_a_traceback(error, code, said, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdout", Output(error))
    assert main(["data", "digits"]) == code
    assert capsys.readouterr().err == said


def test_a_pipe_that_breaks_while_something_is_printed_counts_as_one(monkeypatch, capsys):
    def fail(options):
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(command_line, "_data", fail)
    assert main(["data", "digits"]) == 141
    assert capsys.readouterr().err == ""


def test_ctrl_c_before_and_after_training_ends_with_130_and_one_line(monkeypatch, capsys):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(data, "load", stop)
    for arguments in (["data", "digits"], ["train", *SMALL]):
        assert main(arguments) == 130
        assert one_line(capsys.readouterr().err) == f"vaelib {arguments[0]}: stopped"


def test_closed_outputs_stop_nothing(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    loud = [each for each in SMALL if each != "--quiet"]
    assert main(["train", *loud, "--epochs", "1", "--out", str(tmp_path / "model.safetensors")]) == 0
    assert checkpoints.peek(tmp_path / "model.safetensors")["step"] == 12


@pytest.mark.skipif(os.name == "nt", reason="a pipe of Windows breaks in another way")
def test_a_broken_pipe_leaves_no_traceback_behind():
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write) as closed:
        command = [sys.executable, "-m", "vaelib", "data", "digits"]
        buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
        finished = subprocess.run(
            command, env=buffered, check=False, stdout=closed, stderr=subprocess.PIPE, text=True, timeout=240
        )
    assert (finished.returncode, finished.stderr) == (141, "")


# Colour, convolutions, and a folder of pictures


@pytest.fixture
def pictures(tmp_path):
    """Return a folder of 40 small pictures in colour, half of them in each of two subfolders."""
    folder = tmp_path / "pictures"
    patches = data.load("patches").subset(torch.arange(40) * 100)
    for i, (image, label) in enumerate(zip(patches.images, patches.labels, strict=True)):
        path = folder / patches.classes[label] / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image * 255).round().byte().permute(1, 2, 0).numpy()).save(path)
    return folder


QUICK = ["--device", "cpu", "--quiet", "--latent", "2", "--epochs", "1", "--batch-size", "16"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--hidden", "8"], "4 images of pictures, grey pixels, not binarised"),
        (["--colour", "--size", "16", "--hidden", "8"], "4 images of pictures, in colour"),
        (["--colour", "--size", "16", "--channels", "4", "6"], "4 images of pictures, in colour"),
        (["--channels", "4", "6"], "4 images of pictures, grey pixels"),
        (["--colour", "--size", "8", "--channels", "4", "--conditional"], "given their class, in colour"),
        (["--colour", "--size", "8", "--channels", "4", "--likelihood", "discretised_logistic"], "in colour"),
    ],
)
def test_a_folder_is_trained_on_and_evaluated_with_the_same_number(pictures, tmp_path, capsys, more, said):
    out = tmp_path / "model.safetensors"
    assert main(["train", "--data", str(pictures), *QUICK, *more, "--out", str(out)]) == 0
    trained = capsys.readouterr().out
    assert said in elbo_line(trained)
    assert main(["evaluate", str(out), "--data", str(pictures), "--device", "cpu", "--quiet"]) == 0
    assert capsys.readouterr().out == trained
    bits = re.findall(r"^test bits per dimension (\S+) \((.*);", trained, flags=re.MULTILINE)
    if "in colour" in said:
        nats = -float(re.findall(r"-ELBO (\S+)", trained)[0])
        model = command_line._rebuilt(str(out))
        size = model.data_shape[-1]
        (value, kind), discrete = bits[0], "discretised_logistic" in more
        wanted = -nats / (3 * size**2 * math.log(2)) + (0 if discrete else math.log2(255))
        assert float(value) == pytest.approx(wanted, abs=0.001)
        assert kind == ("a bound" if discrete else "of a density, pixels without noise: no bound")
        assert discrete or model.log_sigma.requires_grad
    else:
        assert bits == []


def test_every_tenth_picture_of_a_folder_is_for_the_test_and_no_other(pictures):
    options = command_line._parser().parse_args(["train", "--data", str(pictures), "--colour", "--size", "32"])
    train, test = command_line._read(options)
    whole = data.from_folder(pictures, 32, colour=True)
    assert torch.equal(test.images, whole.images[4::10]) and len(train) == 36
    apart = torch.cdist(train.images.flatten(1), test.images.flatten(1))
    assert apart.min() > 0.01
    options.conditional = True
    assert command_line._read(options)[1].classes == ("flower", "temple")
    assert command_line._read(options)[1].labels.bincount().tolist() == [2, 2]


@pytest.mark.parametrize("more", [["--hidden", "8"], ["--channels", "4", "4"]])
def test_the_scene_is_trained_on_by_its_name(monkeypatch, tmp_path, capsys, more):
    monkeypatch.setenv("VAELIB_CACHE", str(tmp_path))
    monkeypatch.setitem(SETS, "scene", Rendered("scene", {"train": (60, 0), "test": (20, 1)}))
    assert main(["train", "--data", "scene", *QUICK, *more]) == 0
    assert "20 images of scene, in colour" in elbo_line(capsys.readouterr().out)
    assert main(["train", "--data", "scene", *QUICK, *more, "--conditional", "--sigma", "0.1"]) == 0
    assert "given their class" in elbo_line(capsys.readouterr().out)


def test_a_learned_sigma_starts_at_the_one_that_fits_the_mean_image(pictures, tmp_path, capsys):
    out = tmp_path / "model.safetensors"
    more = ["--colour", "--size", "8", "--hidden", "4", "--learning-rate", "1e-9", "--out", str(out)]
    assert main(["train", "--data", str(pictures), *QUICK, *more]) == 0
    images = data.from_folder(pictures, 8, colour=True).images
    train = images[torch.arange(40) % 10 != 4].numpy()
    # The best sigma of a Gaussian with given means is the root of the mean squared distance from them.
    sigma = math.sqrt(((train - train.mean(0)) ** 2).mean())
    assert command_line._rebuilt(str(out)).log_sigma.exp().item() == pytest.approx(sigma, rel=1e-4)
    assert 0.1 < sigma < 0.5


def refusal(arguments, capsys):
    """Return the one line that a command ends with."""
    try:
        code = main(arguments)
    except SystemExit as left:
        code = left.code
    assert code in (1, 2)
    return one_line(capsys.readouterr().err)


def test_folders_that_cannot_be_trained_on_are_refused_with_the_reason(pictures, tmp_path, capsys):
    def said(*more):
        return refusal(["train", *QUICK, *map(str, more)], capsys)

    assert "no such folder: take digits" in said("--data", tmp_path / "nothing")
    file = next(pictures.rglob("*.png"))
    assert "is a file: give the folder" in said("--data", file)
    (tmp_path / "empty").mkdir()
    assert "there is no picture in" in said("--data", tmp_path / "empty")
    (tmp_path / "few").mkdir()
    for i in range(9):
        (tmp_path / "few" / f"{i}.png").write_bytes(file.read_bytes())
    assert "holds 9 pictures: give 10 at least" in said("--data", tmp_path / "few")
    assert "3 convolutions halve" in said("--data", pictures, "--channels", "4", "4", "4")
    assert "leave one of them out" in said("--data", pictures, "--channels", "4", "--hidden", "8")
    assert "halve 0 times" in said("--data", pictures, "--size", "15", "--channels", "4")
    assert "lies in no subfolder" in said("--data", tmp_path / "few", "--conditional")
    assert "give a whole number" in said("--data", pictures, "--channels", "0")
    assert "give a positive number, not 'wide'" in said("--data", pictures, "--sigma", "wide")
    assert "belongs to likelihood='gaussian'" in said("--data", pictures, "--sigma", "0.3")
    (pictures / "temple" / "broken.png").write_bytes(b"")
    assert "temple/broken.png: is empty (0 bytes)" in said("--data", pictures)
    with pytest.warns(UserWarning, match="left out"):
        assert main(["train", *QUICK, "--data", str(pictures), "--skip-broken", "--hidden", "8"]) == 0


@pytest.mark.parametrize(
    ("more", "named"),
    [(["--size", "28"], "--size"), (["--size", "4", "--colour"], "--size and --colour"), (["--skip-broken"], "--skip")],
)
def test_options_of_a_folder_are_refused_for_a_data_set_that_is_read_as_it_is(more, named, capsys):
    said = refusal(["train", *SMALL, *more], capsys)
    assert said.startswith(f"vaelib train: {named}") and "or give --data the path of a folder (./digits)" in said


def test_a_folder_has_28_pixels_unless_told_otherwise(pictures):
    options = command_line._parser().parse_args(["train", "--data", str(pictures)])
    assert command_line._read(options)[0].images.shape == (36, 28, 28)


def test_remedies_are_those_of_the_command_line(pictures, capsys, monkeypatch):
    (pictures / "temple" / "broken.png").write_bytes(b"")
    said = refusal(["train", *QUICK, "--data", str(pictures)], capsys)
    assert "leave them out with --skip-broken." in said and "skip_broken" not in said
    pen = Image.new("RGBA", (4, 4), (255, 255, 255, 0))
    pen.putpixel((1, 1), (255, 255, 255, 255))
    pen.save(pictures / "temple" / "broken.png")
    assert "argument of vaelib.data.from_folder" in refusal(["train", *QUICK, "--data", str(pictures)], capsys)
    monkeypatch.setenv("HOME", str(pictures))
    monkeypatch.setenv("USERPROFILE", str(pictures))
    assert "~/temple/broken.png is a file" in refusal(["train", *QUICK, "--data", "~/temple/broken.png"], capsys)
    pen.convert("RGB").save(pictures / "alone.png")
    assert "--conditional takes" in refusal(["train", *QUICK, "--data", str(pictures), "--conditional"], capsys)


def in_silence(arguments):
    """Run a command, of which a remark would be an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert main([*map(str, arguments)]) == 0


def noted(capsys, *arguments):
    """Return what a command that ends well says on standard error: its remarks."""
    with pytest.warns(UserWarning) as caught:
        assert main([*map(str, arguments)]) == 0
    capsys.readouterr()
    return "\n".join(str(each.message) for each in caught)


def test_pictures_without_colour_and_copies_in_the_test_are_remarked_on(tmp_path, capsys):
    generator = torch.Generator().manual_seed(0)
    for i, image in enumerate(torch.rand(20, 9, 9, generator=generator)):
        Image.fromarray((255 * image).byte().numpy()).save(tmp_path / f"{i:02}.png")
    train = ["train", *QUICK, "--data", tmp_path, "--hidden", "4", "--size", "9"]
    in_silence(train)
    assert "each number is there three times" in noted(capsys, *train, "--colour")
    Image.new("RGB", (9, 9), "red").save(tmp_path / "03.png")  # a single one has colours
    in_silence([*train, "--colour"])
    (tmp_path / "14.png").write_bytes((tmp_path / "15.png").read_bytes())
    assert "1 of the 2 test pictures" in noted(capsys, *train)


def test_a_bernoulli_of_colours_is_said_to_be_no_likelihood(pictures, capsys):
    train = ["train", *QUICK, "--data", str(pictures), "--hidden", "4", "--size", "8", "--likelihood", "bernoulli"]
    for more, wanted in ((["--colour"], True), (["--colour", "--binarize"], False)):
        assert main([*train, *more]) == 0
        assert ("Bernoulli's formula is no likelihood" in elbo_line(capsys.readouterr().out)) == wanted


def test_pictures_that_are_not_those_of_the_training_are_remarked_on(pictures, tmp_path, capsys):
    out = tmp_path / "model.safetensors"
    train = ["train", *QUICK, "--data", str(pictures), "--hidden", "4", "--size", "8", "--out", str(out)]
    assert main(train) == 0
    evaluate = ["evaluate", str(out), "--data", str(pictures), "--device", "cpu", "--quiet"]
    in_silence(evaluate)
    # One picture more in front, and each test picture is another one, which was trained on.
    Image.new("RGB", (9, 9), "red").save(pictures / "flower" / "000.png")
    assert "some of these may have been trained on" in noted(capsys, *evaluate)


def test_a_validation_part_hides_which_pictures_were_trained_on_and_nothing_is_said(pictures, tmp_path, capsys):
    out = tmp_path / "model.safetensors"
    train = ["train", *QUICK, "--data", str(pictures), "--hidden", "4", "--size", "8", "--out", str(out)]
    assert main([*train, "--validation", "5"]) == 0
    in_silence(["evaluate", out, "--data", pictures, "--device", "cpu", "--quiet"])


@pytest.mark.parametrize("more", [["--hidden", "4"], ["--channels", "4"]])
def test_classes_keep_their_numbers_in_a_folder_with_others(pictures, tmp_path, capsys, more):
    out = tmp_path / "model.safetensors"
    train = ["train", *QUICK, "--data", str(pictures), *more, "--size", "8", "--conditional", "--out", str(out)]
    assert main(train) == 0
    model = command_line._rebuilt(str(out))
    assert model.config["classes"] == ["flower", "temple"]
    other = tmp_path / "other"
    other.mkdir()
    (pictures / "temple").rename(other / "temple")
    options = command_line._parser().parse_args(["evaluate", str(out), "--data", str(other)])
    options.conditional, options.likelihood = True, "bernoulli"
    train, test = command_line._read(options, model)
    assert set(train.labels.tolist()) == set(test.labels.tolist()) == {1}  # it would be 0 of this folder alone
    (other / "temple").rename(other / "fish")
    assert "its subfolder is not among the classes ['flower', 'temple']" in refusal(
        ["evaluate", str(out), "--data", str(other), "--device", "cpu", "--quiet"], capsys
    )


def test_a_model_of_another_set_is_not_evaluated_on_colour(tmp_path, capsys):
    assert "takes images of 784 pixels, and those of patches have 3072" in refusal(
        ["evaluate", "mnist-20d", "--data", "patches"], capsys
    )


def test_data_without_names_goes_on_past_what_is_missing(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("VAELIB_DATA", str(tmp_path))
    monkeypatch.setenv("VAELIB_CACHE", str(tmp_path))
    monkeypatch.setitem(SETS, "scene", Rendered("scene", {"train": (6, 0), "test": (2, 1)}))
    assert main(["data"]) == 1
    found = capsys.readouterr()
    assert "scene test: 2 x 3 x 32 x 32 images, verified" in found.out
    assert "patches test: 182 x 3 x 32 x 32 images, verified" in found.out
    assert all(f"{name} is not at hand" in one_line(found.err) for name in ("MNIST", "FASHION-MNIST", "KMNIST"))
