"""Letters and sets of letters in words: "one", "positive inputs", "inputs in {1, 3}".

Words for a set depend on the alphabet: {1} over the bits is "one", over -9..9 it is "1", and
{1, ..., 9} over -9..9 is "positive". Letters may have names of their own, as one-hot inputs do.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

from hwcli.rnn.exact import Exact, Number, shown
from hwcli.rnn.network import Letter

BITS: tuple[Letter, ...] = ((0,), (1,))
BIT_PAIRS: tuple[Letter, ...] = ((0, 0), (0, 1), (1, 0), (1, 1))


@dataclass(frozen=True)
class Alphabet:
    """The letters that a network reads.

    Attributes:
        letters: what can be read in one step, (L,).
        names: the letters' own names, where they have some.
    """

    letters: tuple[Letter, ...]
    names: Mapping[Letter, str] = field(default_factory=dict)

    @property
    def are_bits(self) -> bool:
        """Tell whether one bit is read at a time."""
        return set(self.letters) == set(BITS)

    @property
    def are_bit_pairs(self) -> bool:
        """Tell whether two bits are read at a time."""
        return set(self.letters) == set(BIT_PAIRS)

    def spell(self, letter: Letter) -> str:
        """Spell one letter: its name, a number, or numbers in brackets."""
        return self.names.get(letter) or vector(letter)

    def adjective(self, chosen: Iterable[Letter]) -> str:
        """Say which letters these are, as in "the last input is ...": one, positive, in {1, 3}."""
        letters = self._ordered(chosen)
        if len(letters) == 1:
            if self.are_bits:
                return ("zero", "one")[int(letters[0][0])]
            return self.spell(letters[0])
        if word := self._common_word(letters):
            return word
        return f"in {{{', '.join(map(self.spell, letters))}}}"

    def plural(self, chosen: Iterable[Letter]) -> str:
        """Name these letters as things that can be counted: ones, positive inputs, 3s."""
        letters = self._ordered(chosen)
        if len(letters) == len(self.letters):
            return "inputs"
        word = self.adjective(letters)
        if len(letters) == 1:
            return f"{word}s" if self.are_bits else f"inputs {word}"
        return f"{word} inputs" if not word.startswith("in {") else f"inputs {word}"

    def singular(self, chosen: Iterable[Letter]) -> str:
        """Name one of these letters: one, positive input, input 3, input in {1, 3}."""
        letters = self._ordered(chosen)
        if len(letters) == len(self.letters):
            return "input"
        word = self.adjective(letters)
        if len(letters) == 1:
            return word if self.are_bits else f"input {word}"
        return f"{word} input" if not word.startswith("in {") else f"input {word}"

    def _ordered(self, chosen: Iterable[Letter]) -> list[Letter]:
        wanted = set(chosen)
        return [letter for letter in self.letters if letter in wanted]

    def _common_word(self, letters: Sequence[Letter]) -> str | None:
        """Return the word for all letters of one sign, where these are they."""
        if self.names or any(len(letter) != 1 for letter in self.letters):
            return None
        for word, belongs in _WORDS.items():
            if [x for x in self.letters if belongs(x[0])] == list(letters):
                return word
        return None


_WORDS: dict[str, Callable[[Exact], bool]] = {
    "positive": lambda x: x > 0,
    "negative": lambda x: x < 0,
    "non-zero": lambda x: x != 0,
    "non-negative": lambda x: x >= 0,
    "non-positive": lambda x: x <= 0,
    "even": lambda x: x % 2 == 0,
    "odd": lambda x: x % 2 == 1,
}


def make_alphabet(
    numbers: Sequence[Exact], letters: Mapping[str, Letter] | None, num_inputs: int
) -> Alphabet:
    """Return named letters, or else every combination of the numbers."""
    if letters is not None:
        return Alphabet(tuple(letters.values()), {x: name for name, x in letters.items()})
    return Alphabet(tuple(product(sorted(set(numbers)), repeat=num_inputs)))


def vector(numbers: Sequence[Number]) -> str:
    """Spell one number as it is, several in brackets."""
    texts = [shown(number) for number in numbers]
    return texts[0] if len(texts) == 1 else f"({', '.join(texts)})"


def a(noun: str) -> str:
    """Put the article before a noun."""
    return f"an {noun}" if noun[0] in "aeiou" and noun != "one" else f"a {noun}"
