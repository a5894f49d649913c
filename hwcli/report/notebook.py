"""The notebook: the sections' cells joined, the author's own words kept, all of it executed."""

import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode, v4

from hwcli.errors import HwError, OutputError
from hwcli.report import attention, recurrences, sentiment, surroundings, vision
from hwcli.report.cells import OWN_WORDS, Cell
from hwcli.report.runs import Run, Runs

# One cell imports torch on a cold disk; none takes longer than that.
CELL_TIMEOUT_S = 300


def used_runs(runs: Runs) -> list[Run]:
    """Return the runs that the report shows, in the order of the questions."""
    chosen = [recurrences.choose(runs), *runs.of("attention-bench")]
    grid = vision.choose(runs)
    chosen += [grid, *(run for run in runs.of(vision.COMMAND) if run is not grid)]
    chosen += sentiment.choose(runs)
    return [run for run in chosen if run is not None]


def sift(runs: Runs) -> Runs:
    """Leave out the runs that the sections cannot read: something deeper in them is damaged."""
    whole, left_out = dict(runs.whole), dict(runs.left_out)
    for name, run in runs.whole.items():
        try:
            all_cells(Runs(runs.root, {name: run}), ".", [])
        except (LookupError, TypeError, ValueError, AttributeError, StopIteration) as error:
            left_out[name] = f"damaged: {type(error).__name__} {error} in what it holds"
            del whole[name]
    return Runs(runs.root, whole, left_out)


def all_cells(runs: Runs, root_from_notebook: str, acknowledged: Sequence[str]) -> list[Cell]:
    """Return every cell: the opening, the four questions in their order, and the way back."""
    used = used_runs(runs)
    return [
        *surroundings.opening(runs, root_from_notebook),
        *recurrences.section(runs),
        *attention.section(runs),
        *vision.section(runs),
        *sentiment.section(runs),
        *surroundings.acknowledgements(acknowledged, used),
        *surroundings.environment(used),
    ]


def assemble(
    cells: Sequence[Cell], *, title: str, author: str | None, kept: dict[str, str]
) -> NotebookNode:
    """Make a notebook of cells, not executed yet.

    Args:
        cells: what stands in it, below the title.
        title: its heading.
        author: below that.
        kept: the author's own words by the id of their place.
    """
    nodes = [v4.new_markdown_cell(f"**{title}**" + (f"\n\n{author}" if author else ""))]
    nodes[0].metadata["tags"] = ["title"]
    for cell in cells:
        if cell.kind == "code":
            node = v4.new_code_cell(cell.source)
        else:
            node = v4.new_markdown_cell(cell.source)
        if cell.kind == "words":
            node.source = kept.get(cell.id or "", cell.source)
            node.metadata["tags"] = [OWN_WORDS]
        nodes.append(node)
    for number, node in enumerate(nodes):
        node.id = f"cell-{number:02d}"
    for node, cell in zip(nodes[1:], cells, strict=True):
        node.id = cell.id or node.id
    # The same for every version of Python: the content depends on the runs alone.
    metadata = {
        "title": title,
        "authors": [{"name": author}] if author else [],
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python", "file_extension": ".py"},
    }
    made: NotebookNode = v4.new_notebook(cells=nodes, metadata=metadata)
    return made


def is_open(cell: NotebookNode) -> bool:
    """Tell whether a cell is a place for the author's words that holds none yet."""
    tags = cell.metadata.get("tags", [])
    written = cell.source.strip()
    return OWN_WORDS in tags and (not written or written.startswith("*✎ "))


def own_words(path: Path) -> dict[str, str]:
    """Read what the author wrote into an earlier notebook, by the place's id.

    Raises:
        OutputError: it cannot be read, and would be overwritten with what stands in it.
    """
    if not path.exists():
        return {}
    try:
        notebook = nbformat.read(path, as_version=4)
        return {
            cell.id: cell.source
            for cell in notebook.cells
            if OWN_WORDS in cell.metadata.get("tags", []) and not is_open(cell)
        }
    except Exception:  # whatever nbformat meets in a damaged file
        raise OutputError(
            f"{path}: no readable notebook, but it may hold your words; mend it or move it away"
        ) from None


def execute(notebook: NotebookNode, folder: Path, say: Callable[[str], None]) -> None:
    """Run every cell in a kernel of this very Python, started in a folder; outputs go inside.

    Raises:
        OutputError: a cell failed.
    """
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    metadata = dict(notebook.metadata)
    # No folders of kernels: what a user has installed elsewhere under the same name is another.
    with tempfile.TemporaryDirectory() as profile:
        manager = AsyncKernelManager(
            kernel_name="python3",
            kernel_spec_manager=KernelSpecManager(kernel_dirs=[]),
            # Files, which nobody else on the machine can open, in place of ports.
            transport="ipc",
            connection_file=str(Path(profile) / "kernel.json"),
        )
        client = NotebookClient(
            notebook,
            km=manager,
            timeout=CELL_TIMEOUT_S,
            record_timing=False,
            resources={"metadata": {"path": str(folder)}},
        )
        # A profile of its own: no history, no start-up files of the user's.
        environment = {**os.environ, "IPYTHONDIR": profile, "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
        try:
            client.execute(env=environment, cleanup_kc=True)
        except CellExecutionError as error:
            raise OutputError(
                f"a cell of the notebook failed: {error.ename}: {error.evalue}"
            ) from (error)
        except (CellTimeoutError, DeadKernelError) as error:
            first = str(error).partition("\n")[0]
            raise OutputError(f"the notebook could not be executed: {first}") from error
    notebook.metadata = nbformat.from_dict(metadata)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = _tidy(cell.outputs, say)


def _tidy(outputs: Sequence[Any], say: Callable[[str], None]) -> list[Any]:
    """Join what was printed, however it came in pieces; warnings go to whoever makes the report."""
    tidied: list[Any] = []
    for output in outputs:
        if output.output_type == "stream" and output.name == "stderr":
            say(f"a cell warns: {output.text.strip().splitlines()[-1]}")
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
            f"report needs the package {missing[0]}; install it by pip install 'hw2[report]'"
        )
