"""Reviews for training, validation and testing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from pydantic import Field

from hwcli.config import Section
from hwcli.data.cache import Found, Log
from hwcli.errors import SourceError
from hwcli.sentiment.columns import DataConfig
from hwcli.sentiment.layouts import read
from hwcli.sentiment.reviews import LABELS, Reviews, clean

# The official test half, known by its texts and labels in whatever order and layout.
OFFICIAL_TEST = "92e9eb46d496a471"


class SplitConfig(Section):
    """Which reviews are for training, validation and testing.

    A part that the data has of its own is taken as it is, and its fraction does not count. Limits
    keep the first so many after the seeded shuffle.
    """

    seed: int = Field(0, ge=0, lt=2**32, description="Seed of the shuffle before the split.")
    valid_fraction: float = Field(
        0.3, gt=0, lt=1, description="Share of the training half used for validation."
    )
    test_fraction: float = Field(
        0.2,
        gt=0,
        lt=1,
        description="Share used for testing, only if the data has no test part of its own.",
    )
    train_limit: int | None = Field(
        None, ge=2, description="Train on the first N reviews after the seeded shuffle; null: all."
    )
    valid_limit: int | None = Field(
        None, ge=1, description="Validate on the first N reviews of that part; null: all."
    )
    test_limit: int | None = Field(
        None, ge=1, description="Test on the first N reviews of that part; null: all."
    )


@dataclass(frozen=True)
class Split:
    """The three parts of one data set.

    Two texts are one where an encoder reads them alike: HTML's line breaks and spaces at the ends
    do not count.

    Attributes:
        train: learned from.
        valid: choices are made on it.
        test: read once.
        dataset: name of the data.
        official_test: the test part is (of) IMDB's own 25,000 test reviews.
        test_name: what tables call the test part.
        test_seen: of every test review, whether its text also occurs in another part.
        num_valid_in_train: validation reviews whose text also occurs in training.
        num_contradictions: texts that occur with both labels.
    """

    train: Reviews
    valid: Reviews
    test: Reviews
    dataset: str
    official_test: bool
    test_name: str
    test_seen: Sequence[bool]
    num_valid_in_train: int
    num_contradictions: int

    @property
    def num_in_both(self) -> int:
        """Test reviews whose text also occurs in training or validation."""
        return sum(self.test_seen)


def load(
    found: Found,
    config: SplitConfig,
    data: DataConfig | None = None,
    log: Log = lambda line: None,
) -> Split:
    """Read reviews and split them.

    Args:
        found: where they are.
        config: how they are split.
        data: how their files are to be read.
        log: is told what was guessed.

    Raises:
        SourceError: the files are no reviews with two labels, or are too few to split.
    """
    parts = read(found, data or DataConfig(), log)
    train, valid, test = _cut(parts, config)
    _refuse_empty(found, train, valid, test)
    official = "test" in parts and parts["test"].digest == OFFICIAL_TEST
    if official:
        test_name = "IMDB test"
    elif "test" in parts:
        test_name = f"test part of {found.name}"
    else:
        test_name = f"held-out part of {found.holds or found.name}"
    test_seen, num_valid_in_train, num_contradictions = _overlaps(train, valid, test)
    return Split(
        train=train,
        valid=valid,
        test=test,
        dataset=found.name,
        official_test=official,
        test_name=test_name,
        test_seen=test_seen,
        num_valid_in_train=num_valid_in_train,
        num_contradictions=num_contradictions,
    )


def _cut(parts: Mapping[str, Reviews], config: SplitConfig) -> tuple[Reviews, Reviews, Reviews]:
    """Return the reviews for training, validation and testing.

    What the data has no part for is taken from its training part.
    """
    whole = parts["train"]
    order = _shuffle(whole, config.seed)
    if "test" in parts:
        test = parts["test"].select(_shuffle(parts["test"], config.seed)[: config.test_limit])
    else:
        num_test = max(1, round(config.test_fraction * len(whole)))
        test = whole.select(order[:num_test][: config.test_limit])
        order = order[num_test:]
    if "valid" in parts:
        valid = parts["valid"].select(_shuffle(parts["valid"], config.seed)[: config.valid_limit])
    else:
        num_valid = max(1, round(config.valid_fraction * len(order)))
        valid = whole.select(order[:num_valid][: config.valid_limit])
        order = order[num_valid:]
    return whole.select(order[: config.train_limit]), valid, test


def _shuffle(reviews: Reviews, seed: int) -> list[int]:
    """Return the numbers of the reviews in random order."""
    generator = torch.Generator().manual_seed(seed)
    order: list[int] = torch.randperm(len(reviews), generator=generator).tolist()
    return order


def _refuse_empty(found: Found, train: Reviews, valid: Reviews, test: Reviews) -> None:
    """Refuse a part without reviews, and training reviews of one label alone.

    Raises:
        SourceError: one line that names the part or the label.
    """
    for name, part in (("test", test), ("validation", valid)):
        if not len(part):
            raise SourceError(
                f"{found.name}: its {name} part has no review with one of the two labels; remove "
                f"that part, and hw2 sets reviews aside from training"
            )
    missing = [name for c, name in enumerate(LABELS) if c not in train.labels]
    if missing:
        raise SourceError(
            f"{found.name}: {len(train)} training reviews, none of them {missing[0]}; both labels "
            "are needed to train"
        )


def _overlaps(train: Reviews, valid: Reviews, test: Reviews) -> tuple[list[bool], int, int]:
    """Return a split's ``test_seen``, ``num_valid_in_train`` and ``num_contradictions``."""
    read_train, read_valid, read_test = (
        [clean(text) for text in part.texts] for part in (train, valid, test)
    )
    trained = set(read_train)
    seen = trained.union(read_valid)
    labelled = set(
        zip(
            [*read_train, *read_valid, *read_test],
            [*train.labels, *valid.labels, *test.labels],
            strict=True,
        )
    )
    return (
        [text in seen for text in read_test],
        sum(text in trained for text in read_valid),
        len(labelled) - len({text for text, _ in labelled}),
    )
