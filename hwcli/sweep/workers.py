"""The launcher of this machine: spawned workers in parallel, one process and one pipe each.

Each worker has its own pipe and there is no shared queue, so a killed process can damage only its
own pipe. Workers are spawned, not forked, because a forked OpenMP runtime deadlocks.
"""

import gc
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from queue import SimpleQueue

from hwcli.errors import LauncherError
from hwcli.output.units import counted
from hwcli.resources import DRIVER_BYTES, free_memory_bytes
from hwcli.runtime import worker_variables
from hwcli.sweep.attempt import attempt
from hwcli.sweep.events import Event, TrialFunction
from hwcli.sweep.launcher import Launcher
from hwcli.sweep.store import TrialStore
from hwcli.sweep.trial import Trial
from hwcli.training.progress import Progress

# A trial that another program trains is looked at this often.
SECONDS_BETWEEN_LOOKS = 1.0
# A worker exits when its pipe closes. One still alive after this time is killed.
SECONDS_TO_LEAVE = 2.0


@dataclass
class _Worker:
    process: BaseProcess
    connection: Connection
    trial: Trial | None = None


class Workers(Launcher):
    """A fixed number of processes that train what is submitted.

    If the system kills one, usually for lack of memory, one fewer continues and the trial is tried
    again.

    Args:
        function: trains one trial.
        store: where trials live.
        num_workers: processes at the most; started when there is work for them.
        is_spent: called in a worker after a failed trial; if true, the process is replaced.
    """

    def __init__(
        self,
        function: TrialFunction,
        store: TrialStore,
        *,
        num_workers: int,
        is_spent: Callable[[], bool] | None = None,
    ):
        super().__init__(store)
        self._function = function
        self._is_spent = is_spent or has_used_cuda
        self._num_workers = num_workers
        self._workers: list[_Worker] = []

    def close(self, error: BaseException | None) -> None:
        """Close every pipe, which ends the workers within a moment; checkpoints stay."""
        _end(self._workers)
        self._workers.clear()
        self._queue.clear()

    def events(self) -> Iterator[Event]:
        """Yield what happens, until every submitted trial is done or has failed.

        Raises:
            LauncherError: the system lets no process start.
            OutputError: the results folder cannot be written.
        """
        while self._queue or any(worker.trial for worker in self._workers):
            yield from self._queue.poll_others()
            yield from self._assign()
            watched = [worker.connection for worker in self._workers]
            if not watched:
                time.sleep(SECONDS_BETWEEN_LOOKS)
            for connection in wait(watched, SECONDS_BETWEEN_LOOKS) if watched else ():
                worker = next(w for w in self._workers if w.connection is connection)
                try:
                    message = worker.connection.recv()
                except (EOFError, OSError):
                    yield from self._replace(worker)
                    continue
                trial = worker.trial
                assert trial is not None
                if isinstance(message, Progress):
                    yield Event("progress", trial, progress=message)
                else:
                    worker.trial = None
                    ending, content, is_spent = message
                    if is_spent:
                        self._workers.remove(worker)
                        _end([worker])
                    yield self._queue.settle(trial, ending, content)

    def _assign(self) -> Iterator[Event]:
        waiting = self._queue.waiting
        for worker in self._workers:
            if worker.trial is None and waiting:
                yield self._give(worker, waiting.popleft())
        while waiting and len(self._workers) < self._num_workers:
            try:
                worker = self._spawn()
            except OSError as error:  # as many processes or open files as the system allows
                if not self._workers:
                    reason = f"no worker can be started ({error.strerror})"
                    raise LauncherError(f"{reason}: end other programs of yours") from None
                self._num_workers = len(self._workers)
                break
            self._workers.append(worker)
            yield self._give(worker, waiting.popleft())

    def _give(self, worker: _Worker, trial: Trial) -> Event:
        worker.trial = trial
        # A worker that died in between is noticed when its pipe is read.
        with suppress(OSError):
            worker.connection.send_bytes(pickle.dumps(trial))
        return Event("started", trial)

    def _spawn(self) -> _Worker:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(
            target=_work,
            args=(theirs, pickle.dumps((self._function, self._is_spent)), self._store.path),
            daemon=True,
        )
        # Read when the child is born, before any code of ours.
        variables = worker_variables(1)
        before = {name: os.environ.get(name) for name in variables}
        os.environ.update(variables)
        # Ctrl-C reaches every process of the terminal, but stopping is the caller's to decide:
        # a child born with the signal ignored goes on ignoring it.
        handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            process.start()
        finally:
            signal.signal(signal.SIGINT, handler)
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value
        theirs.close()
        return _Worker(process, ours)

    def _replace(self, worker: _Worker) -> Iterator[Event]:
        """Remove a dead worker; another one continues its trial from the checkpoint."""
        self._workers.remove(worker)
        worker.connection.close()
        worker.process.join()
        trial, code = worker.trial, worker.process.exitcode
        if trial is None:
            return
        result = self._store.folder(trial).result()
        if result is not None:
            yield Event("done", trial, result=result)
            return
        reason = f"its worker died ({_describe_exit(code)})"
        event = self._queue.handle_death(trial, reason)
        if event.kind == "restarted":
            self._queue.waiting.appendleft(trial)
            if code == -signal.SIGKILL and self._num_workers > 1:
                self._num_workers -= 1
                number = counted(self._num_workers, "trial")
                event = replace(event, reason=f"{reason}; now {number} at a time")
        yield event


def _end(workers: Sequence[_Worker]) -> None:
    for worker in workers:
        worker.connection.close()
    deadline = time.monotonic() + SECONDS_TO_LEAVE
    for worker in workers:
        worker.process.join(max(0.0, deadline - time.monotonic()))
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()


def _describe_exit(code: int | None) -> str:
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        return f"{name}, perhaps out of memory" if name == "SIGKILL" else name
    return f"exit code {code}"


# --------------------------------------------------------------------------------------
# Inside a worker


def has_used_cuda() -> bool:
    """Tell whether this process has used a GPU of NVIDIA's.

    A kernel that fails there breaks the whole process: every later one fails too.
    """
    torch = sys.modules.get("torch")
    return torch is not None and bool(torch.cuda.is_initialized())


def _work(connection: Connection, pickled_functions: bytes, store_path: Path) -> None:
    """Train what comes through the pipe, one after the other, until the pipe closes."""
    _be_killed_first()
    inbox: SimpleQueue[bytes] = SimpleQueue()
    threading.Thread(target=_listen, args=(connection, inbox), daemon=True).start()
    # Unpickled only now: it imports torch, which takes seconds, and the listener is awake by then.
    function: TrialFunction
    is_spent: Callable[[], bool]
    function, is_spent = pickle.loads(pickled_functions)
    store = TrialStore(store_path)
    # What was imported stays: the collector need not walk over it again and again.
    gc.freeze()
    while True:
        trial: Trial = pickle.loads(inbox.get())
        with suppress(BrokenPipeError):
            ending, content = attempt(trial, function, store.folder(trial), connection.send)
            # One that is spent waits for its pipe to close; it is given no other trial.
            connection.send((ending, content, ending == "failed" and is_spent()))


def _be_killed_first(score: Path = Path("/proc/self/oom_score_adj")) -> None:
    """Let a system out of memory end a worker, which is replaced, and not the driver.

    Linux ends the process with the most memory, to which it adds this many thousandths of all
    memory. A worker adds what the driver holds; free memory stands in for all, which is no less.
    """
    free = free_memory_bytes()
    if free is not None:
        more = 1000 * DRIVER_BYTES // max(free, 1)
        with suppress(OSError, ValueError):
            score.write_text(str(min(int(score.read_text()) + more, 1000)))


def _listen(connection: Connection, inbox: "SimpleQueue[bytes]") -> None:
    """Pass trials on; leave at once, whatever is being computed, when the parent is gone."""
    with suppress(EOFError, OSError):
        while True:
            inbox.put(connection.recv_bytes())
    os._exit(1)
