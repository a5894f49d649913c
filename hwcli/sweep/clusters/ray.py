"""The launcher of a Ray cluster: one task for each trial.

Ray starts processes where there is room, and reports when one of them or its node is lost; the
trial is then submitted again and resumes from its checkpoint. The program's own code travels with
the tasks; its dependencies have to be on the nodes, and the results on a folder they share.
"""

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import hwcli
from hwcli import resources, runtime
from hwcli.errors import LauncherError
from hwcli.output import terminal
from hwcli.sweep.clusters.remote import RemoteTrials, attempt_here
from hwcli.sweep.events import Event, TrialFunction
from hwcli.sweep.launcher import Launcher, LauncherConfig
from hwcli.sweep.store import TrialStore
from hwcli.sweep.trial import Trial

SECONDS_BETWEEN_MESSAGES = 1.0
# An address where nobody answers: Ray itself would try for minutes.
ANSWER_S = 5.0


class RayTasks(Launcher):
    """Trains what is submitted as tasks of a Ray cluster.

    Args:
        function: trains one trial.
        store: where trials live; on a folder that all nodes share.
        options: what each task is given.
        num_workers: trained at a time at the most.

    Raises:
        LauncherError: the extra is not installed, the cluster cannot be reached, or a trial
            needs more than this machine has and no other is there.
    """

    def __init__(
        self,
        function: TrialFunction,
        store: TrialStore,
        options: LauncherConfig,
        *,
        num_workers: int,
    ):
        # Ray reads both when it is imported: no report to its makers, no note on future defaults.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        try:
            import ray
        except ImportError:
            raise LauncherError(
                "launcher.kind = 'ray': ray is not installed; "
                "in the checkout: pip install -e '.[ray]'"
            ) from None
        super().__init__(TrialStore(store.path.resolve()))
        self._ray: Any = ray
        self._function = function
        self._options = options
        self._num_workers = num_workers
        self._trials = RemoteTrials(self._store)
        self._running: dict[Any, Trial] = {}

    def __enter__(self) -> Self:
        self._connect()
        return self

    def close(self, error: BaseException | None) -> None:
        """Leave the cluster: tasks end with the driver that submitted them."""
        self._ray.shutdown()

    def events(self) -> Iterator[Event]:
        """Yield what happens, until every submitted trial is done or has failed.

        Raises:
            OutputError: the results folder cannot be written.
        """
        options = self._options
        task = self._ray.remote(attempt_here).options(
            num_cpus=options.cpus_or_one,
            num_gpus=options.gpus or None,
            memory=options.memory_gb and round(options.memory_gb * 2**30),
            # Whether to try again is decided here, and shown.
            max_retries=0,
            name="hw2 trial",
        )
        looked = time.monotonic()
        waiting = self._queue.waiting
        while self._queue or self._running:
            yield from self._queue.poll_others()
            while waiting and len(self._running) < self._num_workers:
                trial = waiting.popleft()
                self._trials.prepare(trial)
                self._running[task.remote(trial, self._function, self._store.path)] = trial
            ended = self._wait()
            if ended or time.monotonic() - looked > SECONDS_BETWEEN_MESSAGES:
                looked = time.monotonic()
                for trial in self._running.values():
                    yield from self._trials.new_events(trial)
            for reference in ended:
                yield self._receive(reference, self._running.pop(reference))

    def _wait(self) -> list[Any]:
        """Return the tasks that have ended, after a moment at the latest."""
        references = list(self._running)
        if not references:
            time.sleep(SECONDS_BETWEEN_MESSAGES)
            return []
        self._ray.wait(references, timeout=SECONDS_BETWEEN_MESSAGES)
        ended: list[Any]
        ended, _ = self._ray.wait(references, num_returns=len(references), timeout=0)
        return ended

    def _receive(self, reference: Any, trial: Trial) -> Event:
        errors = self._ray.exceptions
        try:
            return self._queue.settle(trial, *self._ray.get(reference))
        except errors.RayTaskError as error:
            # Raised before the attempt began: the node lacks a package, or has another version.
            return self._queue.fail(trial, str(error).strip().splitlines()[-1])
        except errors.RayError as error:
            event = self._queue.final_event(trial) or self._queue.handle_death(
                trial, f"its worker died ({type(error).__name__})"
            )
            if event.kind == "restarted":
                self._queue.waiting.appendleft(trial)
            return event

    def _connect(self) -> None:
        address = self._options.address
        environment: dict[str, Any] = {"env_vars": runtime.worker_variables(1)}
        where: dict[str, Any] = {"num_cpus": resources.num_cores(), "include_dashboard": False}
        if address is not None:
            _check_address(address)
            environment |= {
                "py_modules": [str(Path(hwcli.__file__).parent)],
                "excludes": ["**/__pycache__"],
            }
            where = {"address": address}
        handler = signal.getsignal(signal.SIGTERM)
        try:
            self._ray.init(
                **where,
                runtime_env=environment,
                log_to_driver=False,
                configure_logging=True,
                logging_level=logging.ERROR,
            )
        except Exception as error:
            said = " ".join(str(error).split())
            raise LauncherError(
                f"launcher.address = {address!r}: no Ray cluster can be used there ({said})"
            ) from None
        finally:
            # In the main thread, Ray's own handler would now end the program without a word.
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, handler)
        self._check_room()

    def _check_room(self) -> None:
        """Say so where no node has what a trial needs: it may wait for one for ever."""
        options = self._options
        needed = {"CPU": options.cpus_or_one, "GPU": options.gpus}
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        if any(all(node.get(k, 0) >= n for k, n in needed.items()) for node in nodes):
            return
        wish = f"launcher.cpus = {options.cpus_or_one} and launcher.gpus = {options.gpus:g}"
        if options.address is None:
            self._ray.shutdown()
            raise LauncherError(
                f"{wish}: more than this machine has; ask for less, or join a cluster by "
                "--set launcher.address=HOST:PORT"
            )
        terminal.log(f"{wish}: more than any node of the cluster has now; waiting for one")


def _check_address(address: str) -> None:
    """Make sure that somebody answers.

    Raises:
        LauncherError: nobody does, or the address is none.
    """
    if address == "auto":
        return
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not (host and colon and port.isdecimal()):
        raise LauncherError(f"launcher.address = {address!r}: write HOST:PORT, or auto")
    try:
        socket.create_connection((host, int(port)), timeout=ANSWER_S).close()
    except OSError as error:
        raise LauncherError(
            f"launcher.address = {address!r}: nobody answers there ({error}); start a cluster by "
            "ray up, or ray start --head"
        ) from None
