import errno
import json
import math
import re
import shutil
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from hwcli.errors import OutputError, SourceError
from hwcli.sentiment import encoder as encoders
from hwcli.sentiment.best_epoch import BestEpoch
from hwcli.sentiment.classifier import (
    TextClassifier,
    assemble,
    confusion,
    load_saved,
    make_head,
    mean_of,
    predict_logits,
    save_classifier,
)
from hwcli.sentiment.heads import FrozenPooledHead, HeadConfig
from hwcli.sentiment.tokens import TextConfig, tokenize
from hwcli.training.metrics import Mean
from tests.sentiment.tiny import make_reviews

CPU = torch.device("cpu")
TEXT = TextConfig(max_length=31)
TEXTS = [*make_reviews(17, seed=11).texts, "", "😀", "good<br />film", "superb " * 10_000]

KINDS = [
    (HeadConfig(kind="gru", hidden=5), False),
    (HeadConfig(kind="gru", hidden=5), True),
    (HeadConfig(kind="mean", all_layers=True), False),
    (HeadConfig(kind="mean"), True),
    (HeadConfig(kind="cls"), False),
    (HeadConfig(kind="cls"), True),
]
NAMES = [f"{config.kind}-{'finetuned' if tuned else 'frozen'}" for config, tuned in KINDS]


def make(folder: Path, config: HeadConfig, *, finetuned: bool) -> TextClassifier:
    torch.manual_seed(2)
    head = None
    if finetuned and config.kind == "cls":
        encoder = encoders.load_classifier(folder)
    else:
        encoder = encoders.load_encoder(folder)
        head = make_head(config, encoder, finetuned=finetuned)
        if isinstance(head, FrozenPooledHead):
            ids, lengths = tokenize(TEXTS, encoders.load_tokenizer(folder), TEXT).pad(range(17))
            with torch.no_grad():
                how: encoders.Pooling = "cls" if config.kind == "cls" else "mean"
                head.standardize_by(encoders.pooled_layers(encoder, ids, lengths, how))
    model = assemble(encoder, head, config, finetuned=finetuned).eval()
    return TextClassifier(model, encoders.load_tokenizer(folder), TEXT, CPU)


def save(ours: TextClassifier, folder: Path, config: HeadConfig, *, finetuned: bool) -> None:
    save_classifier(
        folder,
        ours.model,
        ours.tokenizer,
        head=config,
        text=TEXT,
        finetuned=finetuned,
        encoder_name="tiny",
    )


@pytest.mark.parametrize(("config", "finetuned"), KINDS, ids=NAMES)
def test_padding_never_changes_a_probability(
    config: HeadConfig, finetuned: bool, tiny_encoder: Path
) -> None:
    classifier = make(tiny_encoder, config, finetuned=finetuned)
    together = classifier.predict(TEXTS)
    for text, prediction in zip(TEXTS, together, strict=True):
        (alone,) = classifier.predict([text])
        assert alone.probability_positive == pytest.approx(
            prediction.probability_positive, abs=1e-5
        )
        assert alone.label == ("positive" if alone.probability_positive > 0.5 else "negative")
    assert len({round(p.probability_positive, 4) for p in together}) > 3

    tokens = tokenize(TEXTS, classifier.tokenizer, TEXT)
    low = predict_logits(classifier.model, tokens, device=CPU, precision=torch.bfloat16).sigmoid()
    for row in range(0, len(TEXTS), 5):
        one = tokenize([TEXTS[row]], classifier.tokenizer, TEXT)
        alone_low = predict_logits(classifier.model, one, device=CPU, precision=torch.bfloat16)
        assert alone_low.sigmoid().item() == pytest.approx(low[row].item(), abs=2e-2)


@pytest.mark.parametrize(("config", "finetuned"), KINDS, ids=NAMES)
def test_a_saved_classifier_predicts_as_before(
    config: HeadConfig, finetuned: bool, tiny_encoder: Path, tmp_path: Path
) -> None:
    classifier = make(tiny_encoder, config, finetuned=finetuned)
    save(classifier, tmp_path, config, finetuned=finetuned)
    assert load_saved(tmp_path, CPU).predict(TEXTS) == classifier.predict(TEXTS)


def test_transformers_own_classes_load_a_plain_classifier(
    tiny_encoder: Path, tmp_path: Path
) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    config = HeadConfig(kind="cls")
    ours = make(tiny_encoder, config, finetuned=True)
    save(ours, tmp_path, config, finetuned=True)
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    ids = tokenizer("[CLS] a superb film [SEP]", return_tensors="pt")["input_ids"]
    probability = model(input_ids=ids).logits.softmax(-1)[0, 1].item()
    assert model.config.id2label == {0: "negative", 1: "positive"}
    (prediction,) = ours.predict(["a superb film"])
    assert prediction.probability_positive == pytest.approx(probability, abs=1e-6)


def test_a_damaged_or_half_written_folder_is_one_line(tiny_encoder: Path, tmp_path: Path) -> None:
    config = HeadConfig(kind="mean")
    ours = make(tiny_encoder, config, finetuned=False)
    with pytest.raises(SourceError, match="no trained model there"):
        load_saved(tmp_path, CPU)
    save(ours, tmp_path, config, finetuned=False)
    head = tmp_path / "head.safetensors"
    head.write_bytes(head.read_bytes()[:50])
    with pytest.raises(SourceError, match=r"head\.safetensors: damaged"):
        load_saved(tmp_path, CPU)
    (tmp_path / "hw2.json").write_text("{}")
    with pytest.raises(SourceError, match=r"hw2\.json: damaged"):
        load_saved(tmp_path, CPU)


@pytest.mark.parametrize("kind", ["mean", "cls"])
def test_a_saved_classifier_gets_the_attention_that_is_right_for_its_device(
    kind: Literal["mean", "cls"],
    tiny_encoder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = HeadConfig(kind=kind)
    save(make(tiny_encoder, config, finetuned=True), tmp_path, config, finetuned=True)
    asked = []

    def choose(device: torch.device, precision: torch.dtype) -> str:
        asked.append((device, precision))
        return "eager"

    monkeypatch.setattr(encoders, "attention_for", choose)
    encoder: Any = load_saved(tmp_path, CPU).model.encoder
    assert encoder.config._attn_implementation == "eager"
    assert asked == [(CPU, torch.float32)]


def test_a_plain_classifier_has_one_label_for_each_text_whatever_its_encoder_was_made_for(
    tiny_encoder: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(tiny_encoder, tmp_path / "encoder")
    said = json.loads((folder / "config.json").read_text())
    said["problem_type"] = "multi_label_classification"
    (folder / "config.json").write_text(json.dumps(said))
    config = HeadConfig(kind="cls")
    ours = make(folder, config, finetuned=True)
    save(ours, tmp_path / "saved", config, finetuned=True)
    kept = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert kept["problem_type"] == "single_label_classification"


@pytest.mark.parametrize(
    ("error", "is_told"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (SafetensorError("Error while serializing: No space left on device"), True),
        (Exception("No space left on device (os error 28)"), True),  # as tokenizers raises it
        (AttributeError("a mistake in the program"), False),
    ],
)
@pytest.mark.parametrize("what", ["encoder", "tokenizer", "head"])
def test_a_model_that_cannot_be_saved_is_one_line(
    what: str,
    error: Exception,
    is_told: bool,
    tiny_encoder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from hwcli.sentiment import classifier as module

    def fail(*_: object, **__: object) -> None:
        raise error

    config = HeadConfig(kind="mean")
    ours = make(tiny_encoder, config, finetuned=True)
    place: Any = {"encoder": ours.model.encoder, "tokenizer": ours.tokenizer, "head": module}[what]
    monkeypatch.setattr(place, "save_model" if what == "head" else "save_pretrained", fail)
    with pytest.raises(OutputError if is_told else type(error)) as caught:
        save(ours, tmp_path / "model", config, finetuned=True)
    if is_told:
        line = r"model: the model cannot be saved \(.*No space left on device.*\); its training is"
        assert re.search(line, str(caught.value))
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "model" / "hw2.json").exists()


def test_no_text_gives_no_prediction(tiny_encoder: Path) -> None:
    assert make(tiny_encoder, HeadConfig(kind="mean"), finetuned=True).predict([]) == []


def test_tokens_that_are_there_already_are_not_made_again(tiny_encoder: Path) -> None:
    ours = make(tiny_encoder, HeadConfig(kind="mean"), finetuned=True)
    good, bad = ours.predict(["good"]), ours.predict(["bad"])
    assert good[0].probability_positive != bad[0].probability_positive
    told = ours.predict(["good"], ours.tokenize(["bad"]))
    assert told[0].probability_positive == bad[0].probability_positive


class StoppedError(Exception):
    pass


def test_a_stopped_pass_over_the_test_reviews_is_gone_on_with(
    tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hwcli.sentiment import classifier as module

    monkeypatch.setattr(module, "TOKENS_PER_BATCH", 64)
    monkeypatch.setattr(module, "SECONDS_BETWEEN_MARKS", -1.0)
    ours = make(tiny_encoder, HeadConfig(kind="mean"), finetuned=True)
    tokens = tokenize(TEXTS, ours.tokenizer, TEXT)
    whole = predict_logits(ours.model, tokens, device=CPU)

    class Stopping(nn.Module):
        left = 4

        def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
            self.left -= 1
            if self.left < 0:
                raise StoppedError
            return ours.model(ids, lengths)

    keep = tmp_path / "test.safetensors"
    model = Stopping().eval()
    with pytest.raises(StoppedError):
        predict_logits(model, tokens, device=CPU, resume_file=keep)
    model.left = len(module.sorted_batches(tokens.lengths, 64)) - 4
    torch.testing.assert_close(
        predict_logits(model, tokens, device=CPU, resume_file=keep), whole, rtol=0, atol=0
    )
    # It is finished now: there is nothing left to do.
    model.left = 0
    assert torch.equal(predict_logits(model, tokens, device=CPU, resume_file=keep), whole)


def test_logits_of_other_weights_are_not_taken(tiny_encoder: Path, tmp_path: Path) -> None:
    ours = make(tiny_encoder, HeadConfig(kind="mean"), finetuned=True)
    tokens, keep = tokenize(TEXTS, ours.tokenizer, TEXT), tmp_path / "test.safetensors"
    before = predict_logits(ours.model, tokens, device=CPU, resume_file=keep)
    with torch.no_grad():
        next(ours.model.parameters()).neg_()
    after = predict_logits(ours.model, tokens, device=CPU, resume_file=keep)
    assert not torch.equal(after, before)
    assert torch.equal(after, predict_logits(ours.model, tokens, device=CPU))


def test_loss_and_accuracy_are_sums_over_reviews() -> None:
    mean = mean_of(torch.tensor([0.0, 2.0, -1.0]), torch.tensor([1, 0, 0]))
    assert mean.accuracy == pytest.approx(1 / 3)  # a logit of 0 is not above 0
    expected = (math.log(2) + math.log1p(math.exp(2)) + math.log1p(math.exp(-1))) / 3
    assert mean.loss == pytest.approx(expected)


def test_the_epoch_with_the_lowest_loss_is_kept(tmp_path: Path) -> None:
    best, model = BestEpoch(tmp_path / "best.safetensors"), nn.Linear(1, 1)
    for bias, loss in ((1.0, 0.5), (2.0, 0.3), (3.0, 0.4)):
        nn.init.constant_(model.bias, bias)
        best.save_if_best(model, Mean(loss * 7, 3, 7))
    BestEpoch(tmp_path / "best.safetensors").restore(model, 0.3)
    assert model.bias.item() == 2.0
    # Another epoch's weights are not taken for the best one's.
    with pytest.raises(SourceError, match="lost or damaged"):
        best.restore(model, 0.2)


def test_confusion_has_labels_down_and_predictions_across() -> None:
    predicted, labels = torch.tensor([1, 1, 0, 0, 0]), torch.tensor([1, 0, 0, 0, 1])
    assert confusion(predicted, labels) == ((2, 1), (1, 1))


@pytest.mark.parametrize("content", [None, b"", b"\x08\0\0\0\0\0\0\0{}      "])
def test_damaged_weights_of_the_best_epoch_are_one_line(
    content: bytes | None, tmp_path: Path
) -> None:
    best = BestEpoch(tmp_path / "best.safetensors")
    if content is not None:
        best.path.write_bytes(content)
    with pytest.raises(SourceError, match=r"weights are lost or damaged; remove .*train again"):
        best.restore(nn.Linear(1, 1), 0.3)
