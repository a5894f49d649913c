"""Pictures that the author put into the notebook: pasted into a cell, or files beside it."""

import base64
import hashlib
import io
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, unquote_to_bytes
from xml.etree import ElementTree

from nbformat import NotebookNode
from PIL import Image

from hwcli.errors import short

_TEXT = r"!\[(?P<text>(?:\\.|[^\\\[\]]|\[[^\[\]]*\])*)\]"
# A name may hold pairs of parentheses, as plot%20(1).png does.
_TARGET = r"(?P<target><[^>]+>|(?:[^()\s]|\([^()\s]*\))+(?=[)\s]|$)|[^)\s]+)"
_PICTURE = re.compile(rf"{_TEXT}\({_TARGET}(?P<title>[^)]*)\)")
_BY_LABEL = re.compile(rf"{_TEXT}(?:\[(?P<label>[^\]]*)\])?(?![\[(])")
_LABEL = re.compile(rf"^ {{0,3}}\[(?P<label>[^\]]+)\]:[ \t]*{_TARGET}", re.MULTILINE)
_TAG = re.compile(r"<img\b[^>]*>", re.IGNORECASE)
_ATTRIBUTE = re.compile(r"""\b(src|alt)\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s>]+))""", re.IGNORECASE)

ATTACHMENT, DATA = "attachment:", "data:"
# What a PDF and a page can both hold, by the content's format.
KINDS = {"PNG": ".png", "JPEG": ".jpg", "GIF": ".gif", "WEBP": ".webp"}

# A damaged SVG is a SyntaxError, one of an unknown encoding a LookupError. A scan of more than
# 178 million pixels is a DecompressionBombError.
UNREADABLE = (OSError, SyntaxError, ValueError, LookupError, Image.DecompressionBombError)


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
        found = _content(name, cell, beside)
        if found is None:
            name = short(name) if name.startswith(DATA) else name
            say(f"{cell_name}: the picture {name} is not there, or cannot be printed")
            return f"**[the picture {_in_markdown(name)} is missing]**"
        content, kind = found
        written = folder / f"own-{hashlib.sha256(content).hexdigest()[:16]}{kind}"
        written.write_bytes(content)
        return f"![{match['text']}]({written.name}{match['title']})"

    return _PICTURE.sub(copied, _spelled_inline(text))


def _spelled_inline(text: str) -> str:
    """Spell pictures by label, and by HTML, as ``![text](target)``."""
    targets = {m["label"].casefold(): m["target"].strip("<>") for m in _LABEL.finditer(text)}

    def by_label(match: re.Match[str]) -> str:
        target = targets.get((match["label"] or match["text"]).casefold())
        return match[0] if target is None else f"![{match['text']}](<{target}>)"

    def by_tag(match: re.Match[str]) -> str:
        found = _ATTRIBUTE.findall(match[0])
        values = {name.lower(): "".join(spelled) for name, *spelled in found}
        return f"![{values.get('alt', '')}](<{values['src']}>)" if values.get("src") else match[0]

    return _TAG.sub(by_tag, _BY_LABEL.sub(by_label, text))


def _in_markdown(name: str) -> str:
    return re.sub(r"([^\w\s./:-])|(?<!\w)_|_(?!\w)", lambda sign: f"\\{sign[0]}", name)


def _content(name: str, cell: NotebookNode, beside: Path) -> tuple[bytes, str] | None:
    """Return a picture's bytes and ending, if it is there and can be printed."""
    try:
        if name.startswith(DATA):
            head, _, body = name.partition(",")
            is_base64 = head.endswith(";base64")
            content = base64.b64decode(body) if is_base64 else unquote_to_bytes(body)
        elif name.startswith(ATTACHMENT):
            kept = cell.get("attachments", {}).get(name.removeprefix(ATTACHMENT), {})
            content = base64.b64decode(next(iter(kept.values()), ""))
        elif "://" in name:
            return None
        else:
            content = (beside / name).read_bytes()
        kind = _kind(content)
    except UNREADABLE:
        return None
    return None if kind is None else (content, kind)


def _kind(content: bytes) -> str | None:
    """Return the ending of a picture by what it holds, whatever its name says; None for no picture.

    Raises:
        SyntaxError, OSError: it is damaged.
    """
    if content.lstrip().startswith(b"<"):
        return ".svg" if ElementTree.fromstring(content).tag.endswith("svg") else None
    with Image.open(io.BytesIO(content)) as picture:
        picture.verify()
        return KINDS.get(picture.format or "")
