"""What a run of sentiment-train found: the typed record that tables, pictures and report read."""

from typing import Any, Literal

from pydantic import Field, field_validator

from hwcli.config import Section
from hwcli.output.run_folder import Summary
from hwcli.training.significance import LEVEL

Label = Literal["negative", "positive"]


class EpochResult(Section):
    """One epoch, counted from 1; losses in nats, accuracies as fractions."""

    epoch: int
    train_loss: float
    train_accuracy: float
    valid_loss: float
    valid_accuracy: float
    minutes: float


class SplitSizes(Section):
    """Reviews in each part."""

    train: int
    valid: int
    test: int


class Parameters(Section):
    """Parameters of an encoder with its head."""

    total: int
    trainable: int


class Gain(Section):
    """Our accuracy minus another model's, paired over the same test reviews.

    Attributes:
        gain: ours minus theirs.
        standard_error: of the gain, over the test reviews.
        p_value: of McNemar's exact test.
    """

    gain: float
    standard_error: float
    p_value: float

    @property
    def is_significant(self) -> bool:
        """Tell whether one of the two models is right more often than chance explains."""
        return self.p_value < LEVEL


class Prediction(Section):
    """What a classifier says about one text."""

    text: str
    label: Label
    probability_positive: float

    @field_validator("text", mode="before")
    @classmethod
    def _drop_lone_surrogates(cls, value: Any) -> Any:
        # JSON can spell half of a character; no file in UTF-8 can hold it.
        return value.encode(errors="replace").decode() if isinstance(value, str) else value


class Probe(Prediction):
    """A prediction for a sentence with a known difficulty; expected is a reader's label."""

    kind: str
    expected: Label | None


class Mistake(Prediction):
    """A wrong prediction on a labelled review."""

    expected: Label


class CalibrationBin(Section):
    """Test reviews whose predicted probability lies in one tenth of the range from 0 to 1."""

    num_reviews: int
    mean_probability: float
    share_positive: float
    share_se: float


class LengthBin(Section):
    """A fifth of the test reviews by length, with the accuracy of every model on it."""

    num_reviews: int
    mean_words: float
    accuracy: dict[str, float]


class Reading(Section):
    """How much of the test reviews the encoder sees.

    Attributes:
        max_length: tokens read per review.
        cut_share: reviews that are longer than that.
        unknown_share: tokens that the vocabulary does not know.
    """

    max_length: int
    cut_share: float
    unknown_share: float


class SentimentSummary(Summary):
    """What one run of sentiment-train found.

    Attributes:
        dataset: name of the reviews.
        test_name: what tables call the test part.
        official_test: the test part is IMDB's own, or part of it.
        encoder: name of the pretrained encoder.
        encoder_digest: of its weights, config and tokenizer.
        finetuned: the encoder was trained too.
        head: in words, such as ``2-layer bidirectional GRU of 256, dropout 0.25``.
        plain: transformers' own classification head was trained.
        batch_size: reviews per step; None where there are no steps.
        kept_epoch: ``best`` (lowest validation loss) or ``last``.
        split_sizes: reviews in each part.
        num_test_texts_in_train: test texts that also occur in training or validation.
        num_contradictions: texts that occur with both labels.
        reading: how much of the test reviews the encoder sees.
        vocab_size: tokens that the tokenizer knows.
        num_params: of encoder and head.
        num_trainable_params: of what was trained.
        assignment: the same two counts of the model that the assignment describes.
        epochs: in their order.
        test_loss, test_accuracy, test_accuracy_se: on the test part.
        accuracy_without_duplicates: on test texts that occur in no other part.
        balanced_accuracy: the mean of both classes' accuracies.
        f1: of the positive class.
        majority_accuracy: of always predicting the more frequent training label.
        baselines: test accuracy of the bags of words, by name.
        gains: our accuracy minus each baseline's.
        predictions: for the homework's two sentences, then the user's.
        probes: for the fixed probe sentences.
        mistakes: the most confident ones.
        confusion: counts by label (down) and prediction (across), negative first.
        calibration: tenths of the probability; empty tenths are left out.
        lengths: fifths of the test reviews by length.
        encode_s, train_s, total_s: seconds of encoding, of training, of the last process.
        precision: the type that matrix products ran in.
        recipe_version: version of the training code.
    """

    dataset: str
    test_name: str
    official_test: bool
    encoder: str
    encoder_digest: str | None = None
    finetuned: bool
    head: str
    plain: bool = False
    batch_size: int | None
    kept_epoch: Literal["best", "last"]
    split_sizes: SplitSizes
    num_test_texts_in_train: int
    num_contradictions: int | None = None
    reading: Reading | None = None
    vocab_size: int
    num_params: int
    num_trainable_params: int
    assignment: Parameters
    epochs: tuple[EpochResult, ...] = Field(min_length=1)
    test_loss: float
    test_accuracy: float
    test_accuracy_se: float
    accuracy_without_duplicates: float | None = None
    balanced_accuracy: float
    f1: float
    majority_accuracy: float
    baselines: dict[str, float]
    gains: dict[str, Gain]
    predictions: tuple[Prediction, ...]
    probes: tuple[Probe, ...]
    mistakes: tuple[Mistake, ...]
    confusion: tuple[tuple[int, int], tuple[int, int]]
    calibration: tuple[CalibrationBin, ...] = ()
    lengths: tuple[LengthBin, ...] = ()
    encode_s: float
    train_s: float
    total_s: float
    precision: str
    recipe_version: int

    @property
    def is_solved(self) -> bool:
        """Tell whether the head was fitted by logistic regression, without epochs."""
        return self.batch_size is None

    @property
    def way(self) -> str:
        """``fine-tuned`` or ``frozen``."""
        return "fine-tuned" if self.finetuned else "frozen"

    @property
    def model(self) -> str:
        """The classifier in words."""
        return f"{self.encoder}, {self.way}; {self.head}"

    @property
    def calibration_error(self) -> float | None:
        """The expected calibration error: mean distance of share and probability over reviews."""
        total = sum(tenth.num_reviews for tenth in self.calibration)
        if not total:
            return None
        distances = (
            t.num_reviews * abs(t.mean_probability - t.share_positive) for t in self.calibration
        )
        return sum(distances) / total
