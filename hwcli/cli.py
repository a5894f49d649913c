"""The command line: flags to dotted config keys, errors to exit codes, and nothing else.

An experiment's command is one short function here: its parameters are its flags, and each flag's
annotation names the config field that it sets. What a flag means, its default and its choices
come from the field's description, the YAML and the schema. Importing this module loads neither
torch nor an experiment, so that the help and the shell's completion answer at once. Exit codes:
0 done, 1 finished with failed trials, 2 the user's mistake (one line), 129 hang-up, 130 Ctrl-C,
143 SIGTERM.
"""

import importlib
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import typer
from typer import Option
from typer.core import TyperCommand, TyperGroup

from hwcli import __version__
from hwcli.errors import ConfigError, HwError

EXPERIMENTS = "The four questions"
HAND_IN = "The hand-in"
AROUND = "Tools"


def _without_type(params: list[Any]) -> list[Any]:
    for param in params:
        if getattr(param, "is_flag", False):
            param.metavar = ""  # where the help would say <bool>
    return params


class Command(TyperCommand):
    """A command whose help shows no type for its switches."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters."""
        return _without_type(super().get_params(ctx))


class Group(TyperGroup):
    """The same for a group of commands."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters."""
        return _without_type(super().get_params(ctx))


app = typer.Typer(
    name="hw2",
    cls=Group,
    help="The experiments of a deep-learning homework: exact, measured, resumable.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)

Flags = dict[str, object]


def main() -> None:
    """Run the program."""
    from hwcli import runtime
    from hwcli.output import terminal

    terminal.open_closed_streams()
    runtime.stop_on_signals()
    try:
        if any(_is_garbled(argument) for argument in sys.argv):
            raise ConfigError("an argument is not valid UTF-8")
        app()
    except KeyboardInterrupt as error:
        sys.exit(getattr(error, "exit_code", 130))
    except HwError as error:
        terminal.show_error(error)
        sys.exit(2)
    except ModuleNotFoundError as error:
        if error.name not in REPORT_PACKAGES:
            raise
        need = f"this needs the package {error.name}; in the checkout: pip install -e '.[report]'"
        terminal.show_error(HwError(need))
        sys.exit(2)
    finally:
        terminal.close()


REPORT_PACKAGES = ("nbformat", "nbclient", "jupyter_client", "IPython")


def _is_garbled(argument: str) -> bool:
    try:
        argument.encode()
    except UnicodeEncodeError:
        return True
    return False


Text = str | None
"""A flag's value as typed: the config reads it, and names key, value and choices if it is wrong."""


@dataclass(frozen=True)
class Flag:
    """In a parameter's annotation: the config field that a flag sets, and how it is written.

    Attributes:
        key: the dotted key of the field, whose description is the flag's help.
        metavar: what stands for the value in the help; None for a switch.
        name: the flag itself where it is not the parameter's name.
    """

    key: str
    metavar: str | None = None
    name: str | None = None


@cache
def _fields(command: str) -> dict[str, dict[str, Any]]:
    from hwcli import schema

    return dict(schema.fields(schema.read_schema(command)))


def _complete_field(command: str, key: str) -> Callable[[str], list[str]]:
    def complete(incomplete: str) -> list[str]:
        from hwcli.schema import choices

        words = ["auto", "cpu", "cuda", "mps"] if key == "device" else []
        if key == "compare_with":
            words = [path.parent.name for path in Path("results").glob(f"{command}/*/summary.json")]
        words = words or choices(_fields(command).get(key, {}))
        return [word for word in words if str(word).startswith(incomplete)]

    return complete


def _complete_preset(context: typer.Context, incomplete: str) -> list[str]:
    from hwcli.config import default_config_path, read_file

    command = context.params.get("command") or context.info_name or ""
    presets = read_file(default_config_path(command)).presets
    return [name for name in presets if name.startswith(incomplete)]


def _complete_setting(context: typer.Context, incomplete: str) -> list[str]:
    keys = _fields(context.info_name or "")
    return [f"{key}=" for key in keys if key.startswith(incomplete)]


def _complete_data(incomplete: str) -> list[str]:
    from hwcli.data.catalogue import CATALOGUE

    return [name for name in ["all", *CATALOGUE] if name.startswith(incomplete)]


def _complete_experiment(incomplete: str) -> list[str]:
    return [name for name in COMMANDS if name.startswith(incomplete)]


COMMON: dict[str, tuple[Any, Any]] = {
    "config": (
        Annotated[
            Path | None,
            Option("--config", metavar="PATH", help="YAML file with what you change."),
        ],
        None,
    ),
    "preset": (
        Annotated[
            Text,
            Option(
                "--preset",
                metavar="NAME",
                help="Preset to use.",
                autocompletion=_complete_preset,
            ),
        ],
        None,
    ),
    "settings": (
        Annotated[
            list[str] | None,
            Option(
                "--set",
                metavar="KEY=VALUE",
                help="Set any config field; repeatable. hw2 config show lists the fields.",
                autocompletion=_complete_setting,
            ),
        ],
        None,
    ),
    "name": (Annotated[Text, Flag("name", "NAME")], None),
    "out": (
        Annotated[
            Path, Option("--out", metavar="DIR", help="Folder in which run folders are made.")
        ],
        Path("results"),
    ),
    "device": (Annotated[Text, Flag("device", "NAME")], None),
    "replace": (
        Annotated[
            bool,
            Option(
                "--replace", help="Replace a finished run of this name that has other settings."
            ),
        ],
        False,
    ),
    "dry_run": (
        Annotated[bool, Option("--dry-run", help="Show what would be done; write nothing.")],
        False,
    ),
    "quiet": (
        Annotated[bool, Option("--quiet", help="Print the result only, no progress.")],
        False,
    ),
}

COMMANDS: dict[str, dict[str, Flag]] = {}
"""The flags of each experiment, by the name of their parameter."""


class ExperimentCommand(Command):
    """An experiment's command, whose help is read from its YAML and its schema when asked for."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Put descriptions, defaults and the names of the presets into the help, and write it."""
        from rich.markup import escape

        from hwcli.config import default_config_path, read_file, resolve

        command = self.name or ""
        file, values = read_file(default_config_path(command)), resolve(command)
        for param in self.params:
            flag = COMMANDS[command].get(param.name or "")
            if param.name == "preset":
                last = f" (default: {file.preset})" if file.preset else ""
                text = f"Preset to use: {', '.join(file.presets)}{last}."
            elif flag is None:
                continue
            else:
                field = _fields(command).get(flag.key, {})
                text = str(field.get("description", ""))
                default: Any = values
                for key in flag.key.split("."):
                    default = default.get(key, field.get("default")) if default else None
                if isinstance(default, bool):
                    # Of a switch without an opposite, "false" says nothing.
                    words = (flag.name or "").split("/")
                    default = words[not default] if len(words) == 2 else None
                if default is not None and flag.key != "name":
                    text += f" Default: {default}."
            param.help = escape(text)  # type: ignore[attr-defined]
        super().format_help(ctx, formatter)


def experiment(*examples: str) -> Callable[[Callable[..., Flags | None]], None]:
    """Make an experiment's command of a function whose parameters are its flags.

    Each parameter names its config field by a :class:`Flag`; parameters without one are the
    function's own business, which may return more dotted keys with values. The options that
    every experiment has are added here; the experiment itself is imported only when its command
    runs.

    Args:
        examples: command lines that end the help.
    """

    def register(function: Callable[..., Flags | None]) -> None:
        module = function.__name__
        name = module.replace("_", "-")
        own = inspect.signature(function, eval_str=True).parameters.values()
        shared = [
            inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
            for key, (kind, default) in COMMON.items()
        ]
        flags = COMMANDS[name] = {
            parameter.name: flag
            for parameter in (*own, *shared)
            for flag in get_args(parameter.annotation)
            if isinstance(flag, Flag)
        }

        def command(**values: Any) -> None:
            common = {key: values.pop(key) for key in COMMON}
            given = {**values, **{key: common.pop(key) for key in ("name", "device")}}
            more = function(**values) or {}
            set_here = {flag.key: given[parameter] for parameter, flag in flags.items()}
            explicit = {key: value for key, value in set_here.items() if value is not None}
            _run(module, {**more, **explicit}, **common)

        parameters = [_with_option(name, parameter, flags) for parameter in (*own, *shared)]
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {p.name: p.annotation for p in parameters}
        app.command(
            name,
            help=f"{inspect.getdoc(function)} [dim](configs/{module}.yaml)[/dim]",
            epilog="\n\n".join(["Examples:", *(f"  {example}" for example in examples)]),
            rich_help_panel=EXPERIMENTS,
            cls=ExperimentCommand,
        )(command)

    return register


def _with_option(
    command: str, parameter: inspect.Parameter, flags: dict[str, Flag]
) -> inspect.Parameter:
    """Put Typer's option in the place of a parameter's flag."""
    flag = flags.get(parameter.name)
    if flag is None:
        return parameter
    name = flag.name or "--" + parameter.name.replace("_", "-")
    complete = _complete_field(command, flag.key)
    option = Option(name, metavar=flag.metavar, help=flag.key, autocompletion=complete)
    kind = get_args(parameter.annotation)[0]
    assert get_origin(parameter.annotation) is Annotated
    return parameter.replace(annotation=Annotated[kind, option])


def _run(
    module: str,
    flags: Flags,
    *,
    config: Path | None,
    preset: str | None,
    settings: list[str] | None,
    out: Path,
    replace: bool,
    dry_run: bool,
    quiet: bool,
) -> None:
    """Build the config, hand it to the experiment, and finish its run folder."""
    from hwcli.config import load
    from hwcli.output import terminal
    from hwcli.output.run_folder import RunFolder

    if preset is not None and "network" in flags:
        raise HwError("give either --spec or --preset, not both: each has a network")
    if quiet:
        terminal.silence()
    chosen = importlib.import_module(f"hwcli.experiments.{module}")
    resolved = load(
        chosen.Config,
        chosen.COMMAND,
        path=config,
        preset=preset,
        flags=flags,
        overrides=settings or (),
    )
    try:
        with RunFolder(out, chosen.COMMAND, resolved.name, terminal.log, replace=replace) as folder:
            if dry_run:
                chosen.plan(resolved, folder)
                terminal.log(folder.forecast(resolved))
                return
            # Nothing is shown before it is kept: whoever reads the output may leave early.
            with terminal.held_back():
                summary = chosen.run(resolved, folder)
                if summary is None:
                    return
                path = folder.finish(summary)
            terminal.show_path(path)
    except KeyboardInterrupt as error:
        raise typer.Exit(getattr(error, "exit_code", 130)) from None
    if isinstance(summary, dict):
        failed = summary["status"] != "complete"
    else:
        failed = summary.exit_code != 0
    if failed:
        raise typer.Exit(1)


def _list_presets(wanted: bool) -> None:
    if wanted:
        from hwcli.experiments.rnn_trace import presets_table
        from hwcli.output import terminal

        terminal.show(presets_table())
        raise typer.Exit


@experiment(
    "hw2 rnn-trace --inputs 3,-1,4",
    "hw2 rnn-trace --spec exercise.yaml --expect parity",
    "hw2 rnn-trace --design '.*11'",
)
def rnn_trace(
    w_in: Annotated[Text, Flag("network.w_in", "W")] = None,
    w_rec: Annotated[Text, Flag("network.w_rec", "W")] = None,
    w_out: Annotated[Text, Flag("network.w_out", "W")] = None,
    spec: Annotated[
        Path | None,
        Option(metavar="PATH", help="YAML file with a whole exercise: weights, inputs, alphabet."),
    ] = None,
    expect: Annotated[Text, Flag("expect", "PROPERTY")] = None,
    design: Annotated[Text, Flag("design", "PROPERTY")] = None,
    inputs: Annotated[Text, Flag("inputs", "X,X,...")] = None,
    inputs_file: Annotated[Path | None, Flag("inputs_file", "PATH")] = None,
    length: Annotated[Text, Flag("length", "N")] = None,
    alphabet: Annotated[Text, Flag("alphabet", "X,X,...")] = None,
    steps: Annotated[Text, Flag("steps", "N")] = None,
    seed: Annotated[Text, Flag("seed", "N")] = None,
    list_presets: Annotated[
        bool,
        Option(
            "--list-presets",
            help="Show what the presets compute.",
            callback=_list_presets,
            is_eager=True,
        ),
    ] = False,
) -> Flags:
    """State what a recurrent network computes, with a proof (question 1)."""
    if spec is not None:
        from hwcli.rnn.spec import read_spec

        return {"name": spec.stem, **read_spec(spec)}
    if design:
        return {"name": "design", "alphabet": "0,1"}
    return {"name": "custom"} if (w_in or w_rec or w_out) else {}


@experiment(
    "hw2 attention-bench",
    "hw2 attention-bench --T 256..16384*2 --causal --direction both",
)
def attention_bench(
    lengths: Annotated[Text, Flag("T", "RANGE", "--T")] = None,
    dim: Annotated[Text, Flag("dim", "N")] = None,
    heads: Annotated[Text, Flag("heads", "N")] = None,
    batch: Annotated[Text, Flag("batch", "N")] = None,
    causal: Annotated[bool | None, Flag("causal", None, "--causal/--no-causal")] = None,
    direction: Annotated[Text, Flag("direction", "KIND")] = None,
    methods: Annotated[Text, Flag("methods", "NAMES")] = None,
    feature_map: Annotated[Text, Flag("feature_map", "NAME")] = None,
    dtype: Annotated[Text, Flag("dtype", "NAME")] = None,
    threads: Annotated[Text, Flag("threads", "auto|N")] = None,
    memory_limit: Annotated[Text, Flag("memory_limit", "auto|SIZE")] = None,
    seed: Annotated[Text, Flag("seed", "N")] = None,
) -> None:
    """Compare softmax attention, O(T^2), with linear attention, O(T) (question 2)."""


@experiment(
    "hw2 vit-sweep --layers 4..8 --heads 2..4 --preset quick",
    "hw2 vit-sweep --layers 6 --heads 4 --seeds 0..2 --dry-run",
)
def vit_sweep(
    layers: Annotated[Text, Flag("layers", "RANGE")] = None,
    heads: Annotated[Text, Flag("heads", "RANGE")] = None,
    grid: Annotated[
        list[str] | None,
        Option(
            metavar="KEY=VALUES",
            help="Also vary this field of the recipe, such as model.width=48,64,96; repeatable.",
            autocompletion=_complete_setting,
        ),
    ] = None,
    seeds: Annotated[Text, Flag("seeds", "RANGE")] = None,
    epochs: Annotated[Text, Flag("epochs", "N")] = None,
    train_limit: Annotated[Text, Flag("data.train_limit", "N")] = None,
    attention: Annotated[Text, Flag("model.attention", "KIND")] = None,
    compare_with: Annotated[Text, Flag("compare_with", "NAME")] = None,
    jobs: Annotated[Text, Flag("jobs", "auto|N")] = None,
    data: Annotated[Text, Flag("data_path", "DIR")] = None,
    launcher: Annotated[Text, Flag("launcher.kind", "KIND")] = None,
    detach: Annotated[bool | None, Flag("launcher.detach", None, "--detach")] = None,
    retry_failed: Annotated[bool | None, Flag("retry_failed", None, "--retry-failed")] = None,
    fail_fast: Annotated[bool | None, Flag("fail_fast", None, "--fail-fast")] = None,
) -> Flags:
    """Train Vision Transformers on Fashion-MNIST over a grid of layers and heads (question 3)."""
    axes = {}
    for axis in grid or ():
        field, equals, values = axis.partition("=")
        if not (field.strip() and equals and values.strip()):
            raise ConfigError(f"--grid {axis}: write KEY=VALUES, such as model.width=48,64,96")
        axes[field.strip()] = values.strip()
    return {"grid": axes} if axes else {}


@experiment(
    "hw2 sentiment-train",
    "hw2 sentiment-train --preset homework --name mine --epochs 2",
)
def sentiment_train(
    encoder: Annotated[Text, Flag("encoder", "NAME")] = None,
    data: Annotated[Text, Flag("data.source", "SOURCE")] = None,
    head: Annotated[Text, Flag("head.kind", "KIND")] = None,
    finetune: Annotated[bool | None, Flag("finetune", None, "--finetune/--frozen")] = None,
    max_length: Annotated[Text, Flag("text.max_length", "N")] = None,
    epochs: Annotated[Text, Flag("epochs", "N")] = None,
    train_limit: Annotated[Text, Flag("split.train_limit", "N")] = None,
    texts: Annotated[list[str] | None, Flag("texts", "TEXT", "--text")] = None,
    seed: Annotated[Text, Flag("seed", "N")] = None,
) -> Flags:
    """Train a classifier of film reviews on a pretrained transformer (question 4)."""
    # What a preset says for pooled heads alone does not carry over to another kind.
    return {"head.all_layers": False} if head == "gru" or finetune else {}


@app.command(name="sentiment-predict", cls=Command, rich_help_panel=EXPERIMENTS)
def sentiment_predict(
    texts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[TEXT]...", help="Texts to classify. Reads standard input if none are given."
        ),
    ] = None,
    models: Annotated[
        list[Path] | None,
        Option(
            "--model",
            metavar="RUN",
            help="Run folder of sentiment-train; repeatable to compare. Default: the newest.",
        ),
    ] = None,
    file: Annotated[
        Path | None,
        Option(
            "--file",
            metavar="PATH",
            help="CSV, TSV, JSON, JSON lines, parquet, or one text per line. Labels in it are "
            "used to compute the accuracy.",
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        Option(
            "--set",
            metavar="KEY=VALUE",
            help="How to read the file, such as data.text_column=review; repeatable.",
        ),
    ] = None,
    as_json: Annotated[bool, Option("--json", help="Print JSON lines, not a table.")] = False,
    out: Annotated[Path, Option("--out", metavar="DIR", help="Where runs are written.")] = Path(
        "results"
    ),
    device: Annotated[str, Option("--device", metavar="NAME", help="auto, cpu, cuda, mps.")] = (
        "auto"
    ),
) -> None:
    """Classify texts as positive or negative with a trained model."""
    from hwcli.config import load
    from hwcli.experiments.sentiment_train import COMMAND, Config
    from hwcli.output import terminal
    from hwcli.sentiment import predict

    data = load(Config, COMMAND, overrides=settings or ()).data
    given = predict.gather_texts(texts or [], file, data, terminal.log)
    runs = predict.find_runs(models or (), out)
    predictions = predict.predict(given.texts, runs, device, terminal.log)
    shown = predict.to_tables(given, predictions)
    if as_json:
        sys.stdout.write(predict.to_json_lines(given, predictions))
        for table in shown[1:]:
            terminal.progress.print(table.to_rich())
    else:
        for table in shown:
            terminal.show(table)


@app.command(cls=Command, rich_help_panel=HAND_IN)
def homework(
    preset: Annotated[
        str, Option(metavar="NAME", help="quick (short runs) or standard (the reference's runs).")
    ] = "quick",
    out: Annotated[Path, Option("--out", metavar="DIR", help="Where runs are written.")] = Path(
        "results"
    ),
    author: Annotated[
        str | None, Option(metavar="NAME", help="Author name, printed below the title and kept.")
    ] = None,
    acknowledge: Annotated[
        list[str] | None,
        Option(metavar="TEXT", help="Collaborators and tools, in your words; kept. Repeatable."),
    ] = None,
    dry_run: Annotated[
        bool, Option("--dry-run", help="Show what each part would take; write nothing.")
    ] = False,
) -> None:
    """Run all four questions, then make the hand-in; finished parts are reused."""
    from hwcli import homework as all_parts

    if dry_run:
        all_parts.plan(preset, out)
        return
    code = all_parts.run(preset, out, author=author, acknowledged=acknowledge or ())
    if code:
        raise typer.Exit(code)


@app.command(cls=Command, rich_help_panel=HAND_IN)
def report(
    runs: Annotated[
        Path | None,
        Option("--runs", metavar="DIR", help="Folder with finished runs (default: --out)."),
    ] = None,
    out: Annotated[Path, Option("--out", metavar="DIR", help="Where report/ is written.")] = Path(
        "results"
    ),
    kind: Annotated[str, Option("--format", metavar="KIND", help="ipynb, pdf, html or all.")] = (
        "all"
    ),
    author: Annotated[
        Text, Option(metavar="NAME", help="Author name, printed below the title and kept.")
    ] = None,
    acknowledge: Annotated[
        list[str] | None,
        Option(metavar="TEXT", help="Collaborators and tools, in your words; kept. Repeatable."),
    ] = None,
    title: Annotated[Text, Option(metavar="TEXT", help="Title of the report; kept.")] = None,
    paper: Annotated[str, Option(metavar="NAME", help="Paper of the PDF: a4 or letter.")] = "a4",
    reference: Annotated[
        bool,
        Option(
            "--reference",
            help="Show the project's reference runs, marked, for questions you have no run for.",
        ),
    ] = False,
    quiet: Annotated[bool, Option("--quiet", help="Print the result only, no progress.")] = False,
) -> None:
    """Make the hand-in from finished runs: notebook, PDF and page. Keeps what you wrote."""
    from hwcli.output import terminal
    from hwcli.report import make

    if quiet:
        terminal.silence()
    for path in make.build(
        runs or make.own_runs(out),
        out,
        formats=make.chosen_formats(kind),
        title=title,
        author=author,
        acknowledged=acknowledge or (),
        reference=make.reference_runs() if reference else None,
        paper=paper,
        say=terminal.log,
    ):
        terminal.show_path(path)


data_app = typer.Typer(cls=Group, help="List the data sets the program can use, or get one.")
app.add_typer(data_app, name="data", rich_help_panel=AROUND)


@data_app.callback(invoke_without_command=True)
def list_data(
    context: typer.Context,
    as_json: Annotated[bool, Option("--json", help="JSON instead of a table.")] = False,
) -> None:
    """List data sets and weights: what they are, where hw2 looks for them, what is present."""
    if context.invoked_subcommand is None:
        from hwcli.data.catalogue import CATALOGUE
        from hwcli.output import terminal
        from hwcli.output.tables import Column, Table

        rows = [entry.to_row() for entry in CATALOGUE.values()]
        if as_json:
            terminal.show_json(rows)
        else:
            columns = [
                Column("name", "name", priority=0),
                Column("num_bytes", "size", lambda size: f"{size / 1e6:.0f} MB", priority=2),
                Column(
                    "present",
                    "on this machine",
                    lambda places: "\n".join(places) or "nothing",
                    priority=0,
                ),
                Column("sources", "looked for in this order", "\n".join),
                Column("licence", "licence", priority=4),
                Column("description", "description", priority=3),
            ]
            terminal.show(Table("Data sets and weights", columns, rows))


@data_app.command(cls=Command)
def fetch(
    name: Annotated[str, typer.Argument(help="A data set, or all.", autocompletion=_complete_data)],
) -> None:
    """Get a data set into the cache, and verify it."""
    from hwcli.data.catalogue import CATALOGUE, find
    from hwcli.output import terminal

    for each in CATALOGUE if name == "all" else [name]:
        find(each, log=terminal.log)


@app.command(cls=Command, rich_help_panel=AROUND)
def status(
    out: Annotated[Path, Option("--out", help="Where runs are written.", metavar="DIR")] = Path(
        "results"
    ),
    trials: Annotated[
        bool, Option("--trials", help="One row per trial instead of per run.")
    ] = False,
    as_json: Annotated[bool, Option("--json", help="JSON instead of a table.")] = False,
    as_csv: Annotated[bool, Option("--csv", help="CSV instead of a table.")] = False,
) -> None:
    """Show runs and trials: done, running, failed or missing, time left, where trained."""
    from hwcli.output import terminal
    from hwcli.sweep import status

    if as_json or as_csv:
        records = status.read_trials(out) if trials else status.read_runs(out)
        if as_json:
            terminal.show_json(status.to_json(records))
        else:
            terminal.show_text(status.to_csv(records))
    else:
        terminal.show(status.trials_table(out) if trials else status.status_table(out))


@app.command(rich_help_panel=AROUND)
def export(
    to: Annotated[str, Option("--to", metavar="KIND", help="tensorboard or trackio.")],
    out: Annotated[Path, Option("--out", metavar="DIR", help="Where runs are.")] = Path("results"),
    into: Annotated[
        Path | None,
        Option("--into", metavar="DIR", help="Folder to write to (default: DIR/export/KIND)."),
    ] = None,
) -> None:
    """Write the metrics of all trials and runs for another tool to show."""
    from hwcli.output import terminal
    from hwcli.sweep.export import export

    terminal.show_path(export(to, out, into or out / "export" / to))


@app.command(cls=Command, rich_help_panel=AROUND)
def doctor(
    out: Annotated[
        Path, Option("--out", help="Where runs would be written.", metavar="DIR")
    ] = Path("results"),
    as_json: Annotated[bool, Option("--json", help="JSON instead of a table.")] = False,
) -> None:
    """Look at this machine: what hw2 will use, how fast it is, and what is wrong.

    The first time takes longer: kernels are compiled. The output fits into a question.
    """
    from hwcli import doctor as examination
    from hwcli.output import terminal
    from hwcli.output.tables import Column, Table

    findings = examination.examine(out)
    if as_json:
        terminal.show_json(examination.to_json(findings))
        return
    rows = [{"topic": ("! " if f.fault else "  ") + f.topic, "text": f.text} for f in findings]
    faults = sum(f.fault for f in findings)
    note = f"! {faults} to mend." if faults else "Nothing to mend."
    terminal.show(
        Table("hw2 doctor", [Column("topic", ""), Column("text", "")], rows, notes=[note])
    )


config_app = typer.Typer(
    cls=Group, help="Show the configs: every field explained, and the presets."
)
app.add_typer(config_app, name="config", rich_help_panel=AROUND, no_args_is_help=True)

ExperimentName = Annotated[
    Text,
    typer.Argument(
        metavar="[COMMAND]",
        help="An experiment, such as vit-sweep; all of them if none is given.",
        autocompletion=_complete_experiment,
    ),
]


def _chosen_commands(command: str | None) -> list[str]:
    if command is not None and command not in COMMANDS:
        raise ConfigError(f"command = {command!r}: unknown; choices: {', '.join(COMMANDS)}")
    return list(COMMANDS) if command is None else [command]


@config_app.command(cls=Command)
def show(
    command: ExperimentName = None,
    preset: Annotated[
        Text,
        Option(metavar="NAME", help="Preset to show.", autocompletion=_complete_preset),
    ] = None,
    config: Annotated[
        Path | None, Option("--config", metavar="PATH", help="YAML file with what you change.")
    ] = None,
) -> None:
    """Print a config as YAML, each field with its description: a file to copy."""
    from hwcli.config import resolve
    from hwcli.schema import annotate, read_schema

    for name in _chosen_commands(command):
        values = resolve(name, path=config, preset=preset)
        used = values.pop("name", "default")
        typer.echo(
            f"# hw2 {name}, as in {used}. Keep what you change, name the run, and start it by:\n"
            f"#   hw2 {name} --config FILE\n"
            + annotate({**values, "name": "mine"}, read_schema(name))
        )


@config_app.command(cls=Command)
def presets(command: ExperimentName = None) -> None:
    """List the presets of the experiments and what they are for."""
    from hwcli.config import default_config_path, read_file
    from hwcli.output import terminal
    from hwcli.output.tables import Column, Table

    rows = []
    for name in _chosen_commands(command):
        file = read_file(default_config_path(name))
        rows += [
            {
                "command": name,
                "preset": preset + (" *" if preset == file.preset else ""),
                "about": file.about[preset],
            }
            for preset in file.presets
        ]
    columns = [Column("command", "command"), Column("preset", "preset"), Column("about", "for")]
    terminal.show(Table("Presets", columns, rows, ["* used if no preset is given"]))


@config_app.command(hidden=True)
def schema(command: str) -> None:
    """Print the JSON schema of an experiment's YAML, made from its config model."""
    import json

    from hwcli.schema import make_schema

    module = importlib.import_module(f"hwcli.experiments.{command.replace('-', '_')}")
    typer.echo(json.dumps(make_schema(module.Config), indent=2))


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"hw2 {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        Option("--version", help="Show the version.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    """Read the options that come before a command."""


if __name__ == "__main__":
    main()
