"""The same jobs in this process, in several, or on a Ray cluster.

Jobs come back as they are done, with their results. A worker that is killed takes its jobs with it:
they are run again, and given up when that happens again and again.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import socket
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from multiprocessing.connection import wait as wait_for_process
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

import cv2

from moda.devices import has_torch, one_torch_thread
from moda.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    from multiprocessing.sharedctypes import Synchronized

Job = TypeVar("Job")
Result = TypeVar("Result")

VISIBLE_GPUS = "CUDA_VISIBLE_DEVICES"
NVIDIA_DRIVER = Path("/proc/driver/nvidia")
MAX_ATTEMPTS = 3
"""How often a job may take its worker with it."""
CONNECT_SECONDS = 10.0
JOBS_AHEAD = 4
"""Jobs that a cluster is given per processor, so that none waits for this process."""


class LostJob(NamedTuple):
    """Stands for the result of a job that was given up."""

    reason: str


class RunJobs(Protocol):
    """Runs a function, which a worker can import, on jobs."""

    def __call__(
        self, function: Callable[[Job], Result], jobs: Sequence[Job]
    ) -> Iterator[tuple[Job, Result | LostJob]]: ...


def count_gpus() -> int:
    """NVIDIA GPUs that torch can compute on; it is loaded only where there is a driver."""
    if not (has_torch() and (shutil.which("nvidia-smi") or NVIDIA_DRIVER.exists())):
        return 0
    import torch

    return torch.cuda.device_count()


def take_gpu(number: int) -> None:
    """Show this process one of the GPUs alone, so that processes of all numbers share them out.

    To be called before anything has been computed on a GPU.
    """
    gpus = [str(gpu) for gpu in range(count_gpus())]
    if VISIBLE_GPUS in os.environ:
        gpus = os.environ[VISIBLE_GPUS].split(",")
    if len(gpus) > 1:
        os.environ[VISIBLE_GPUS] = gpus[number % len(gpus)]


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep the libraries to one thread: workers share the processors, and sums their order."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with one_torch_thread():
            yield
    finally:
        cv2.setNumThreads(before)


def run_here(
    function: Callable[[Job], Result], jobs: Sequence[Job]
) -> Iterator[tuple[Job, Result | LostJob]]:
    """One after the other, in this process."""
    for job in jobs:
        yield job, function(job)


class LocalProcesses:
    """Runs jobs in several processes of this machine, which end when this one does."""

    def __init__(self, num_workers: int) -> None:
        self._num_workers = num_workers

    def __call__(
        self, function: Callable[[Job], Result], jobs: Sequence[Job]
    ) -> Iterator[tuple[Job, Result | LostJob]]:
        context = multiprocessing.get_context("spawn")
        waiting = deque(range(len(jobs)))
        attempts: Counter[int] = Counter()
        while waiting:
            # Every job that runs when a worker dies is suspect; suspects then run alone.
            begin = (_begin_worker, (context.Value("i", 0),))
            with ProcessPoolExecutor(self._num_workers, context, *begin) as pool:
                running: dict[Future[Result], int] = {}
                try:
                    while waiting or running:
                        while waiting and len(running) < self._num_workers:
                            if running and any(
                                attempts[i] for i in (waiting[0], *running.values())
                            ):
                                break
                            index = waiting.popleft()
                            running[pool.submit(function, jobs[index])] = index
                        done, _ = wait(running, return_when=FIRST_COMPLETED)
                        for future in done:
                            result = future.result()
                            yield jobs[running.pop(future)], result
                except BrokenProcessPool:
                    for index in sorted(running.values(), reverse=True):
                        attempts[index] += 1
                        if attempts[index] < MAX_ATTEMPTS:
                            waiting.appendleft(index)
                        else:
                            yield jobs[index], _lost()


def _begin_worker(started: Synchronized[int]) -> None:
    """Of the workers that have ``started``, this is the next."""
    with started.get_lock():
        number, started.value = started.value, started.value + 1
    take_gpu(number)
    end_with_parent()


def end_with_parent() -> None:
    """Let this worker process end as soon as the one that started it has ended, however."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait_for_process([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, name="end-with-parent", daemon=True).start()


class RayCluster:
    """Runs jobs on a Ray cluster; its machines must see the same files under the same names.

    Args:
        address: That of a running cluster, ``auto`` for the one that this machine belongs to, or
            ``local`` for one that is started here for the time being.
        num_workers: How many jobs run at a time; None for one per processor.
        device_of: The device that a job computes on. With ``cuda`` it gets a GPU of its own, with
            ``auto`` where the cluster has any.

    Raises:
        MissingExtraError: Ray is not installed.
    """

    def __init__(
        self,
        address: str,
        num_workers: int | None = None,
        device_of: Callable[[Any], str] = lambda job: "cpu",
    ) -> None:
        try:
            import ray
        except ImportError as error:
            raise MissingExtraError(
                "a cluster needs Ray; in MoDA's folder run: pip install '.[cluster]'"
            ) from error
        self._ray: Any = ray
        self._address, self._num_workers, self._device_of = address, num_workers, device_of

    def __call__(
        self, function: Callable[[Job], Result], jobs: Sequence[Job]
    ) -> Iterator[tuple[Job, Result | LostJob]]:
        ray = self._ray
        self._connect()
        try:
            remote = ray.remote(max_retries=MAX_ATTEMPTS - 1, num_cpus=1)(function)
            resources = ray.cluster_resources()
            limit = self._num_workers or JOBS_AHEAD * max(1, int(resources.get("CPU", 1)))
            started = (
                (remote.options(num_gpus=self._num_gpus(job, resources)), job) for job in jobs
            )
            yield from self._run(started, limit)
        finally:
            ray.shutdown()

    def _connect(self) -> None:
        is_local = self._address == "local"
        where: dict[str, Any] = {"address": self._address}
        _require_listener(self._address)
        if is_local:
            where = {"num_cpus": self._num_workers, "include_dashboard": False}
        try:
            self._ray.init(log_to_driver=False, **where)
        except Exception as error:  # Ray raises that very class when a machine is too slow
            remedy = "start one with ray start --head, or use --ray local"
            if is_local:
                remedy = "wait until this machine has less to do, or use --workers"
            raise InputError(
                f"no Ray cluster answers at {self._address!r}: {error}; {remedy}"
            ) from error

    def _num_gpus(self, job: Job, resources: Mapping[str, float]) -> int:
        """GPUs that a job asks for; without any it sees none."""
        device, has_gpus = self._device_of(job), resources.get("GPU", 0) >= 1
        if device == "cuda" and not has_gpus:
            raise InputError("device 'cuda' is not available: this Ray cluster has no GPU")
        return int(has_gpus and device in ("auto", "cuda"))

    def _run(
        self, jobs: Iterator[tuple[Any, Job]], limit: int
    ) -> Iterator[tuple[Job, Any | LostJob]]:
        errors = self._ray.exceptions
        running: dict[Any, Job] = {}
        while True:
            for remote, job in islice(jobs, limit - len(running)):
                running[remote.remote(job)] = job
            if not running:
                return
            (done,), _ = self._ray.wait(list(running), num_returns=1)
            job = running.pop(done)
            try:
                yield job, self._ray.get(done)
            except (errors.WorkerCrashedError, errors.OutOfMemoryError, errors.NodeDiedError):
                yield job, _lost()


def _require_listener(address: str) -> None:
    """Raises InputError where nothing listens: Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise InputError(
            f"no Ray cluster answers at {address!r}: {error}; start one with ray start --head, or "
            "use --ray local"
        ) from error


def _lost() -> LostJob:
    return LostJob(f"killed its worker {MAX_ATTEMPTS} times: too little memory, or a damaged file")
