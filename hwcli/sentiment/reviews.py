"""Film reviews with their labels.

A label is carried by name from the file to the prediction: copies of the same data disagree on
which number means which, and a classifier trained on one of them reads the other upside down.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hwcli.sentiment.summary import Label

LABELS: tuple[Label, Label] = ("negative", "positive")
"""The names of classes 0 and 1."""


@dataclass(frozen=True)
class Reviews:
    """Texts and their classes (0 negative, 1 positive)."""

    texts: Sequence[str]
    labels: Sequence[int]

    def __len__(self) -> int:
        return len(self.texts)

    def select(self, numbers: Iterable[int]) -> "Reviews":
        """Return some of the reviews, in the order asked for."""
        chosen = list(numbers)
        return Reviews([self.texts[i] for i in chosen], [self.labels[i] for i in chosen])

    @property
    def digest(self) -> str:
        """Name of the reviews themselves, whatever their order and the layout they came in."""
        return hashlib.sha256(b"".join(sorted(self._digests()))).hexdigest()[:16]

    @property
    def digest_in_order(self) -> str:
        """Name of the reviews in this order, which decides what a step of training sees."""
        return hashlib.sha256(b"".join(self._digests())).hexdigest()[:16]

    def _digests(self) -> list[bytes]:
        return [
            hashlib.sha256(f"{label}\t{text}".encode(errors="surrogatepass")).digest()
            for text, label in zip(self.texts, self.labels, strict=True)
        ]


_BREAK = re.compile(r"\s*(?:<br\s*/?>\s*)+", re.IGNORECASE)


def clean(text: str) -> str:
    """Turn HTML's line breaks into spaces and drop what no tokenizer can read."""
    return _BREAK.sub(" ", text).encode(errors="replace").decode().strip()
