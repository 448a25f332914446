"""``moda serve`` for minutes with live sessions, videos on request and attackers side by side.

    python benchmarks/soak.py --minutes 30 --output soak.json

Sessions and jobs come from one address, attackers from others, as they do in the world. Each
session has a process of its own, so that the attackers' work delays none. What attackers compute
gives way to all others, because it would be on another machine. Printed every ten seconds
and written at the end: pictures a second of every session, the memory of each process, videos made,
and what attackers got.

pictures: frames that arrived with a picture in each ten seconds, over ten. 25 is right.
memory: of each process when a tenth of the time is over, and at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import platform
import random
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np
from attack_requests import SERVE, draw
from attack_running import KEY, Running, start
from attack_target import Target
from live_measures import RATE, long_speech

from moda.media.waves import wave_file, write_pcm
from moda.serving.client import Frame, LiveClient, ServerError, VideoClient

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
PACKET = RATE // 50
LOOK_SECONDS = 10.0
JOB_SECONDS = 3.0
ATTACKERS = tuple(f"127.0.0.{number}" for number in range(66, 74))
"""Addresses of loopback, which all lead to this machine."""
ATTACKERS_NICENESS = 19
PAUSE_SECONDS = 0.1
"""Of an attacker between two requests."""


@dataclass
class Observed:
    """What has happened so far; threads add to it."""

    rates: list[list[float]] = field(default_factory=list)
    """Pictures a second of each session, by looks."""
    memory: list[dict[str, float]] = field(default_factory=list)
    jobs: Counter[str] = field(default_factory=Counter)
    attacks: Counter[str] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    leaks: list[str] = field(default_factory=list)
    hangs: list[str] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    """Sessions that were closed before their time, and why."""


class Session(NamedTuple):
    """A client of a live session in a process of its own."""

    process: BaseProcess
    pictures: Any
    """Shared: how many came since the last look."""
    ended: Any
    """Shared queue: why it was closed before its time."""


def begin_session(address: str, minutes: float) -> Session:
    """Start a client that speaks for so many minutes."""
    context = multiprocessing.get_context("spawn")
    pictures, ended = context.Value("i", 0), context.Queue()
    process = context.Process(target=run_session, args=(address, minutes, pictures, ended))
    process.start()
    return Session(process, pictures, ended)


def run_session(address: str, minutes: float, pictures: Any, ended: Any) -> None:
    """In the client's process: speak in real time; a session that breaks begins again."""
    samples = long_speech(EXAMPLES / "speech.wav", minutes * 60)
    begun = time.monotonic()
    while (place := int((time.monotonic() - begun) * RATE)) < len(samples) - RATE:
        try:
            asyncio.run(talk(address, samples[place:], pictures))
        except ServerError as error:
            ended.put(f"at {place / RATE:.0f} s: {error}")
            time.sleep(1.0)


async def talk(address: str, samples: np.ndarray, pictures: Any) -> None:
    """One live session to the end of the samples."""
    async with LiveClient(f"http://{address}", {"sample_rate": RATE}, api_key=KEY) as session:
        begun = time.monotonic()

        async def speak() -> None:
            for start_at in range(0, len(samples), PACKET):
                await asyncio.sleep(max(0.0, begun + start_at / RATE - time.monotonic()))
                await session.send_sound(write_pcm(samples[start_at : start_at + PACKET]))
            await session.end()

        speaking = asyncio.create_task(speak())
        try:
            async for message in session.messages():
                if isinstance(message, Frame) and message.jpeg:
                    with pictures.get_lock():
                        pictures.value += 1
        finally:
            speaking.cancel()


def ask_for_videos(address: str, speech: Path, over: threading.Event, observed: Observed) -> None:
    """One video after the other, each fetched and deleted."""
    portrait, seed = EXAMPLES / "portrait.jpg", 0
    with (
        VideoClient(f"http://{address}", api_key=KEY) as client,
        tempfile.TemporaryDirectory() as to,
    ):
        while not over.is_set():
            try:
                client.make_video(portrait, speech, Path(to) / "v.mp4", size=256, seed=seed)
                observed.jobs["made"] += 1
            except ServerError as error:
                observed.jobs[str(error)] += 1
                over.wait(2.0)
            seed += 1


def attack(target: Target, seed: int, over: threading.Event, observed: Observed) -> None:
    """One hostile request after the other."""
    rng = random.Random(seed)
    secret = target.canary.read_bytes()
    while not over.is_set():
        chosen = next(draw(SERVE, rng, 1))
        try:
            answers = chosen(target, rng)
        except OSError as error:  # refused or cut off before anything was said
            observed.attacks[f"{chosen.__name__}: {type(error).__name__}"] += 1
            continue
        observed.attacks[chosen.__name__] += 1
        for answer in answers:
            observed.statuses[answer.status] += 1
            if secret in answer.content:
                observed.leaks.append(chosen.__name__)
            if answer.hangs:
                observed.hangs.append(chosen.__name__)
        over.wait(PAUSE_SECONDS)


def look(server: Running, sessions: Sequence[Session], observed: Observed) -> None:
    """Note pictures and memory every ten seconds, as long as there are sessions."""
    then = time.monotonic()
    while all(session.process.is_alive() for session in sessions):
        time.sleep(LOOK_SECONDS)
        now, rates = time.monotonic(), []
        for session in sessions:
            with session.pictures.get_lock():
                count, session.pictures.value = session.pictures.value, 0
            rates.append(round(count / (now - then), 1))
        memory = {name: float(round(size)) for name, size in server.megabytes().items()}
        observed.rates.append(rates)
        observed.memory.append(memory)
        then = now
        print(
            f"pictures a second {rates}, memory {sum(memory.values()):.0f} MB, videos "
            f"{observed.jobs['made']}, attacks {observed.attacks.total()}, 500s "
            f"{observed.statuses[500]}, leaks {len(observed.leaks)}, load {os.getloadavg()[0]:.1f}",
            flush=True,
        )


def measure(arguments: argparse.Namespace, server: Running, folder: Path) -> Observed:
    """Everything at once for so many minutes."""
    samples = long_speech(EXAMPLES / "speech.wav", 60)
    speech, canary = folder / "speech.wav", folder / "private.txt"
    with wave_file(speech, RATE) as file:
        file.writeframes(write_pcm(samples[4 * RATE : 4 * RATE + round(JOB_SECONDS * RATE)]))
    canary.write_text(f"canary {random.SystemRandom().randbytes(16).hex()}")
    target = Target(
        server.address, canary, (EXAMPLES / "portrait.jpg").read_bytes(), speech.read_bytes(),
        KEY, ATTACKERS,
    )  # fmt: skip
    observed, over = Observed(), threading.Event()
    threads = [
        threading.Thread(target=ask_for_videos, args=(server.address, speech, over, observed)),
        *(
            threading.Thread(target=attack, args=(target, arguments.seed + n, over, observed))
            for n in range(arguments.attackers)
        ),
    ]
    sessions = [begin_session(server.address, arguments.minutes) for _ in range(arguments.sessions)]
    while not all(session.pictures.value for session in sessions):  # who is first has the session
        time.sleep(0.1)
    if hasattr(os, "nice"):
        os.nice(ATTACKERS_NICENESS)
    for thread in threads:
        thread.start()
    try:
        look(server, sessions, observed)
    finally:
        over.set()
        for session in sessions:
            session.process.join(60)
            while not session.ended.empty():
                observed.ended.append(session.ended.get())
        for thread in threads:
            thread.join()
    return observed


def report(observed: Observed, server: Running) -> dict[str, Any]:
    """Figures of a run that is over; its server still runs."""
    rates = np.array(observed.rates[1:-1] or observed.rates)
    early = observed.memory[len(observed.memory) // 10]
    return {
        "sessions": [
            {"least": float(one.min()), "median": float(np.median(one)), "looks": len(one)}
            for one in rates.T
        ],
        "sessions_closed": observed.ended,
        "memory_megabytes": {"after_a_tenth": early, "at_the_end": observed.memory[-1]},
        "memory_total": [round(sum(memory.values())) for memory in observed.memory],
        "videos": dict(observed.jobs),
        "attacks": dict(observed.attacks),
        "answers": {str(status): count for status, count in sorted(observed.statuses.items())},
        "leaks": observed.leaks,
        "hangs": observed.hangs,
        "faults_in_the_log": server.faults(),
        "open_files": len(server.open_files()),
        "files_at_the_end": len(server.files()),
    }


def told(arguments: argparse.Namespace) -> dict[str, Any]:
    """How, when and where it was run."""
    return {
        "command": f"python benchmarks/soak.py --minutes {arguments.minutes:g}",
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        **{name: value for name, value in vars(arguments).items() if name != "output"},
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--sessions", type=int, default=2)
    parser.add_argument("--attackers", type=int, default=4)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        folder = Path(name)
        server = start(
            folder, "serve", str(EXAMPLES / "portrait.jpg"), "--sessions", str(arguments.sessions),
            "--waiting", "0", "--size", str(arguments.size), "--requests-per-minute", "600",
        )  # fmt: skip
        try:
            observed = measure(arguments, server, folder)
            result = report(observed, server)
            is_well = httpx.get(f"http://{server.address}/readyz", timeout=30).json()
        finally:
            code = server.stop()
        result |= {"ready_at_the_end": is_well, "exit_code": code}
        result["files_left"] = [str(path) for path in server.files()]
    result = {**told(arguments), **result}
    print(json.dumps(result, indent=1))
    if arguments.output:
        arguments.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
