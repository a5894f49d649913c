"""Question 4: the notebook's questions by name, answered from the runs of sentiment-train."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hwcli.output import plots
from hwcli.output.tables import Column, Table
from hwcli.report.cells import Cell, code, not_run_yet, text, words
from hwcli.report.runs import Run, Runs

COMMAND = "sentiment-train"
EXPECTED = ("homework", "strong")
LABELS = ("negative", "positive")


def choose(runs: Runs) -> list[Run]:
    """Return the runs that are shown: homework and strong, else the newest there is."""
    named = [run for name in EXPECTED if (run := runs.get(COMMAND, name)) is not None]
    newest = runs.newest(runs.of(COMMAND))
    return named or ([newest] if newest else [])


def section(runs: Runs) -> list[Cell]:
    """Return the cells of question 4."""
    cells = [
        text("# Question 4: Sentiment analysis using Transformer models"),
        *_model(),
    ]
    chosen = choose(runs)
    for name in EXPECTED:
        if runs.get(COMMAND, name) is None:
            what = {
                "homework": "the notebook's model, a frozen encoder below a GRU",
                "strong": "the encoder fine-tuned",
            }[name]
            cells.append(not_run_yet(what, f"hw2 sentiment-train --preset {name}"))
    if chosen:
        cells += _answers(chosen)
        for run in chosen:
            cells += _one_run(run)
    cells.append(words("q4", "which of the mistakes would you have made too?"))
    return cells


def _model() -> list[Cell]:
    return [
        text(
            r"""
            **The model.** A pretrained encoder turns the $n$ tokens of a review into states
            $s_1, \dots, s_n$. Below the homework's head it is frozen, and in eval mode: its states
            are computed once. A bidirectional GRU of two layers reads them in both directions, and
            one linear layer judges its final states after dropout:

            $$\begin{aligned}
            r_t &= \sigma(W_r s_t + U_r h_{t-1} + b_r), \qquad
            u_t = \sigma(W_u s_t + U_u h_{t-1} + b_u), \\
            \tilde h_t &= \tanh(W_h s_t + r_t \circ (U_h h_{t-1} + c_h) + b_h), \qquad
            h_t = (1 - u_t) \circ \tilde h_t + u_t \circ h_{t-1}, \\
            p &= \sigma\bigl(w^\top [\overrightarrow{h}_n; \overleftarrow{h}_1] + b\bigr), \qquad
            \mathrm{loss} = -y \log p - (1 - y) \log(1 - p).
            \end{aligned}$$

            Padding is masked in the encoder and skipped by the GRU, losses and accuracies are sums
            over reviews divided once, and the test reviews are read once, after training.
            """
        ),
        code(
            """
            from hwcli.sentiment.heads import GRUHead
            from hwcli.sentiment.training import batch_loss

            show_source(GRUHead, batch_loss)
            """
        ),
        text(
            "**The same head at work**, in seconds and without an encoder: made-up states whose "
            "first component leans one way, padded to one length. What stands in the padding is "
            "no business of the head's."
        ),
        code(
            """
            import torch
            from hwcli.sentiment.heads import GRUHead, HeadConfig

            torch.manual_seed(0)
            labels, lengths = torch.randint(2, (192,)).float(), torch.randint(3, 12, (192,))
            states = torch.randn(192, 11, 5)
            states[..., 0] += (2 * labels - 1).unsqueeze(1)
            head = GRUHead(5, HeadConfig(hidden=7, layers=2, dropout=0.0))
            optimizer = torch.optim.AdamW(head.parameters(), lr=1e-2)
            for step in range(41):
                outcome = batch_loss(head(states, lengths), labels)
                if step % 20 == 0:
                    share = outcome.num_correct.item() / outcome.num_examples
                    print(f"step {step:2d}: loss {outcome.loss.item():.2f}, accuracy {share:.0%}")
                optimizer.zero_grad()
                outcome.loss.backward()
                optimizer.step()
            with torch.no_grad():
                padding = torch.arange(11) >= lengths.unsqueeze(1)
                other = states.masked_fill(padding.unsqueeze(-1), 100.0)
                same = torch.allclose(head(states, lengths), head(other, lengths), atol=1e-5)
            print(f"other numbers in the padding change no logit: {same}")
            """
        ),
    ]


def _answers(chosen: Sequence[Run]) -> list[Cell]:
    names = ", ".join(f'"{run.name}"' for run in chosen)
    return [
        text(f"**The notebook's questions, by name.** {_in_short(chosen)}"),
        code(
            f"""
            from hwcli.report import sentiment

            trained = [read_run(RUNS / "{COMMAND}" / name) for name in [{names}]]
            show(sentiment.answers_table(trained))
            """
        ),
        text(_beside_baselines(chosen)),
        code("show(sentiment.models_table(trained))"),
    ]


def _one_run(run: Run) -> list[Cell]:
    curves = 'show(sentiment.draw_curves(run), "Loss and accuracy")'
    cells = [
        text(f"**{run.name}**: Q3d epoch by epoch, and Q4a and Q4b, the sentiment of sentences."),
        code(
            f"""
            run = read_run(RUNS / "{run.id}")
            show(sentiment.epochs_table(run))
            {curves if len(run.summary["epochs"]) > 1 else ""}
            """
        ),
        code(
            """
            show(sentiment.predictions_table(run))
            show(sentiment.confusion_table(run))
            """
        ),
    ]
    captions = {
        "calibration": "Share of positive reviews over the probability they were given",
        "length": "Test accuracy by the length of a review",
    }
    drawn = {name: c for name, c in captions.items() if run.has_picture(name)}
    if drawn:
        cells.append(
            code(
                "\n".join(
                    f'show(run.path / "{n}.png", "{run.name}: {c}")' for n, c in drawn.items()
                )
            )
        )
    return cells


def _in_short(chosen: Sequence[Run]) -> str:
    return " ".join(
        f"The run `{run.name}` reads {run.summary.get('test_name', 'the test reviews')} with "
        f"{_accuracy(run.summary)} accuracy (n = {run.summary['split_sizes']['test']:,})."
        for run in chosen
    )


def _beside_baselines(chosen: Sequence[Run]) -> str:
    """Say how each run stands to bags of words, which train in seconds."""
    sentences = []
    for run in chosen:
        baselines = run.summary["baselines"]
        if not baselines:
            continue
        name, best = max(baselines.items(), key=lambda item: item[1])
        gain = 100 * (run.summary["test_accuracy"] - best)
        side = "above" if gain >= 0 else "below"
        sentences.append(
            f"`{run.name}` is {abs(gain):.2f} points {side} the better "
            f"bag of words ({name}, {100 * best:.2f} %)."
        )
    return f"**Baselines.** {' '.join(sentences)}" if sentences else "**The models.**"


def _accuracy(summary: Mapping[str, Any]) -> str:
    return f"{100 * summary['test_accuracy']:.2f} ± {100 * summary['test_accuracy_se']:.2f} %"


# --------------------------------------------------------------------------------------
# What the notebook shows


def answers_table(runs: Sequence[Run]) -> Table:
    """Return the blanks of the homework's notebook, a column for each run."""
    columns = {run.name: _answers_of(run) for run in runs}
    questions = list(next(iter(columns.values())))
    return Table(
        title="The questions of the notebook",
        columns=[Column("question", "question"), *(Column(run.name, run.name) for run in runs)],
        rows=[{"question": q, **{name: a[q] for name, a in columns.items()}} for q in questions],
    )


def _answers_of(run: Run) -> dict[str, str]:
    summary, config = run.summary, run.config
    sizes, head = summary["split_sizes"], config["head"]
    way = "fine-tuned" if config["finetune"] else "frozen"
    kind = head["kind"]
    if kind == "gru":
        kind = f"{head['layers']}-layer bidirectional GRU of {head['hidden']}"
    epochs = summary["epochs"]
    minutes = sum(epoch["minutes"] for epoch in epochs) / len(epochs)
    trainable = f"{summary['num_trainable_params']:,}"
    said = [
        f"“{p['text']}”: {p['label']} ({p['probability_positive']:.4f})"
        for p in summary["predictions"]
    ]
    return {
        "Q1a vocabulary size": f"{summary['vocab_size']:,}",
        "Q1b train / valid / test": f"{sizes['train']:,} / {sizes['valid']:,} / {sizes['test']:,}",
        "Q2a the model": f"{summary.get('encoder', config['encoder'])}, {way}; {kind}, "
        f"dropout {head['dropout']:g}",
        "Q2b parameters": f"{summary['num_params']:,}",
        "Q2c trainable after freezing": trainable
        if not config["finetune"]
        else f"{trainable} (nothing is frozen)",
        "Q3a accuracy": "right where logit > 0 is the label; sums over reviews, divided once",
        "Q3b, Q3c training, evaluation": f"batches of {config['batch_size']}, AdamW, BCE with "
        f"logits; of the epochs the {config['keep']} is kept",
        "Q3d epochs; minutes each": f"{len(epochs)}; {minutes:.2f}",
        "Q3d test loss": f"{summary['test_loss']:.4f}",
        "Q3d test accuracy": _accuracy(summary),
        "Q4a given sentences": "\n".join(said[:2]),
        "Q4b sentences of our own": "\n".join(said[2:]) or "none",
    }


def models_table(runs: Sequence[Run]) -> Table:
    """Return the test accuracy of the runs and of the bags of words beside each."""
    rows = []
    for run in runs:
        summary = run.summary
        training = summary["split_sizes"]["train"]
        rows.append(
            {
                "model": run.name,
                "trained": training,
                "accuracy": _accuracy(summary),
                "loss": summary["test_loss"],
            }
        )
        rows += [
            {"model": f"{name}, as {run.name}", "trained": training, "accuracy": f"{100 * a:.2f} %"}
            for name, a in summary["baselines"].items()
        ]
    return Table(
        title="Test accuracy (± standard error)",
        columns=[
            Column("model", "model"),
            Column("trained", "trained on", "{:,}"),
            Column("accuracy", "accuracy"),
            Column("loss", "loss", "{:.4f}"),
        ],
        rows=rows,
    )


def epochs_table(run: Run) -> Table:
    """Return loss, accuracy and minutes of every epoch."""
    return Table(
        title=f"Epochs of {run.name}",
        columns=[
            Column("epoch", "epoch"),
            Column("train_loss", "training loss", "{:.4f}"),
            Column("train_accuracy", "training accuracy", "{:.2%}"),
            Column("valid_loss", "validation loss", "{:.4f}"),
            Column("valid_accuracy", "validation accuracy", "{:.2%}"),
            Column("minutes", "minutes", "{:.2f}"),
        ],
        rows=run.summary["epochs"],
    )


def predictions_table(run: Run) -> Table:
    """Return what the run says of single sentences."""
    return Table(
        title=f"What {run.name} says of sentences",
        columns=[
            Column("text", "text"),
            Column("label", "label"),
            Column("probability_positive", "probability of positive", "{:.4f}"),
        ],
        rows=[*run.summary["predictions"], *run.summary.get("probes", [])],
    )


def confusion_table(run: Run) -> Table:
    """Return how many test reviews of each label were called what."""
    return Table(
        title=f"Test reviews by label, and what {run.name} called them",
        columns=[
            Column("label", "label"),
            *(Column(name, f"called {name}", "{:,}") for name in LABELS),
        ],
        rows=[
            {"label": label, **dict(zip(LABELS, line, strict=True))}
            for label, line in zip(LABELS, run.summary["confusion"], strict=True)
        ],
    )


def draw_curves(run: Run) -> Figure:
    """Draw loss and accuracy over the epochs."""
    figure, panels = plots.figure(columns=2, width=6.4, height=2.6)
    epochs = run.summary["epochs"]
    for panel, key, factor in zip(panels, ("loss", "accuracy"), (1, 100), strict=True):
        for colour, part, name in zip(
            plots.COLOURS, ("train", "valid"), ("training", "validation"), strict=False
        ):
            panel.plot(
                [e["epoch"] for e in epochs],
                [factor * e[f"{part}_{key}"] for e in epochs],
                color=colour,
                marker=".",
                label=name,
            )
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    panels[0].set(xlabel="epoch", title="Loss, nats")
    panels[1].set(xlabel="epoch", title="Accuracy, %")
    panels[1].legend()
    return figure
