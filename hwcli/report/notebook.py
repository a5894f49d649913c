"""The notebook: the sections' cells, merged with what the author wrote, all of it executed."""

import asyncio
import atexit
import json
import os
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode, reader, v4
from nbformat.validator import isvalid

from hwcli.errors import HwError, OutputError, first_line
from hwcli.output.units import duration
from hwcli.report import attention, front_and_back_matter, pdf, recurrences, sentiment, vision
from hwcli.report.cells import Cell
from hwcli.report.merge import (
    KEY,
    Merged,
    deleted_ids,
    hand_on,
    is_entry,
    kept_digests,
    merge,
    names_of,
)
from hwcli.report.runs import Run, Runs

# One cell imports torch on a cold disk; none takes longer than that.
CELL_TIMEOUT_S = 300

TITLE = "Deep Learning, Homework 2"


@dataclass(frozen=True)
class Author:
    """What the author declared: kept in the notebook's metadata from build to build.

    Attributes:
        name: below the title.
        acknowledged: collaborators and tools, a sentence each.
        title: of the hand-in.
        paper: that the PDF is set for.
    """

    name: str = ""
    acknowledged: tuple[str, ...] = ()
    title: str = TITLE
    paper: str = pdf.A4

    @classmethod
    def of(cls, notebook: NotebookNode | None) -> "Author":
        """Return what an earlier notebook holds."""
        kept = {} if notebook is None else notebook.metadata.get(KEY, {}).get("author", {})
        if not isinstance(kept, Mapping):  # edited by hand, as the texts below may be
            return cls()

        def text(key: str, otherwise: str) -> str:
            value = kept.get(key)
            return value if isinstance(value, str) else otherwise

        acknowledged = kept.get("acknowledged", ())
        is_list = isinstance(acknowledged, Sequence) and not isinstance(acknowledged, str)
        return cls(
            text("name", ""),
            tuple(map(str, acknowledged)) if is_list else (),
            text("title", TITLE),
            paper if (paper := text("paper", pdf.A4)) in pdf.PAPERS else pdf.A4,
        )

    def with_declared(
        self,
        name: str | None,
        acknowledged: Sequence[str],
        title: str | None,
        paper: str | None = None,
    ) -> "Author":
        """Return the same with what is given now.

        Acknowledgements are added to those of before, which an empty one removes; an empty name or
        title goes back to none and to the usual one.
        """
        kept = self.acknowledged if all(acknowledged) else ()
        added = dict.fromkeys(text for text in acknowledged if text and text not in kept)
        return Author(
            self.name if name is None else name,
            (*kept, *added),
            self.title if title is None else title or TITLE,
            paper or self.paper,
        )


def used_runs(runs: Runs) -> list[Run]:
    """Return the runs that the report shows, in the order of the questions."""
    chosen = [
        recurrences.choose(runs),
        *attention.choose(runs),
        *vision.used(runs),
        *sentiment.choose(runs),
    ]
    return [run for run in chosen if run is not None]


def not_shown(runs: Runs) -> dict[str, str]:
    """Name the author's finished runs of the questions that show none of them, and say why."""
    used = used_runs(runs)
    causal = runs.not_shown(attention.COMMAND, used)
    return {run.id: "it measured causal attention" for run in causal} | vision.not_shown(runs)


# Of each question, the command whose runs answer it and what makes one.
QUESTIONS = {
    1: (recurrences.COMMAND, "hw2 rnn-trace"),
    2: (attention.COMMAND, "hw2 attention-bench"),
    3: (vision.COMMAND, "hw2 vit-sweep --layers 4..8 --heads 2..4"),
    4: (sentiment.COMMAND, "hw2 sentiment-train --preset homework"),
}


def what_is_shown(runs: Runs) -> list[str]:
    """Say which questions have no run, and which of the author's runs give way to another one."""
    used, named = used_runs(runs), not_shown(runs)
    lines = []
    for number, (command, makes_one) in QUESTIONS.items():
        shown = [run for run in used if run.command == command]
        if not shown:
            lines.append(f"question {number} has no run to show; to make one: {makes_one}")
        own = [run for run in runs.whole.values() if run.command == command and run.is_the_users]
        others = [run.name for run in own if run not in shown and run.id not in named]
        if shown and others:
            lines.append(
                f"question {number} shows {', '.join(run.name for run in shown)}, "
                f"not {', '.join(others)}"
            )
    return lines


def all_cells(runs: Runs, folders: dict[str, str], author: Author) -> list[Cell]:
    """Return every generated cell: title, the four questions in their order, and the appendix.

    Args:
        runs: to show.
        folders: of the runs and of the reference runs, as seen from the notebook.
        author: what the author declared.
    """
    used = used_runs(runs)
    return [
        *front_and_back_matter.opening(used, folders, author.title, author.name),
        *recurrences.section(runs),
        *attention.section(runs),
        *vision.section(runs),
        *sentiment.section(runs),
        *front_and_back_matter.closing(used, not_shown(runs), author.acknowledged),
    ]


# Of an id of a cell, by the format.
CELL_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")


def read(path: Path) -> NotebookNode | None:
    """Read an earlier notebook without its outputs; None where there is none.

    What the format does not allow a cell to have is left out, if it holds nothing of the author's.
    The notebook's own metadata is not checked: other programs write it, and it is made anew.

    Raises:
        OutputError: it cannot be read, and may hold the author's words.
    """
    if not path.exists():
        return None
    try:
        # The reader of the library prints what is wrong, and goes on.
        notebook: NotebookNode = nbformat.convert(reader.reads(path.read_text("utf-8")), 4)
        if not isinstance(notebook.get("metadata"), dict):
            notebook.metadata = NotebookNode()
        if not isinstance(notebook.metadata.get(KEY, {}), dict):
            del notebook.metadata[KEY]
        notebook.cells = [_repaired(k, cell) for k, cell in enumerate(notebook.cells, start=1)]
        json.dumps(notebook, ensure_ascii=False).encode()  # JSON can spell half of a character
    except Exception as error:  # whatever nbformat meets in a damaged file
        # Other errors than these speak of nbformat's own code.
        reason = f" ({first_line(error)})" if isinstance(error, ValueError) else ""
        raise OutputError(
            f"{path}: not a readable notebook{reason}, but it may hold your words; repair it or "
            "move it"
        ) from None
    return notebook


def _repaired(number: int, cell: NotebookNode) -> NotebookNode:
    """Return a cell with what its type may have; an id that it cannot have is left out.

    Raises:
        ValueError: it may hold words, and cannot be read.
    """
    kept: dict[str, Any] = {"cell_type": cell.cell_type, "metadata": {}, "source": cell.source}
    if cell.cell_type == "code":
        kept |= {"outputs": [], "execution_count": None}
    elif "attachments" in cell:
        kept["attachments"] = cell.attachments
    # As of version 4.4: since 4.5 a cell must have an id, which it gets when it is assembled.
    try:
        nbformat.validate(kept, ref="cell", version=4, version_minor=4)
    except nbformat.ValidationError as error:
        where = ".".join(map(str, error.relative_path)) or "cell_type"
        raise ValueError(f"cell {number} has no usable {where!r}") from None
    kept["metadata"] = {  # entry by entry: an odd one takes no other along
        key: value
        for key, value in cell.metadata.items()
        if isvalid({**kept, "metadata": {key: value}}, ref="cell", version=4, version_minor=4)
    }
    if not is_entry(kept["metadata"].get(KEY)):
        kept["metadata"].pop(KEY, None)
    id_ = cell.get("id")
    if isinstance(id_, str) and CELL_ID.fullmatch(id_):
        kept["id"] = id_
    return NotebookNode(kept)


def assemble(cells: Sequence[Cell], old: NotebookNode | None) -> Merged:
    """Merge generated cells with an earlier notebook; returns its cells, not executed yet."""
    merged = merge(cells, old)
    taken: set[str] = set()
    for number, node in enumerate(merged.cells):
        id_ = node.get("id")  # none in notebooks before version 4.5 of the format
        node.id = id_ if id_ and id_ not in taken else f"own-cell-{number}"
        taken.add(node.id)
    return merged


def to_notebook(merged: Merged, cells: Sequence[Cell], author: Author) -> NotebookNode:
    """Return the notebook of merged cells; its content depends on runs and author alone."""
    metadata = {
        "title": author.title,
        "authors": [{"name": author.name}] if author.name else [],
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python", "file_extension": ".py"},
        KEY: {
            "generated": kept_digests(cells),
            "author": {
                "name": author.name,
                "acknowledged": list(author.acknowledged),
                "title": author.title,
                "paper": author.paper,
            },
        },
    }
    made: NotebookNode = v4.new_notebook(cells=merged.cells, metadata=metadata)
    return made


def execute(notebook: NotebookNode, folder: Path, say: Callable[[str], None]) -> None:
    """Run every cell in a kernel of this Python, started in a folder; outputs go into the cells.

    A cell of the author's that fails, or takes too long, shows its error and stops nothing. Nor
    does a generated cell where the author changed, added or deleted code, which it may need.

    Raises:
        OutputError: a generated cell of an unchanged notebook failed, or the kernel did not start
            or died.
        KeyboardInterrupt: the user stopped it; the kernel is gone.
    """
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager
    from nbclient import NotebookClient
    from nbclient.exceptions import CellTimeoutError, DeadKernelError

    metadata = dict(notebook.metadata)
    # No folders of kernels: a kernel of this name elsewhere belongs to another Python.
    with tempfile.TemporaryDirectory() as profile:
        manager = AsyncKernelManager(
            kernel_name="python3",
            kernel_spec_manager=KernelSpecManager(kernel_dirs=[]),
            # Files instead of ports: nobody else on the machine can open them.
            transport="ipc",
            connection_file=str(Path(profile) / "kernel.json"),
        )
        client = NotebookClient(
            notebook,
            km=manager,
            timeout=CELL_TIMEOUT_S,
            interrupt_on_timeout=True,
            record_timing=False,
            allow_errors=True,
            resources={"metadata": {"path": str(folder)}},
        )
        # A profile of its own: no history, no start-up files of the user's.
        environment = {**os.environ, "IPYTHONDIR": profile, "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
        try:
            _run(client, environment)
        except (CellTimeoutError, RuntimeError) as error:
            is_dead = isinstance(error, DeadKernelError)
            raise OutputError(
                f"the notebook could not be executed: {first_line(error)}"
                + ("; does a cell of yours end Python?" if is_dead else "")
            ) from error
    notebook.metadata = nbformat.from_dict(metadata)
    code = [
        (cell, name)
        for cell, name in zip(notebook.cells, names_of(notebook), strict=True)
        if cell.cell_type == "code"
    ]
    is_as_generated = not deleted_ids(notebook) and not any(hand_on(cell) for cell, _ in code)
    for cell, name in code:
        cell.outputs = _tidy(cell.outputs, say)
        for failure in _failures(cell):
            if is_as_generated:
                raise OutputError(f"{name}: a cell of the notebook failed: {failure}")
            if hand_on(cell):
                say(f"{name}: a cell of yours failed: {failure}")
            else:
                say(
                    f"{name}: failed, maybe for want of code that you changed or deleted: {failure}"
                )


def _run(client: Any, environment: dict[str, str]) -> None:
    """Run a notebook in another thread: in the main one, the client takes Ctrl-C for itself."""
    manager = client.km  # the client lets go of it at the end
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(
            lambda: asyncio.run(client.async_execute(env=environment, cleanup_kc=True))
        )
        try:
            running.result()
        except KeyboardInterrupt:
            while not running.done():
                kernel = getattr(manager.provisioner, "process", None)
                if kernel is not None:
                    kernel.kill()
                wait([running], timeout=0.1)
            raise
        finally:
            # Where no kernel started, the client would look for it at the end of the program.
            atexit.unregister(client._cleanup_kernel)


def _failures(cell: NotebookNode) -> list[str]:
    return [
        f"stopped after {duration(CELL_TIMEOUT_S)}, which is as long as a cell may take"
        if output.ename == "KeyboardInterrupt"
        else f"{output.ename}: {output.evalue}"
        for output in cell.outputs
        if output.output_type == "error"
    ]


def _tidy(outputs: Sequence[Any], say: Callable[[str], None]) -> list[Any]:
    """Join what was printed, however it came in pieces; warnings go to whoever makes the report."""
    tidied: list[Any] = []
    for output in outputs:
        if output.output_type == "stream" and output.name == "stderr":
            for line in output.text.strip().splitlines()[-1:]:
                say(f"a cell warns: {line}")
        elif output.output_type == "stream" and tidied and tidied[-1].output_type == "stream":
            tidied[-1].text += output.text
        else:
            tidied.append(output)
    return tidied


def check_tools(modules: Sequence[str]) -> None:
    """Make sure that what the report is made with is installed.

    Raises:
        HwError: a package is missing; says how to get it.
    """
    from importlib.util import find_spec

    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        raise HwError(
            f"report needs the package {missing[0]}; run make report, which installs it, or in the "
            "checkout pip install -e '.[report]'"
        )
