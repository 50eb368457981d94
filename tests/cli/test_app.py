"""The program as its users meet it: words in, messages and an exit status out."""

from __future__ import annotations

import errno
import logging
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl

import bertft
from bertft.cli.app import main
from bertft.errors import (
    DataError,
    MergeError,
    NonFiniteError,
    StoppedBySignal,
    SweepError,
    SystemResourceError,
)
from bertft.utils.system_errors import to_bertft_error

ROOT = Path(bertft.__file__).parents[1]
HEAVY = ("torch", "transformers", "datasets", "numpy", "pandas", "pyarrow", "rich")


def program(*words, **environment):
    """The program in a process of its own."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    command = [sys.executable, "-m", "bertft", *words]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=900)


@pytest.fixture
def train(monkeypatch, tmp_path):
    """Install what ``bertft train`` does instead of training."""
    monkeypatch.chdir(tmp_path)

    def install(run):
        module = types.ModuleType("bertft.cli.commands.train")
        module.run = run
        monkeypatch.setitem(sys.modules, module.__name__, module)

    return install


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], ["help"]])
def test_help_of_the_program(capsys, words):
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert "bertft <command>" in out and err == ""


@pytest.mark.parametrize("words", [["train", "--help"], ["train", "method=lora", "-h"]])
def test_help_of_a_command(capsys, words):
    assert main(words) == 0
    assert capsys.readouterr().out.startswith("bertft train: ")


@pytest.mark.parametrize("words", [["--version"], ["train", "--version"]])
def test_version(capsys, words):
    assert main(words) == 0
    assert capsys.readouterr().out == f"bertft {bertft.__version__}\n"


@pytest.mark.parametrize(
    ("words", "expected_text"),
    [
        (["trian"], "unknown command 'trian'. Did you mean 'train'?"),
        (["predict", "run", "--input", "x"], "--input is not an option. Write settings as name=va"),
        (["predict", "run", "--input", "x"], "name=value: input=x"),
        (["predict", "run", "--on-bad-row=skip"], "name=value: on_bad_row=skip"),
        (["train", "--learning_rate", "1"], "Did you mean 'trainer.learning_rate'?"),
        (["train", "--num_train_epochs", "1"], "In bertft this is trainer.epochs"),
        (["train", "--config"], "config=<value>"),
        (
            ["train", "trainer.epochs"],
            "trainer.epochs: has no value. Write trainer.epochs=<num",
        ),
        (["train", "trainer.precision"], "trainer.precision=<auto|fp32|bf16|fp16>"),
        (["zzz"], "One of: train, tune, cross_validate, eval, merge, export, predict, verify"),
        (["method=lora"], "expected a command, got 'method=lora'"),
        (["--cfg", "job"], "expected a command, got '--cfg'"),
        (["merge", "-m", "run=a,b", "out=o"], "Only train supports sweeps"),
        (["train", "-m", "seed=0,1", "--cfg", "job"], "-m: is not supported together with --cfg"),
    ],
)
def test_words_that_are_no_command(capsys, words, expected_text):
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert expected_text in err and out == ""


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (DataError("bad row", where="a.csv:3"), 2),
        (NonFiniteError("the loss was NaN"), 3),
        (MergeError("the logits moved"), 3),
        (SystemResourceError("no space left"), 4),
        (SweepError("1 of 2 jobs failed"), 5),
        (StoppedBySignal(2), 130),
        (StoppedBySignal(15), 143),
        (MemoryError(), 4),
        (OSError(errno.ENOSPC, "No space left on device", "x.bin"), 4),
        (OSError(errno.EACCES, "Permission denied", "/root/x"), 4),
        (OSError(errno.EFBIG, "File too large", "x.bin"), 4),
        (RuntimeError("can't start new thread"), 4),
        (ImportError("libx.so: failed to map segment from shared object"), 4),
        (Exception("File too large (os error 27)"), 4),  # a library written in Rust
        (FileNotFoundError(errno.ENOENT, "gone", "x"), 2),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory", "a.csv/x"), 2),
        (OSError(errno.ENAMETOOLONG, "File name too long", "n" * 300), 2),
        (OSError(errno.ELOOP, "Too many levels of symbolic links", "x"), 2),
        (ValueError("embedded null byte"), 2),
        (RuntimeError("Could not determine home directory."), 2),
        (UnicodeEncodeError("utf-8", "p/\udcff", 2, 3, "surrogates not allowed"), 2),
        (KeyboardInterrupt(), 130),
    ],
)
def test_errors_end_with_their_status_and_no_traceback(train, capsys, error, status):
    def run(config, folder):
        raise error

    train(run)
    assert main(["train"]) == status
    err = capsys.readouterr().err
    assert "Traceback" not in err and "Error executing job" not in err
    if not isinstance(error, KeyboardInterrupt):
        assert err.count("error: ") == 1


def test_the_gpu_out_of_memory_states_what_to_lower(train, capsys):
    class OutOfMemoryError(RuntimeError):  # torch's, by its name
        pass

    def run(config, folder):
        raise OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nmore")

    train(run)
    assert main(["train"]) == 4
    err = capsys.readouterr().err
    # Training reduces micro-batches by itself, and neither threads nor limits help a GPU.
    assert "data.max_length" in err and "trainer.gradient_checkpointing=true" in err
    assert "trainer.micro_batch" not in err and "trainer.threads" not in err


def test_out_of_memory_names_only_settings_of_the_command():
    class OutOfMemoryError(RuntimeError):  # torch's, by its name
        pass

    for error, expected in ((OutOfMemoryError("CUDA"), "device=cpu"), (MemoryError(), "limit")):
        for command in ("eval", "predict", "merge", "export", "compare"):
            hint = to_bertft_error(error, [command, "run=x"]).hint
            assert expected in hint and "trainer." not in hint and "data." not in hint
        assert "trainer." not in to_bertft_error(error, []).hint


@pytest.mark.parametrize(
    ("number", "command", "expected"),
    [
        (errno.EACCES, "train", "permissions of the file"),
        (errno.EPERM, "predict", "permissions of the file"),
        (errno.EMFILE, "train", "ulimit -n"),
        (errno.ENOSPC, "train", "hydra.run.dir=<folder>"),
        (errno.ENOSPC, "predict", "Free space on the disk"),
        (errno.EIO, "train", None),
    ],
)
def test_the_hint_of_a_system_error_depends_on_the_error(number, command, expected):
    error = to_bertft_error(OSError(number, os.strerror(number), "x"), [command])
    assert error.status == 4
    assert error.hint is None if expected is None else expected in error.hint
    assert number == errno.ENOSPC or "Free space" not in str(error)
    assert command == "train" or "hydra.run.dir" not in str(error)


def test_the_machine_out_of_memory_states_how_much_was_requested(train, capsys):
    torch = pytest.importorskip("torch")
    with pytest.raises(RuntimeError) as raised:
        torch.empty(10**15)

    def run(config, folder):
        raise raised.value

    train(run)
    assert main(["train"]) == 4
    err = capsys.readouterr().err
    assert "out of memory" in err and f"{4 * 10**15} bytes" in err and "enforce" not in err


def test_an_error_of_the_system_names_the_setting_that_gave_the_path(train, capsys):
    def run(config, folder):
        raise NotADirectoryError(errno.ENOTDIR, "Not a directory", "there/file/cache/rows")

    train(run)
    assert main(["train", "data.cache=there/file"]) == 2
    assert "data.cache=there/file: not a directory" in capsys.readouterr().err


def test_a_current_directory_that_is_gone_is_named(tmp_path, monkeypatch, capsys):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert main(["train", "model=tiny"]) == 4
    assert "current directory no longer exists" in capsys.readouterr().err


@pytest.mark.parametrize("error", [ValueError("oops"), KeyError("x")])
def test_anything_else_is_a_bug_of_ours(train, capsys, error):
    def run(config, folder):
        raise error

    train(run)
    assert main(["train"]) == 1
    err = capsys.readouterr().err
    assert "Traceback" in err and "this is a bug in bertft" in err


def test_the_full_error_is_shown_on_request(train, capsys, monkeypatch):
    def run(config, folder):
        raise DataError("bad row")

    train(run)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    assert main(["train"]) == 2
    err = capsys.readouterr().err
    assert "Traceback" in err and err.endswith("error: bad row\n")
    assert os.environ["HYDRA_FULL_ERROR"] == "1"


def test_the_run_folder_is_named_after_time_method_and_data(train, tmp_path):
    seen = []
    train(lambda config, folder: seen.append((folder, list(folder.iterdir()))))
    assert main(["train", "method=svd_lora"]) == 0
    [(folder, inside)] = seen
    assert folder.name.endswith("-svd_lora-sample") and inside == []  # nothing of Hydra's
    assert folder.parents[1] == tmp_path / "outputs" / "train"


def test_the_run_folder_can_be_chosen(train, tmp_path):
    seen = []
    train(lambda config, folder: seen.append(folder))
    assert main(["train", "hydra.run.dir=out put/läuft, 好=1"]) == 0
    assert seen == [tmp_path / "out put/läuft, 好=1"]


def test_a_refused_run_leaves_no_folder(train, tmp_path):
    def run(config, folder):
        raise DataError("bad row")

    train(run)
    assert main(["train"]) == 2
    assert not (tmp_path / "outputs").exists()


def test_a_refused_run_keeps_a_folder_that_was_chosen(train, tmp_path):
    def run(config, folder):
        raise DataError("bad row")

    train(run)
    (tmp_path / "mine").mkdir()
    assert main(["train", "hydra.run.dir=mine"]) == 2
    assert (tmp_path / "mine").is_dir()


@pytest.mark.parametrize("command", ["merge", "export", "predict"])
def test_what_writes_elsewhere_leaves_nothing_next_to_what_they_write(
    monkeypatch, tmp_path, command
):
    monkeypatch.chdir(tmp_path)
    module = types.ModuleType(f"bertft.cli.commands.{command}")
    module.run = lambda config, folder: None
    monkeypatch.setitem(sys.modules, module.__name__, module)
    assert main([command, "run=r", *(["out=o"] if command != "predict" else [])]) == 0
    assert list(tmp_path.iterdir()) == []


def test_a_configuration_is_composed_once(train, monkeypatch):
    composed = []
    original = ConfigLoaderImpl.load_configuration

    def watched(self, *given, **named):
        composed.append(named)
        return original(self, *given, **named)

    monkeypatch.setattr(ConfigLoaderImpl, "load_configuration", watched)
    folders = []
    train(lambda config, folder: folders.append(folder.is_dir()))
    assert main(["train", "trainer.epochs=2"]) == 0
    assert (folders, len(composed)) == ([True], 1)


@pytest.mark.parametrize("word", ["hydra.mode=MULTIRUN", "++hydra.mode='MULTIRUN'"])
def test_sweeps_are_requested_by_their_flag(train, capsys, word):
    train(lambda config, folder: pytest.fail("ran"))
    assert main(["train", word]) == 2
    assert "error: hydra.mode: cannot be set. Use -m for a sweep" in capsys.readouterr().err


def test_logging_is_as_it_was(train, tmp_path):
    root = logging.getLogger()
    before = (list(root.handlers), root.level)
    during = []
    train(lambda config, folder: during.append((list(root.handlers), root.level)))
    assert main(["train", "hydra/job_logging=default", "hydra.verbose=true"]) == 0
    assert len(during[0][0]) == 2 and during[0][1] == logging.DEBUG, "console and file"
    assert (list(root.handlers), root.level) == before
    assert main(["train", "hydra/hydra_logging=default"]) == 0, "logging of Hydra's own"


def test_completion_is_no_flag_of_a_command(train, capsys):
    train(lambda config, folder: pytest.fail("ran"))
    assert main(["train", "--shell-completion"]) == 2
    assert "bertft -sc install=bash" in capsys.readouterr().err


def test_stdout_belongs_to_the_command(train, capsys):
    train(lambda config, folder: print("mine"))
    assert main(["train"]) == 0
    assert capsys.readouterr() == ("mine\n", "")


def test_words_and_flags_in_any_order(capsys):
    assert main(["train", "seed=3", "--cfg", "job", "method=prefix", "-p", "method"]) == 0
    assert "name: prefix" in capsys.readouterr().out


def test_cfg_resolves(capsys):
    assert main(["train", "data.cache=${model.path}/c", "--cfg", "job", "--resolve"]) == 0
    assert "cache: all-MiniLM-L6-v2/c" in capsys.readouterr().out


def test_info_shows_where_the_configuration_comes_from(capsys):
    assert main(["train", "--info", "defaults"]) == 0
    assert "method/lora" in capsys.readouterr().out


def test_the_program_s_words_are_restored(train):
    train(lambda config, folder: None)
    before = list(sys.argv)
    assert main(["train"]) == 0
    assert sys.argv == before and "HYDRA_FULL_ERROR" not in os.environ


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["--help"], 0),
        (["train", "--help"], 0),
        (["train", "--cfg", "job"], 0),
        (["train", "method=svdlora", "trainer.epochs=three"], 2),
        (["train", "-m", "method=lora,svdlora"], 2),
        (["train", "-m", "method=lora,head", "method.rank=4"], 2),
        (["-sc", "install=bash"], 0),
    ],
)
def test_nothing_heavy_is_imported(words, status):
    code = (
        "import sys\nfrom bertft.cli.app import main\n"
        f"assert main({words!r}) == {status}\n"
        f"heavy = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "assert not heavy, heavy"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_program_in_a_process_of_its_own():
    done = program("train", "trainer.learing_rate=1")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "error: trainer.learing_rate: unknown setting. Did you mean 'trainer.learning_rate'?\n"
    )


@pytest.mark.parametrize("words", [["train", "--help"], ["--version"], ["train", "--cfg", "job"]])
def test_a_closed_pipe_is_quiet(words):
    reader, writer = os.pipe()
    os.close(reader)
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "bertft", *words]
    done = subprocess.run(command, env=env, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")
