"""Regular expressions over letters, turned into machines by derivatives (Brzozowski 1964).

The derivative of an expression by a letter matches what may follow that letter. Kept in a normal
form, an expression has finitely many derivatives: they are the states of its machine.

Syntax: letters as they are spelled (``1``, ``-3``, ``a``; pairs of bits as ``01``), ``.`` for any,
``[ab]`` and ``[^ab]`` for sets, ``( | )``, ``*``, ``+``, ``?``, ``{3}``, ``{2,4}``, ``{2,}``.
"""

import re
from typing import Any

from hwcli.rnn.letters import Alphabet
from hwcli.rnn.network import Letter

Expression = tuple[Any, ...]
NOTHING: Expression = ("nothing",)
EMPTY: Expression = ("empty",)
MAX_REPEATS = 50


class RegexError(ValueError):
    """The text is no regular expression over the letters."""


def nullable(expression: Expression) -> bool:
    """Tell whether an expression matches the empty sequence."""
    match expression:
        case ("empty",) | ("star", _):
            return True
        case ("then", first, second):
            return nullable(first) and nullable(second)
        case ("or", parts):
            return any(map(nullable, parts))
    return False


def derivative(expression: Expression, letter: Letter) -> Expression:
    """Return what may follow a letter."""
    match expression:
        case ("letter", letters):
            return EMPTY if letter in letters else NOTHING
        case ("star", inner):
            return _then(derivative(inner, letter), expression)
        case ("or", parts):
            return _or(*(derivative(part, letter) for part in parts))
        case ("then", first, second):
            after = _then(derivative(first, letter), second)
            return _or(after, derivative(second, letter)) if nullable(first) else after
    return NOTHING


def _then(first: Expression, second: Expression) -> Expression:
    if NOTHING in (first, second):
        return NOTHING
    if first == EMPTY:
        return second
    if second == EMPTY:
        return first
    if first[0] == "then":  # lean to the right: one form for each sequence
        return _then(first[1], _then(first[2], second))
    return ("then", first, second)


def _or(*parts: Expression) -> Expression:
    flat: set[Expression] = set()
    for part in parts:
        flat |= part[1] if part[0] == "or" else {part}
    flat.discard(NOTHING)
    if not flat:
        return NOTHING
    return next(iter(flat)) if len(flat) == 1 else ("or", frozenset(flat))


def _star(inner: Expression) -> Expression:
    return EMPTY if inner in (NOTHING, EMPTY) else inner if inner[0] == "star" else ("star", inner)


def parse(text: str, alphabet: Alphabet) -> Expression:
    """Read an expression.

    Raises:
        RegexError: one line that says what is wrong.
    """
    return _Parser(text, alphabet).whole()


class _Parser:
    def __init__(self, text: str, alphabet: Alphabet):
        self.alphabet = alphabet
        spelled = {alphabet.spell(letter): letter for letter in alphabet.letters}
        if alphabet.are_bit_pairs and not alphabet.names:
            spelled = {"".join(map(str, letter)): letter for letter in alphabet.letters}
        self.spelled = spelled
        names = "|".join(map(re.escape, sorted(spelled, key=len, reverse=True)))
        self.tokens: list[str] = re.findall(rf"{names}|\{{[^}}]*\}}|\S", text)
        self.place = 0

    def whole(self) -> Expression:
        found = self.choice()
        if self.place < len(self.tokens):
            raise RegexError(f"{self.tokens[self.place]!r} is not expected there")
        return found

    def peek(self) -> str:
        return self.tokens[self.place] if self.place < len(self.tokens) else ""

    def take(self) -> str:
        self.place += 1
        return self.tokens[self.place - 1]

    def choice(self) -> Expression:
        parts = [self.sequence()]
        while self.peek() == "|":
            self.take()
            parts.append(self.sequence())
        return _or(*parts)

    def sequence(self) -> Expression:
        found = EMPTY
        while self.peek() not in ("", "|", ")"):
            found = _then(found, self.repeated())
        return found

    def repeated(self) -> Expression:
        found = self.single()
        while (sign := self.peek()) in ("*", "+", "?") or sign.startswith("{"):
            self.take()
            if sign == "*":
                found = _star(found)
            elif sign == "+":
                found = _then(found, _star(found))
            elif sign == "?":
                found = _or(EMPTY, found)
            else:
                found = self.times(found, sign)
        return found

    def times(self, inner: Expression, sign: str) -> Expression:
        match = re.fullmatch(r"\{(\d+)(,?)(\d*)\}", sign)
        if match is None or int(match[1]) > MAX_REPEATS or int(match[3] or 0) > MAX_REPEATS:
            raise RegexError(f"{sign} is no number of repetitions up to {MAX_REPEATS}")
        found = EMPTY
        for _ in range(int(match[1])):
            found = _then(found, inner)
        if match[2] and not match[3]:
            return _then(found, _star(inner))
        for _ in range(int(match[3] or match[1]) - int(match[1])):
            found = _or(found, _then(found, inner))
        return found

    def single(self) -> Expression:
        token = self.take()
        if token in self.spelled:
            return ("letter", frozenset({self.spelled[token]}))
        if token == ".":
            return ("letter", frozenset(self.alphabet.letters))
        if token == "(":
            found = self.choice()
            if self.peek() != ")":
                raise RegexError("a bracket is not closed")
            self.take()
            return found
        if token == "[":
            return self.set_of_letters()
        known = ", ".join(list(self.spelled)[:12])
        raise RegexError(f"{token!r} is no letter; the letters are {known}")

    def set_of_letters(self) -> Expression:
        negated = self.peek() == "^"
        if negated:
            self.take()
        chosen = set()
        while self.peek() not in ("]", ""):
            token = self.take()
            if token == ",":
                continue
            if token not in self.spelled:
                raise RegexError(f"{token!r} in a set is no letter")
            chosen.add(self.spelled[token])
        if self.peek() != "]":
            raise RegexError("a set is not closed")
        self.take()
        return ("letter", frozenset(set(self.alphabet.letters) - chosen if negated else chosen))
