"""The commands of the four questions.

An experiment's command is one short function: its parameters are its flags, and each flag's
annotation names the config field that it sets. What a flag means, its default and its choices
come from the field's description, the YAML and the schema.
"""

from pathlib import Path
from typing import Annotated

import typer
from typer import Option

from hwcli.cli.app import EXPERIMENTS, app
from hwcli.cli.completion import complete_setting
from hwcli.cli.experiment_command import experiment
from hwcli.cli.flags import Flag, Flags, Text
from hwcli.cli.help import Command
from hwcli.cli.options import RESULTS, Out, path_option, settings_option
from hwcli.errors import ConfigError


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
        path_option(
            "--spec", "PATH", "YAML file with a whole exercise: weights, inputs, alphabet."
        ),
    ] = None,
    expect: Annotated[Text, Flag("expect", "PROPERTY")] = None,
    design: Annotated[Text, Flag("design", "PROPERTY")] = None,
    inputs: Annotated[Text, Flag("inputs", "X,X,...")] = None,
    inputs_file: Annotated[Path | None, Flag("inputs_file", "PATH")] = None,
    length: Annotated[Text, Flag("length", "N")] = None,
    alphabet: Annotated[Text, Flag("alphabet", "X,X,...")] = None,
    steps: Annotated[Text, Flag("steps", "N")] = None,
    seed: Annotated[Text, Flag("seed", "N")] = None,
    preset: Text = None,
) -> Flags:
    """State what a recurrent network computes, and prove it where possible (question 1)."""
    if design:
        told = {"--spec": spec, "--expect": expect}
        told |= {"--w-in": w_in, "--w-rec": w_rec, "--w-out": w_out}
        if given := [flag for flag, value in told.items() if value is not None]:
            raise ConfigError(
                f"--design and {given[0]}: a design has weights and an expected property of its "
                "own; give one of the two"
            )
        return {"name": "design", "alphabet": "0,1"}
    if spec is not None:
        from hwcli.rnn.spec_file import read_spec

        exercise = read_spec(spec)
        if preset is not None and "network" in exercise:
            raise ConfigError("give either --spec or --preset, not both: each has a network")
        return exercise
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
            help="Also vary this field of the recipe, such as model.width=32,64,96; repeatable.",
            autocompletion=complete_setting,
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
    if not grid:
        return {}
    from hwcli.vision.grid import split_axes

    try:
        return {"grid": split_axes(grid)}
    except ValueError as error:
        raise ConfigError(f"--grid {error}") from None


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
        settings_option("How to read the file, such as data.text_column=review; repeatable."),
    ] = None,
    as_json: Annotated[bool, Option("--json", help="Print JSON lines, not a table.")] = False,
    out: Out = RESULTS,
    device: Annotated[str, Option("--device", metavar="NAME", help="auto, cpu, cuda, mps.")] = (
        "auto"
    ),
) -> None:
    """Classify texts as positive or negative with a trained model."""
    from hwcli.config import load
    from hwcli.experiments.sentiment_train import COMMAND, Config
    from hwcli.output import terminal
    from hwcli.sentiment import predict

    for setting in settings or ():
        if not setting.strip().startswith("data."):
            raise ConfigError(
                f"--set {setting}: only settings of the file can be given here, such as "
                "data.text_column=review; the model keeps its own"
            )
    data = load(Config, COMMAND, overrides=settings or ()).data
    given = predict.gather_texts(
        texts or [], file, data, terminal.log, lambda: predict.trained_labels(models or (), out)
    )
    runs = predict.find_runs(models or (), out)
    if not models:
        terminal.log(f"the newest model: {runs[0]}")
    predictions = predict.predict(given.texts, runs, device, terminal.log)
    shown = predict.to_tables(given, predictions)
    if as_json:
        terminal.show_text(predict.to_json_lines(given, predictions))
        for table in shown[1:]:
            terminal.progress.print(table.to_rich())
    else:
        for table in shown:
            terminal.show(table)
