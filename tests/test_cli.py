import errno
import functools
import importlib
import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from hwcli import cli, schema
from hwcli.config import default_config_path, dump_yaml, load, read_file
from hwcli.signals import Stopped
from hwcli.yaml_files import read_yaml

SHIPPED = sorted(Path(__file__).parents[1].joinpath("configs").glob("*.yaml"))
Refused = Callable[[list[str], str], None]
PRESETS = [(p.stem, preset) for p in SHIPPED for preset in [None, *read_yaml(p)["presets"]]]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["status"],
        ["data"],
        ["vit-sweep", "--help"],
        ["config", "show", "vit-sweep"],
        ["config", "presets"],
    ],
)
def test_what_should_answer_at_once_does_not_import_torch(
    arguments: list[str], tmp_path: Path
) -> None:
    (tmp_path / "results").mkdir()
    code = (
        "import sys\nfrom hwcli import cli\n"
        f"sys.argv = ['hw2', *{arguments!r}]\n"
        "try:\n    cli.main()\n"
        "finally:\n    print('torch' in sys.modules, file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "False"


def plain(text: str) -> str:
    """Take a help text out of its boxes: words with single blanks between them."""
    return " ".join(re.sub(r"[│╭╮╰╯─]", " ", text).split())


def test_help_puts_the_experiments_first_in_the_order_of_the_assignment(
    hw2: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert hw2("--help") == 0
    shown = plain(capsys.readouterr().out)
    order = ["rnn-trace", "attention-bench", "vit-sweep", "sentiment-train", "sentiment-predict"]
    places = [shown.index(f" {command} ") for command in [*order, "report", "status", "config"]]
    assert places == sorted(places)
    assert "<bool>" not in shown


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_help_names_presets_and_defaults_and_ends_with_examples(
    hw2: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    command: str,
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert hw2(command, "--help") == 0
    shown = plain(capsys.readouterr().out)
    path = default_config_path(command)
    assert f"Preset to use: {', '.join(read_file(path).presets)}" in shown
    assert "Default: auto." in shown
    assert f"configs/{path.name}" in shown
    assert "<bool>" not in shown
    explained, _, examples = shown.partition("Examples:")
    assert re.search(r"null(?!: )", explained) is None
    assert examples.count(f"hw2 {command}") >= 2


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_flag_sets_a_field_that_exists(command: str) -> None:
    keys = dict(schema.fields(schema.read_schema(command)))
    unknown = {flag.key for flag in cli.COMMANDS[command].values()} - set(keys) - {"network"}
    assert unknown == set()


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_the_shipped_schema_is_made_from_the_model(command: str) -> None:
    module = importlib.import_module(f"hwcli.experiments.{command.replace('-', '_')}")
    path = default_config_path(command)
    stored = json.loads((path.parent / "schemas" / f"{path.stem}.json").read_text())
    again = f"python -m hwcli config schema {command} >configs/schemas/{path.stem}.json"
    assert stored == schema.make_schema(module.Config), f"a field has changed; run: {again}"
    first = path.read_text().splitlines()[0]
    assert first == f"# yaml-language-server: $schema=schemas/{path.stem}.json"


@pytest.mark.parametrize(("module", "preset"), PRESETS)
def test_a_shown_config_is_a_file_to_copy(
    module: str,
    preset: str | None,
    hw2: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    experiment = importlib.import_module(f"hwcli.experiments.{module}")
    arguments = [] if preset is None else ["--preset", preset]
    hw2("config", "show", experiment.COMMAND, *arguments)
    copied = tmp_path / "mine.yaml"
    copied.write_text(capsys.readouterr().out)
    flags = {"name": "mine"}
    wanted = load(experiment.Config, experiment.COMMAND, preset=preset, flags=flags)
    assert load(experiment.Config, experiment.COMMAND, path=copied) == wanted
    for key, field in schema.fields(schema.read_schema(experiment.COMMAND)):
        assert field["description"].split()[0] in copied.read_text(), key


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_preset_says_what_it_is_for(path: Path) -> None:
    about = read_file(path).about
    assert all(text.endswith(".") and 10 < len(text) < 90 for text in about.values()), about


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("hw2 vit-sweep --preset s", {"standard", "strong"}),
        ("hw2 vit-sweep --device c", {"cpu", "cuda"}),
        ("hw2 vit-sweep --launcher s", {"slurm"}),
        ("hw2 vit-sweep --compare-with m", {"mine"}),
        ("hw2 vit-sweep --set model.w", {"model.width="}),
        ("hw2 sentiment-train --head ", {"gru", "mean", "cls"}),
        ("hw2 data fetch f", {"fashion-mnist"}),
        ("hw2 config show v", {"vit-sweep"}),
        ("hw2 config show vit-sweep --preset q", {"quick"}),
        ("hw2 config show vit-sweep --preset ", {"quick", "standard", "strong"}),
        ("hw2 config show --preset q", set()),
    ],
)
def test_the_shell_completes_values(
    hw2: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    words: str,
    completed: set[str],
) -> None:
    (tmp_path / "results/vit-sweep/mine").mkdir(parents=True)
    (tmp_path / "results/vit-sweep/mine/summary.json").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("_HW2_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split(" ")) - 1))
    monkeypatch.setattr("sys.argv", ["hw2"])
    with pytest.raises(SystemExit):
        cli.app(prog_name="hw2")
    assert set(capsys.readouterr().out.split()) == completed


@pytest.mark.parametrize(("module", "preset"), PRESETS)
def test_every_shipped_config_and_preset_is_valid_and_reloads_equal(
    module: str, preset: str | None, tmp_path: Path
) -> None:
    experiment = importlib.import_module(f"hwcli.experiments.{module}")
    config = load(experiment.Config, experiment.COMMAND, preset=preset)
    stored = tmp_path / "config.yaml"
    stored.write_text(dump_yaml(config))
    assert load(experiment.Config, experiment.COMMAND, path=stored) == config


def sections(model: type[BaseModel], key: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    """Give a config class and the sections in it, each under its dotted key."""
    yield key, model
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from sections(field.annotation, f"{key}.{name}" if key else name)


# Every command has these; and sentiment refuses Muon, so that its YAML keeps quiet about it.
NOT_SPELLED = {
    *("name", "device"),
    *(
        f"{optimizer}.{key}"
        for optimizer in ("optimizer", "encoder_optimizer")
        for key in ("momentum", "muon_learning_rate")
    ),
}


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_config_spells_out_every_field_at_any_depth(path: Path) -> None:
    experiment = importlib.import_module(f"hwcli.experiments.{path.stem}")
    assert default_config_path(experiment.COMMAND) == path
    spelled = read_yaml(path)
    for key, model in sections(experiment.Config):
        values = functools.reduce(dict.__getitem__, key.split(".") if key else [], spelled)
        prefix = f"{key}." if key else ""
        left_out = {prefix + name for name in set(model.model_fields) - set(values)}
        assert left_out <= NOT_SPELLED
        assert set(values) <= set(model.model_fields) | {"preset", "presets"}


@pytest.mark.parametrize("module", [path.stem for path in SHIPPED])
def test_the_defaults_of_a_command_stand_in_its_yaml_alone(module: str) -> None:
    experiment = importlib.import_module(f"hwcli.experiments.{module}")
    fields = experiment.Config.model_fields.items()
    assert {name for name, field in fields if not field.is_required()} == {"name", "device"}


@pytest.mark.parametrize("module", [path.stem for path in SHIPPED])
def test_every_field_has_a_description_of_one_sentence(module: str) -> None:
    experiment = importlib.import_module(f"hwcli.experiments.{module}")
    for key, model in sections(experiment.Config):
        for name, field in model.model_fields.items():
            text = field.description or ""
            assert text.endswith("."), f"{module}: {key} {name}: {text!r}"
            assert 10 < len(text) < 160
            assert ". " not in text


def test_a_yaml_that_holds_only_a_name_trains_by_the_shipped_recipe(tmp_path: Path) -> None:
    path = tmp_path / "my own.yaml"
    path.write_text("name: mine\n")
    experiment = importlib.import_module("hwcli.experiments.sentiment_train")
    config = load(experiment.Config, experiment.COMMAND, path=path)
    assert config.name == "mine"
    assert (config.encoder_optimizer.learning_rate, config.optimizer.learning_rate) == (1e-4, 1e-3)
    assert config == load(experiment.Config, experiment.COMMAND, flags={"name": "mine"})
    strong = load(experiment.Config, experiment.COMMAND, path=path, preset="strong")
    assert (strong.name, strong.finetune) == ("mine", True)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--layers", "8..4"], "layers = '8..4': the range ends at 4, before its start 8"),
        (["--layers", "4..99999999999"], "layers = '4..99999999999': more than 10,000 values"),
        (["--heads", "0"], "heads = '0': 0 is below 1"),
        (["--heads", "2,x"], "heads = '2,x': 'x' is not a range"),
        (
            ["--heads", "5", "--set", "model.head_width=null"],
            "model.width = 64 does not divide by heads = 5",
        ),
        (
            ["--set", "model.patch_size=5"],
            "model.patch_size = 5 does not divide images of 28 x 28; choices: 1, 2, 4, 7, 14, 28",
        ),
        (
            ["--name", "mine", "--compare-with", "mine"],
            "compare_with = 'mine': this run's own name; give it another by --name",
        ),
        (["--seeds", "-1"], "seeds = '-1': -1 is below 0"),
        (["--seeds", "9911234567"], "seeds = '9911234567': 9911234567 is above 4294967295"),
        (["--layers", "1001", "--heads", "2"], "layers = '1001': 1001 is above 1000"),
        (["--heads", "1001"], "heads = '1001': 1001 is above 1000"),
        (["--epochs", "0"], "epochs = '0': Input should be greater than or equal to 1"),
        (["--epochs", "x"], "epochs = 'x': Input should be a valid integer"),
        (["--jobs", "0"], "jobs = '0': expected auto, or a number"),
        (["--jobs", "all"], "jobs = 'all': expected auto"),
        (["--train-limit", "0"], "data.train_limit = '0': Input should be greater"),
        (
            ["--attention", "none"],
            "model.attention = 'none': Input should be 'softmax' or 'linear'",
        ),
        (["--preset", "fast"], "preset = 'fast': unknown; choices: quick, standard, strong"),
        (["--device", "tpu"], "device = 'tpu': Input should be 'auto', 'cpu', 'cuda' or 'mps'"),
        (["--name", "a/b"], "name = 'a/b': "),
        (["--name", "trials"], "name = 'trials': "),
        (["--name", "Trials"], "name = 'Trials': "),
        (["--set", "model.widht=3"], "unknown key 'model.widht': did you mean 'width'?"),
        (["--config", "absent.yaml"], "absent.yaml: no such file"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    refused: Refused, arguments: list[str], line: str
) -> None:
    refused(["vit-sweep", *arguments], line)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--head", "lstm"], "head.kind = 'lstm': Input should be 'gru', 'mean' or 'cls'"),
        (["--max-length", "4"], "text.max_length = '4': Input should be greater than or equal"),
        (["--epochs", "0"], "epochs = '0': Input should be greater than or equal to 1"),
        (["--preset", "best"], "preset = 'best': unknown; choices: quick, homework, strong, bert"),
        (["--data", "absent.csv"], "data = 'absent.csv': no such file or folder; choices: a path"),
    ],
)
def test_a_mistake_in_sentiment_train_is_one_line_and_exit_code_2(
    refused: Refused, arguments: list[str], line: str
) -> None:
    refused(["sentiment-train", "--quiet", *arguments], line)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["good"], "no trained model in results; train one by: hw2 sentiment-train"),
        (["good", "--model", "absent"], "model = 'absent': no such run folder"),
        (["--file", "absent.txt"], "absent.txt: cannot be read"),
        (["--file", "empty.txt"], "no text given: the input is empty"),
        (["good", "--model", "."], ".: no trained model there"),
        (["--file", "empty.txt", "--set", "data.colour=1"], "unknown key 'data.colour'"),
        (
            ["good", "--set", "text.max_length=512"],
            "--set text.max_length=512: only settings of the file",
        ),
    ],
)
def test_a_mistake_in_sentiment_predict_is_one_line_and_exit_code_2(
    refused: Refused, tmp_path: Path, arguments: list[str], line: str
) -> None:
    (tmp_path / "empty.txt").touch()
    refused(["sentiment-predict", *arguments], line)


def test_a_package_of_the_report_that_is_missing_is_named(
    refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    def app(**_: object) -> None:
        raise ModuleNotFoundError("no module", name="nbformat")

    monkeypatch.setattr(cli, "app", app)
    refused(
        ["report"], "this needs the package nbformat; in the checkout: pip install -e '.[report]'"
    )


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["rnn-trace", "--out", "\udcff/x"], "an argument is not valid UTF-8"),
        (["attention-bench", "--threads", "9" * 11], "threads = 99999999999: at most 4,096"),
        (["vit-sweep", "--grid", "model.width"], "--grid model.width: write KEY=VALUES, such as "),
        (["vit-sweep", "--grid", "epochs=1", "--grid", "epochs=2"], "--grid epochs is given twice"),
        (["vit-sweep", "--grid", "seed=0,1"], "every cell is trained by every seed: --seeds 0,1"),
        (
            ["vit-sweep", "--grid", "precision=float32"],
            "grid: 'precision' is not a field of the recipe; choices: epochs, batch_size, ",
        ),
        (
            ["vit-sweep", "--set", "model.width=32,48"],
            "model.width = '32,48': expected one value; to sweep several: --grid model.width=32,48",
        ),
        (
            ["vit-sweep", "--epochs", "3..5"],
            "epochs = '3..5': expected one value; to sweep several: --grid epochs=3..5",
        ),
        (
            ["vit-sweep", "--set", "width=3"],
            "unknown key 'width': did you mean 'model.width', 'model.mlp_width', 'model.head_width",
        ),
        (
            ["vit-sweep", "--compare-with", "nothere", "--dry-run"],
            "compare_with = 'nothere': no fin",
        ),
        (["config", "show", "vit"], "command = 'vit': unknown; choices: rnn-trace, "),
        (["config", "show", "vit-sweep", "--preset", "x"], "preset = 'x': unknown; choices: "),
    ],
)
def test_other_mistakes_are_one_line_and_exit_code_2(
    refused: Refused, arguments: list[str], line: str
) -> None:
    refused(arguments, line)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate output buffer."),
        ImportError("libtorch_cpu.so: failed to map segment from shared object"),
    ],
)
def test_a_process_with_too_little_memory_says_so_in_one_line(
    error: Exception,
    hw2: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(**_: object) -> None:
        raise error

    monkeypatch.setattr(cli, "app", fail)
    assert hw2("status") == 2
    said = capsys.readouterr().err
    assert said.startswith("error: out of memory: ")
    assert said.count("\n") == 1


@pytest.mark.parametrize("name", ["/small/x", None])
def test_a_full_disk_is_one_line_wherever_it_is_noticed(
    name: str | None,
    hw2: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(**_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", name)

    monkeypatch.setattr(cli, "app", fail)
    assert hw2("report") == 2
    assert capsys.readouterr().err == f"error: {name or 'a file'}: No space left on device\n"


@pytest.mark.parametrize(
    ("stopped", "code"),
    [(KeyboardInterrupt(), 130), (Stopped(signal.SIGTERM), 143), (Stopped(signal.SIGHUP), 129)],
)
@pytest.mark.parametrize("command", cli.COMMANDS)
def test_a_stopped_experiment_says_what_is_kept_and_its_exit_code_how_it_was_stopped(
    command: str,
    stopped: KeyboardInterrupt,
    code: int,
    hw2: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    def stop(*_: object) -> None:
        raise stopped

    module = importlib.import_module(f"hwcli.experiments.{command.replace('-', '_')}")
    monkeypatch.setattr(module, "run", stop)
    assert hw2(command, "--out", str(tmp_path)) == code
    shown = capsys.readouterr()
    assert shown.out == ""
    line = WHEN_STOPPED.get(command)
    assert shown.err == ("" if line is None else f"{line}\n")
    assert not list(tmp_path.rglob("summary.json"))


# The others say it themselves, or are too short to.
WHEN_STOPPED = {
    "attention-bench": "stopped; nothing is kept, the same command measures from the beginning",
    "sentiment-train": "stopped; run the same command again to continue",
}


def test_a_library_that_cannot_be_imported_is_a_bug(
    hw2: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**_: object) -> None:
        raise ImportError("cannot import name 'x'")

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(ImportError):
        hw2("status")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["vit_sweep"], "No such command 'vit_sweep'."),
        (["vit-sweep", "--layer", "4"], "No such option: --layer"),
        (["vit-sweep", "--layers"], "Option '--layers' requires an argument"),
        (["vit-sweep", "quick"], "Got unexpected extra argument"),
        (["data", "fetch"], "Missing argument"),
        (["status", "--json=1"], "Option '--json' does not take a value"),
        (["vit-sweep", "--name", "x" * 101], "name = 'xxx"),
        (["rnn-trace", "--out", ""], "--out needs a value, and got an empty one"),
        (["report", "--runs="], "--runs needs a value, and got an empty one"),
        (["export", "--to", ""], "--to needs a value, and got an empty one"),
        (["status", "--json", "--csv"], "give either --json or --csv, not both"),
    ],
)
def test_a_command_line_that_is_none_is_one_line(
    arguments: list[str], line: str, refused: Refused
) -> None:
    refused(arguments, line)


def test_the_program_alone_shows_its_help(
    hw2: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert hw2() in (0, 2)  # 0 by click before 8.2
    shown = capsys.readouterr()
    assert "The four questions" in shown.out
    assert shown.err == ""
