"""The command lines that the documents show."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("configs/*.yaml")]
# A word that stands for another, as in `hw2 data fetch NAME`.
PLACEHOLDER = re.compile(r"\b[A-Z]{3,}\b|\.\.\.|…|\[")


def command_lines(page: Path) -> set[str]:
    """Return a page's ``hw2 ...`` lines: of code blocks, in back quotes, of a YAML's comments."""
    text = page.read_text().replace("\\\n", " ")
    blocks = "\n".join(re.findall(r"^```[^\n]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    shown = text if page.suffix == ".yaml" else blocks
    lines = re.findall(r"^(?:\$ |#? *(?:Command: )?)(hw2 [^\n]+)", shown, re.MULTILINE)
    inline = re.findall(r"`(hw2 [^`\n]+)`", text)
    found = {re.split(r":(?:\s|$)|\s+#|\s\s+|[|>&;]|\s*$", line)[0] for line in [*lines, *inline]}
    return {line for line in found if not PLACEHOLDER.search(line)}


# Each with the page that shows it.
SHOWN = sorted(
    {
        (line, str(page.relative_to(ROOT)))
        for page in PAGES
        for line in command_lines(page)
        # The guide's own example is no command.
        if "coin" not in line
    }
)
