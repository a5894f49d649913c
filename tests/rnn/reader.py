"""Reads what is printed of a network, and evaluates it to the letter.

It shares no code with what it reads. A sentence becomes a function from a sequence (tuples of
numbers) to the value of y_T, a closed-form line a function to the value on its left. A sentence
that it cannot read is an error.
"""

import re
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

Sequence_ = Sequence[tuple[Any, ...]]
Evaluated = Callable[[Sequence_], Any]


class UnreadableError(Exception):
    """A sentence that is in no known form."""


def number(text: str) -> Any:
    """Read a printed number; a rounded one becomes a float."""
    if text.startswith("≈") or "." in text:
        return float(text.removeprefix("≈"))
    return Fraction(text)


def shown_output(text: str) -> Any:
    """Read an output: of a smooth unit "above 0.5" is its class 1, and "below 0.5" its class 0."""
    side, _, tie = text.rpartition(" ")
    if not side:
        return number(text)
    return {"above 0.5": 1, "below 0.5": 0, "above 0": 1, "below 0": -1}[f"{side} {tie}"]


# How an output is printed.
_OUTPUT = r"(?:above |below )?≈?-?[\d./]+(?:e[+-]\d+)?"


# --------------------------------------------------------------------------------------
# Formulas


def formula(text: str) -> Evaluated:
    """Read a formula of x_t, T and t such as ``2·Σ_{t=1..T} (-1)^(T - t)·x_t - 3``."""
    body, _, where = text.partition(", where ")
    rules = [
        rule for rule in where.split("; ") if rule and not re.fullmatch(r".* = 0 for t < 1", rule)
    ]
    has_zeros = bool(re.search(r" = 0 for t < 1", where))

    def evaluate(xs: Sequence_) -> Any:
        T = len(xs)

        def x(t: int, d: int = 1) -> Any:
            if t < 1:
                assert has_zeros, f"what is x_{t}? {text}"
                return Fraction(0)
            return Fraction(xs[t - 1][d - 1])

        names: dict[str, Any] = {"T": T, "x": x, "F": Fraction, "max": max}
        for rule in rules:
            _define(rule, T, names)
        names["__builtins__"] = {"sum": sum, "range": range, "int": int}
        return eval(_python(body), names)

    return evaluate


def _define(rule: str, T: int, names: dict[str, Any]) -> None:
    """Read ``g_0 = 1, g_1 = 1, g_k = g_{k-1} + g_{k-2}``."""
    values: dict[int, Any] = {}
    *given, general = rule.split(", ")
    symbol = None
    for each in given:
        match = re.fullmatch(r"(\w(?:\[\d+\])?)_(\d+) = (.+)", each)
        assert match, rule
        symbol = match[1]
        values[int(match[2])] = Fraction(match[3])
    match = re.fullmatch(r"(\w(?:\[\d+\])?)_k = (.+)", general)
    assert match, rule
    symbol = match[1]
    terms = re.findall(r"([+-]?)\s*(?:([\d/]+)·)?" + re.escape(symbol) + r"_\{k-(\d+)\}", match[2])
    first = min(values, default=0)
    for k in range(first + len(values), T + first + 1):
        total = Fraction(0)
        for sign, factor, back in terms:
            total += (-1 if sign == "-" else 1) * Fraction(factor or 1) * values[k - int(back)]
        values[k] = total
    key = symbol.replace("[", "").replace("]", "")
    names[f"{key}_at"] = lambda k: values[k]


def _python(text: str) -> str:
    text = re.sub(r"\b([go])(?:\[(\d+)\])?_\{T-t\}", r"\1\2_at(T-t)", text)
    text = re.sub(r"\bo_T\b", "o_at(T)", text)
    text = re.sub(r"\[T = (\d+)\]", r"int(T == \1)", text)
    text = re.sub(
        r"\bx(?:\[(\d+)\])?_(T|t|\{T-\d+\})", lambda m: f"x({m[2].strip('{}')},{m[1] or 1})", text
    )
    text = text.replace("^", "**").replace("·", "*")
    # A sum reaches to the next + or - outside of brackets.
    out, i = "", 0
    while i < len(text):
        if text.startswith("Σ_{t=1..T} ", i):
            i += len("Σ_{t=1..T} ")
            depth, j = 0, i
            while (
                j < len(text)
                and not (depth == 0 and text.startswith((" + ", " - "), j))
                and depth >= 0
            ):
                depth += {"(": 1, ")": -1}.get(text[j], 0)
                if depth < 0:
                    break
                j += 1
            out += f"sum({text[i:j]} for t in range(1, T+1))"
            i = j
        else:
            out += text[i]
            i += 1
    return re.sub(r"(\d+)/(\d+)", r"F(\1, \2)", out)


def closed_form_line(line: str) -> tuple[str | None, str, Evaluated]:
    """Read ``h_T = ...`` or ``  for even T: z_T = ...`` as (parity, left side, function)."""
    match = re.fullmatch(r"\s*(?:for (even|odd) T: )?(h_T|h\[\d+\]_T|z_T) = (.+)", line)
    if match is None:
        raise UnreadableError(line)
    return match[1], match[2], formula(match[3])


# --------------------------------------------------------------------------------------
# Quantities and comparisons


def quantity(text: str) -> Evaluated:
    """Read a weighted sum in words."""
    if match := re.fullmatch(r"(\S+) times \((.+)\)(?: (plus|minus) (\S+))?", text):
        inner, factor = quantity(match[2]), number(match[1])
        offset = number(match[4]) * (-1 if match[3] == "minus" else 1) if match[3] else 0
        return lambda xs: factor * inner(xs) + offset
    if match := re.fullmatch(r"\((.+)\) (plus|minus) ([\d/.]+)", text):
        inner = quantity(match[1])
        offset = number(match[3]) * (-1 if match[2] == "minus" else 1)
        return lambda xs: inner(xs) + offset
    if match := re.fullmatch(r"the sum of (\(?[\d/]+\)?)\^\(T - t\)·x_t over t = 1\.\.T", text):
        base = Fraction(match[1].strip("()"))
        return lambda xs: sum(base ** (len(xs) - t) * x for t, (x,) in enumerate(xs, 1))
    if match := re.fullmatch(r"x_\{T-(\d+)\} \(0 for T < (\d+)\)", text):
        k = int(match[1])
        assert int(match[2]) == k + 1
        return lambda xs: xs[len(xs) - k - 1][0] if len(xs) > k else 0
    if match := re.fullmatch(
        r"the (\S+) number whose digits are the inputs \(the most significant first\)", text
    ):
        bases = {"binary": 2, "ternary": 3, "octal": 8, "decimal": 10, "hexadecimal": 16}
        base_ = bases.get(match[1]) or int(match[1].removeprefix("base-"))

        def digits(xs: Sequence_) -> Any:
            assert all(0 <= x < base_ and x == int(x) for (x,) in xs)
            return sum(x * base_ ** (len(xs) - t) for t, (x,) in enumerate(xs, 1))

        return digits
    known: dict[str, Evaluated] = {
        "the sum of all inputs": lambda xs: sum(x for (x,) in xs),
        "the number of ones among the inputs": lambda xs: sum(x == 1 for (x,) in xs),
        "the last input": lambda xs: xs[-1][0],
        "the last input that is not zero (0 if there is none)": lambda xs: next(
            (x for (x,) in xs[::-1] if x), 0
        ),
        "the last input minus the one before it (x_0 = 0)": lambda xs: (
            xs[-1][0] - (xs[-2][0] if len(xs) > 1 else 0)
        ),
        "(the sum of x_T, x_{T-2}, ...) minus (the sum of x_{T-1}, x_{T-3}, ...)": lambda xs: sum(
            x * (-1) ** (len(xs) - t) for t, (x,) in enumerate(xs, 1)
        ),
        "(the sum of the first inputs) minus (the sum of the second inputs)": lambda xs: sum(
            p - q for p, q in xs
        ),
        "(the number of ones) minus (half the number of inputs)": lambda xs: (
            sum(x for (x,) in xs) - Fraction(len(xs), 2)
        ),
    }
    if text not in known:
        raise UnreadableError(text)
    return known[text]


_SIDES: dict[str, Evaluated] = {
    "the sum of the inputs at even positions": lambda xs: sum(x for (x,) in xs[1::2]),
    "the sum at even positions": lambda xs: sum(x for (x,) in xs[1::2]),
    "the sum of the inputs at odd positions": lambda xs: sum(x for (x,) in xs[::2]),
    "the sum at odd positions": lambda xs: sum(x for (x,) in xs[::2]),
    "the sum of the first inputs": lambda xs: sum(p for p, _ in xs),
    "the sum of the second inputs": lambda xs: sum(q for _, q in xs),
    "the last input": lambda xs: xs[-1][0],
    "the one before it (x_0 = 0)": lambda xs: xs[-2][0] if len(xs) > 1 else 0,
}


def _side(text: str) -> Evaluated:
    """Read one side of a comparison: a sum, or "1/2 plus" a sum."""
    match = re.fullmatch(r"(?:([\d/]+) plus )?(.+)", text)
    if match is None or match[2] not in _SIDES:
        raise UnreadableError(text)
    more, sum_ = Fraction(match[1] or 0), _SIDES[match[2]]
    return lambda xs: more + sum_(xs)


def _compared(clauses: Sequence[str]) -> Evaluated | None:
    """Read three clauses of which the second and the third refer to the first one."""
    first, *others = clauses
    if first == "more than half of the inputs are ones":
        assert others == ["fewer than half are", "exactly half are"]
        return lambda xs: sum(x == 1 for (x,) in xs) * 2 - len(xs)
    if match := re.fullmatch(r"(.+) exceeds (.+)", first):
        assert others == ["it is smaller", "they are equal"]
        left, right = map(_side, match.groups())
        return lambda xs: left(xs) - right(xs)
    return None


def inputs(text: str) -> Callable[[Sequence_], bool]:
    """Read for which inputs a sentence holds."""
    if text == "integer inputs":
        return lambda xs: all(x == int(x) for letter in xs for x in letter)
    if match := re.fullmatch(r"inputs that are digits from 0 to (\d+)", text):
        largest = int(match[1])
        return lambda xs: all(x in range(largest + 1) for letter in xs for x in letter)
    if text == "inputs of 0 and 1":
        return lambda xs: all(x in (0, 1) for letter in xs for x in letter)
    if match := re.fullmatch(r"inputs that are whole multiples of ([\d/]+)", text):
        step = Fraction(match[1])
        return lambda xs: all(Fraction(x / step).denominator == 1 for letter in xs for x in letter)
    if text == "inputs of this alphabet":
        return lambda xs: True
    raise UnreadableError(text)


# --------------------------------------------------------------------------------------
# Steps of a proof

Claim = Callable[[Sequence_, Any, Any], bool]
"""Whether a step holds of a sequence, with h_T of the first unit and z_T."""


def _sign(number_: Any) -> int:
    return (number_ > 0) - (number_ < 0)


def _by_parity(even: Claim, odd: Claim) -> Claim:
    return lambda xs, h, z: (odd if len(xs) % 2 else even)(xs, h, z)


def _value_of(text: str) -> Callable[[Sequence_, Any], Any]:
    if text == "h_T":
        return lambda xs, h: h
    if text == "this sum":
        text = "(the sum of x_T, x_{T-2}, ...) minus (the sum of x_{T-1}, x_{T-3}, ...)"
    value = quantity(text)
    return lambda xs, h: value(xs)


def _equals(value: Evaluated) -> Claim:
    return lambda xs, h, z: z == value(xs)


def _exactly_when(text: str) -> Claim:
    match = re.fullmatch(
        r"z_T ([<>]) 0 exactly when (.+), and z_T ([<>]) 0 exactly when (.+)", text
    )
    assert match, text
    assert match[1] != match[3], text
    direction = 1 if match[1] == ">" else -1
    difference = None
    if match[4] == "it is smaller":
        difference = _compared([match[2], match[4], "they are equal"])
    elif both := re.fullmatch(
        r"(.+) is greater than (\S+), \1 is less than \2", f"{match[2]}, {match[4]}"
    ):
        value, bound = quantity(both[1]), number(both[2])
        difference = lambda xs: value(xs) - bound  # noqa: E731
    assert difference is not None, text
    return lambda xs, h, z: _sign(z) == direction * _sign(difference(xs))


def claims(step: str) -> list[Claim]:
    """Read what a step of the proof of a linear network says of z_T."""
    pairs: list[tuple[str, Callable[[str], Claim]]] = [
        (r"So z_T = (.+?)\.(?: For even T, z_T = (.+)\. For odd T, z_T = (.+)\.)?",
         lambda text: _equals(formula(text))),
        (r"That is (.+?)(?:\.|, and \S+ is (?:positive|negative)\.)(?: So .+)?",
         lambda text: _equals(quantity(text))),
        (r"()For even T, that is (.+)\. For odd T, that is (.+)\.",
         lambda text: _equals(quantity(text))),
        (r"So (z_T [<>] .+)\.", _exactly_when),
        (r"()So for even T, (z_T [<>] .+)\. For odd T, (z_T .+)\.", _exactly_when),
    ]  # fmt: skip
    found: list[Claim] = []
    for pattern, read in pairs:
        if match := re.fullmatch(pattern, step):
            if match[1]:
                found.append(read(match[1]))
            if len(match.groups()) == 3 and match[2]:
                found.append(_by_parity(read(match[2]), read(match[3])))
    if match := re.search(r"So z_T has the sign of (.+)\.$", step):
        value = _value_of(match[1])
        found.append(lambda xs, h, z: _sign(z) == _sign(value(xs, h)))
    pattern = r"So z_T is positive where (.+) is negative, and negative where \1 is positive\.$"
    if match := re.search(pattern, step):
        opposite = _value_of(match[1])
        found.append(lambda xs, h, z: _sign(z) == -_sign(opposite(xs, h)))
    return found


# --------------------------------------------------------------------------------------
# Letters and clauses of finite memories


class Reader:
    """Reads the statements about networks over one alphabet."""

    def __init__(self, letters: Sequence_, names: dict[str, tuple[Any, ...]] | None = None):
        self.letters = [tuple(letter) for letter in letters]
        self.names = names or {}

    def which(self, text: str) -> set[tuple[Any, ...]]:
        """Read an adjective: one, positive, in {1, 3}, (0, 1)."""
        if text in self.names:
            return {self.names[text]}
        if text in ("zero", "one"):
            return {(("zero", "one").index(text),)}
        signs: dict[str, Callable[[Any], bool]] = {
            "positive": lambda x: x > 0,
            "negative": lambda x: x < 0,
            "non-zero": lambda x: x != 0,
            "non-negative": lambda x: x >= 0,
            "non-positive": lambda x: x <= 0,
            "even": lambda x: x % 2 == 0,
            "odd": lambda x: x % 2 == 1,
        }
        if text in signs:
            return {letter for letter in self.letters if signs[text](letter[0])}
        if match := re.fullmatch(r"in \{(.+)\}", text):
            parts = re.findall(r"\([^)]*\)|[^,\s]+", match[1])
            return set().union(*map(self.which, parts))
        if match := re.fullmatch(r"\((.+)\)", text):
            return {tuple(map(Fraction, match[1].split(", ")))}
        return {(Fraction(text),)}

    def noun(self, text: str) -> set[tuple[Any, ...]]:
        """Read what is counted or comes: ones, positive inputs, inputs 3, input in {1, 3}."""
        text = re.sub(r"^(a|an) ", "", text)
        if text in ("inputs", "input"):
            return set(self.letters)
        if text in ("one", "ones", "zero", "zeros"):
            return self.which(text.rstrip("s"))
        if match := re.fullmatch(r"inputs? (.+)", text):
            return self.which(match[1])
        if match := re.fullmatch(r"(\S+) inputs?", text):
            return self.which(match[1])
        raise UnreadableError(text)

    def condition(self, text: str, padding: Any = None) -> Callable[[Sequence_], bool]:
        """Read one clause, or clauses joined by and, or when, or."""
        if " or when " in text:
            parts = [self.condition(part, padding) for part in text.split(" or when ")]
            return lambda xs: any(part(xs) for part in parts)
        if text.startswith("not (") and text.endswith(")"):
            inner = self.condition(text[5:-1], padding)
            return lambda xs: not inner(xs)
        for word, gather in ((" and ", all), (" or ", any)):
            pieces = _split_outside_brackets(text, word)
            if len(pieces) > 1:
                try:
                    both = [self.condition(_unbracketed(piece), padding) for piece in pieces]
                except UnreadableError:
                    continue
                return lambda xs, both=both, gather=gather: gather(part(xs) for part in both)  # type: ignore[misc]
        return self._clause(text, padding)

    def _clause(self, text: str, padding: Any) -> Callable[[Sequence_], bool]:
        if match := re.fullmatch(r"(.+) is (positive|negative|zero)", text):
            try:
                value = quantity(match[1])
            except UnreadableError:
                pass
            else:
                sign = {"positive": 1, "negative": -1, "zero": 0}[match[2]]
                return lambda xs: (value(xs) > 0) - (value(xs) < 0) == sign
        if match := re.fullmatch(r"(.+) is (greater than|less than|equal to) (\S+)", text):
            value, bound = quantity(match[1]), number(match[3])
            sign = {"greater than": 1, "less than": -1, "equal to": 0}[match[2]]
            return lambda xs: (value(xs) > bound) - (value(xs) < bound) == sign
        if match := re.fullmatch(r"(.+) leaves remainder (.+) when divided by (\d+)", text):
            total, m = self.count(match[1]), int(match[3])
            remainders = {int(r) for r in match[2].split(" or ")}
            return lambda xs: total(xs) % m in remainders
        if match := re.fullmatch(r"(the (?:number|sum) of .+) is (odd|even)", text):
            total, odd = self.count(match[1]), match[2] == "odd"
            return lambda xs: total(xs) % 2 == odd
        if match := re.fullmatch(r"(the number of .+) is (at least |at most |)(\d+)", text):
            total, n = self.count(match[1]), int(match[3])
            return {
                "at least ": lambda xs: total(xs) >= n,
                "at most ": lambda xs: total(xs) <= n,
                "": lambda xs: total(xs) == n,
            }[match[2]]
        if match := re.fullmatch(r"(the number of .+) is from (\d+) to (\d+)", text):
            total, low, high = self.count(match[1]), int(match[2]), int(match[3])
            return lambda xs: low <= total(xs) <= high
        if match := re.fullmatch(r"(an? .+) has come", text):
            chosen = self.noun(match[1])
            return lambda xs: any(tuple(x) in chosen for x in xs)
        if match := re.fullmatch(r"(?:no|not a single) (.+) has come", text):
            assert text != "no one has come", "nobody?"
            chosen = self.noun(match[1])
            return lambda xs: not any(tuple(x) in chosen for x in xs)
        if match := re.fullmatch(r"there has been (.+)", text):
            events = [self.noun(each) for each in match[1].split(", later ")]

            def in_order(xs: Sequence_) -> bool:
                k = 0
                for x in xs:
                    if k < len(events) and tuple(x) in events[k]:
                        k += 1
                return k == len(events)

            return in_order
        if match := re.fullmatch(r"the inputs (.+) have (not )?come in a row", text):
            word = [self.which(w) for w in re.findall(r"in \{[^}]*\}|\([^)]*\)|[^,\s]+", match[1])]
            wanted = match[2] is None

            def come(xs: Sequence_) -> bool:
                return any(
                    all(tuple(xs[i + j]) in word[j] for j in range(len(word)))
                    for i in range(len(xs) - len(word) + 1)
                )

            return lambda xs: come(xs) == wanted
        if match := re.fullmatch(r"the (first|last) input is (.+)", text):
            place, chosen = (0 if match[1] == "first" else -1), self.which(match[2])
            return lambda xs: tuple(xs[place]) in chosen
        if match := re.fullmatch(r"the (largest|smallest) input so far is (.+)", text):
            pick, chosen = (max if match[1] == "largest" else min), self.which(match[2])
            return lambda xs: (pick(x for (x,) in xs),) in chosen
        if match := re.fullmatch(r"the last (.*input.*) is (.+)", text):
            deciding, chosen = self.noun(match[1]), self.which(match[2])
            return lambda xs: next(
                (tuple(x) in chosen for x in xs[::-1] if tuple(x) in deciding), False
            )
        if match := re.fullmatch(r"x_(?:T|\{T-(\d+)\}) is (.+)", text):
            back, chosen = int(match[1] or 0), self.which(match[2])

            def at(xs: Sequence_) -> bool:
                t = len(xs) - back
                if t < 1:
                    assert padding is not None, text
                return (tuple(xs[t - 1]) if t >= 1 else padding) in chosen

            return at
        if match := re.fullmatch(
            r"digit T of the sum of the two binary numbers "
            r"\(least significant digits first\) is (.)",
            text,
        ):
            digit = int(match[1])
            return lambda xs: (
                (sum((int(p) + int(q)) << t for t, (p, q) in enumerate(xs)) >> (len(xs) - 1) & 1)
                == digit
            )
        if text == "the two streams have been equal so far":
            return lambda xs: all(p == q for p, q in xs)
        if text == "the two streams have differed at some step":
            return lambda xs: any(p != q for p, q in xs)
        if text == "z_T > 0 or z_T < 0":
            raise UnreadableError(text)
        raise UnreadableError(text)

    def count(self, text: str) -> Evaluated:
        """Read a sum of counts: the number of ones plus 2 times the number of inputs 2."""
        terms = []
        for part in text.split(" plus "):
            match = re.fullmatch(
                r"(?:(\d+) times )?(?:the number of (.+)|the sum of all inputs)", part
            )
            if match is None:
                raise UnreadableError(text)
            terms.append((int(match[1] or 1), None if match[2] is None else self.noun(match[2])))
        return lambda xs: sum(
            factor * (x[0] if chosen is None else tuple(x) in chosen)
            for x in xs
            for factor, chosen in terms
        )

    # ----------------------------------------------------------------------------------
    # Statements

    def statement(self, text: str) -> Evaluated | None:
        """Read a whole statement; None where it refers to the machine's table."""
        if text.startswith("No words were found for this property: the table of its "):
            return None
        limited = r"(?: and ([^:]+?))?"
        if match := re.fullmatch(
            rf"For even T{limited}, (y_T .+?\.) For odd T{limited}, (y_T .+\.)", text
        ):
            assert match[1] == match[3], text
            even, odd = (self._limited(match[1], match[k]) for k in (2, 4))
            return lambda xs: (odd if len(xs) % 2 else even)(xs)
        if match := re.fullmatch(rf"For T = ([\d,]+) \((even|odd)\){limited}: (y_T [^\n]+)", text):
            T, said = int(match[1].replace(",", "")), self._limited(match[3], match[4])
            assert match[2] == ("odd" if T % 2 else "even")

            def here(xs: Sequence_) -> Any:
                assert len(xs) == T, text
                return said(xs)

            return here
        if match := re.fullmatch(rf"For (even|odd) T{limited}: (y_T [^\n]+)", text):
            remainder = ("even", "odd").index(match[1])
            said_too = self._limited(match[2], match[3])

            def elsewhere(xs: Sequence_) -> Any:
                assert len(xs) % 2 == remainder, text
                return said_too(xs)

            return elsewhere
        if match := re.fullmatch(r"For ((?:integer )?inputs[^:]*?), (y_T .+\.)", text):
            return self._limited(match[1], match[2])
        return self._one(text)

    def _limited(self, limit: str | None, text: str) -> Evaluated:
        """Read a sentence that holds for some inputs only."""
        said = self._one(text)
        if limit is None:
            return said
        fits = inputs(limit)

        def evaluate(xs: Sequence_) -> Any:
            assert fits(xs), (limit, xs)
            return said(xs)

        return evaluate

    def _one(self, text: str) -> Evaluated:
        padding = None
        if match := re.fullmatch(r"(.+\.) Here x_t counts as (.+) for t < 1\.", text):
            text = match[1]
            (padding,) = self.which(match[2])
        if not text.endswith("."):
            raise UnreadableError(text)
        body = text[:-1]
        if match := re.fullmatch(rf"y_T is ({_OUTPUT}) whatever the inputs are", body):
            value = shown_output(match[1])
            return lambda xs: value
        if match := re.fullmatch(r"y_T = max\(0, (.+?)\)(, where .+)?", body):
            inner = formula(match[1] + (match[2] or ""))
            return lambda xs: max(0, inner(xs))
        if match := re.fullmatch(r"y_T = (.+)", body):
            return formula(match[1])
        if match := re.fullmatch(r"y_T is the larger of 0 and (.+)", body):
            inner = quantity(match[1])
            return lambda xs: max(0, inner(xs))
        if match := re.fullmatch(
            rf"y_T is ({_OUTPUT}) when z_T > 0, ({_OUTPUT}) when z_T < 0, "
            rf"({_OUTPUT}) when z_T = 0, and z_T = (.+)",
            body,
        ):
            high, low, tie = map(shown_output, match.groups()[:3])
            z = formula(match[4])
            return lambda xs: high if z(xs) > 0 else low if z(xs) < 0 else tie
        if re.search(rf"^y_T is {_OUTPUT} when ", body):
            return self._cases(body.removeprefix("y_T is "), padding)
        if match := re.fullmatch(r"y_T is (.+)", body):
            return quantity(match[1])
        raise UnreadableError(text)

    def _cases(self, text: str, padding: Any) -> Evaluated:
        pieces = re.split(rf"(?:^|, )({_OUTPUT}) (?=when |otherwise)", text)[1:]
        values = [shown_output(piece) for piece in pieces[::2]]
        clauses = [piece.removeprefix("when ") for piece in pieces[1::2]]
        difference = _compared(clauses)
        if difference is not None:
            high, low, tie = values
            return lambda xs: high if difference(xs) > 0 else low if difference(xs) < 0 else tie
        conditions = [
            None if clause == "otherwise" else self.condition(clause, padding) for clause in clauses
        ]

        def evaluate(xs: Sequence_) -> Any:
            true = [v for v, c in zip(values, conditions, strict=True) if c is not None and c(xs)]
            if not true and None in conditions:
                true = [values[conditions.index(None)]]
            assert len(true) == 1, f"{len(true)} cases hold of {xs}: {text}"
            return true[0]

        return evaluate


def _split_outside_brackets(text: str, word: str) -> list[str]:
    pieces, depth, start = [], 0, 0
    for i, character in enumerate(text):
        depth += {"(": 1, "{": 1, ")": -1, "}": -1}.get(character, 0)
        if depth == 0 and text.startswith(word, i) and i >= start:
            pieces.append(text[start:i])
            start = i + len(word)
    return [*pieces, text[start:]]


def _unbracketed(text: str) -> str:
    """Take brackets away that enclose the whole text."""
    if not text.startswith("("):
        return text
    depth = 0
    for i, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if depth == 0:
            return text[1:-1] if i == len(text) - 1 else text
    return text
