"""Pictures that the author put into the notebook: pasted into a cell, or files beside it."""

import base64
import binascii
import hashlib
import io
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

from nbformat import NotebookNode
from PIL import Image, UnidentifiedImageError

_PICTURE = re.compile(r"!\[(?P<text>[^\]]*)\]\((?P<target><[^>]+>|[^)\s]+)(?P<title>[^)]*)\)")
ATTACHMENT = "attachment:"
# What a PDF and a page can both hold.
KINDS = (".png", ".jpg", ".jpeg", ".gif", ".svg", ".webp")


def with_pictures(
    text: str,
    cell: NotebookNode,
    cell_name: str,
    beside: Path,
    folder: Path,
    say: Callable[[str], None],
) -> str:
    """Copy the pictures of a cell's text into a folder, and return the text that shows them there.

    A picture that cannot be had becomes a line that names it, and a line of progress.

    Args:
        text: Markdown of the cell.
        cell: the cell, whose attachments hold what was pasted.
        cell_name: of the cell, for the line of progress.
        beside: the folder of the notebook, where other pictures are looked for.
        folder: that the document is set in.
        say: prints a line of progress.
    """

    def copied(match: re.Match[str]) -> str:
        name = unquote(match["target"].strip("<>"))
        content = _content(name, cell, beside)
        if content is None:
            say(f"{cell_name}: the picture {name} is not there, or cannot be printed")
            return f"**[the picture {_in_markdown(name)} is missing]**"
        kind = Path(name).suffix.lower()
        written = folder / f"own-{hashlib.sha256(content).hexdigest()[:16]}{kind}"
        written.write_bytes(content)
        return f"![{match['text']}]({written.name}{match['title']})"

    return _PICTURE.sub(copied, text)


def _in_markdown(name: str) -> str:
    return re.sub(r"([^\w\s./:-])|(?<!\w)_|_(?!\w)", lambda sign: f"\\{sign[0]}", name)


def _content(name: str, cell: NotebookNode, beside: Path) -> bytes | None:
    """Return a picture's bytes, if it is there and can be printed."""
    if Path(name).suffix.lower() not in KINDS or "://" in name:
        return None
    try:
        if name.startswith(ATTACHMENT):
            kept = cell.get("attachments", {}).get(name.removeprefix(ATTACHMENT), {})
            content = base64.b64decode(next(iter(kept.values()), ""))
        else:
            content = (beside / name).read_bytes()
        if not name.lower().endswith(".svg"):
            Image.open(io.BytesIO(content)).verify()
    except (OSError, SyntaxError, ValueError, binascii.Error, UnidentifiedImageError):
        return None
    return content
