"""Formulas that the author wrote, spelled as pandoc reads them: a notebook reads more spellings."""

import re

# Left to right, what a formula does not begin in, then what pandoc does not take for one.
_PIECE = re.compile(
    r"""
    ^[ ]{0,3}(?P<fence>`{3,}|~{3,})[^\n]*\n(?:.*?^[ ]{0,3}(?P=fence)|.*)   # a block of code
    | (?P<ticks>`+)(?!`).+?(?<!`)(?P=ticks)(?!`)                           # code within a line
    | \\\\\[(?:[^\n]|\n(?!\s*\n))+?\\\\\] | \\\\\((?:[^\n]|\n(?!\s*\n))+?\\\\\)  # as pandoc has it
    | \\[\\$`]
    | \$\$.+?\$\$
    | \$(?![\s$])(?:[^$\n]|\n(?!\s*\n))+?(?<![\s\\])\$(?!\d)               # as pandoc has it
    | (?<!\w)\$(?P<spaced>(?:[^$\n]|\n(?!\s*\n))+)\$(?!\w)
    | (?P<bare>\\begin\{(?P<name>[a-zA-Z]+\*?)\}.+?\\end\{(?P=name)\})
    """,
    re.VERBOSE | re.DOTALL | re.MULTILINE,
)


def with_formulas_of_a_notebook(text: str) -> str:
    """Spell ``$ x $`` as ``$x$``, and set an environment without dollars as a formula."""

    def spelled(match: re.Match[str]) -> str:
        if match["bare"]:
            return f"$${match['bare']}$$"
        if match["spaced"] and match["spaced"].strip():
            return f"${match['spaced'].strip()}$"
        return match[0]

    return _PIECE.sub(spelled, text)
