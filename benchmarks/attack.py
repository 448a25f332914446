"""A thousand hostile files and requests, drawn anew from a seed, and what they did.

    python benchmarks/attack.py --seed 1 --output attack.json
    python benchmarks/attack.py --seed 2 --files 0 --page 0 --serve 50

Requests go to a ``moda serve`` and a ``moda web`` that are started for it; files are given to the
program in processes of their own. Exit code 0 when nothing of this was found:

crashes: answers with status 500, tracebacks in the log, processes that died, errors that are none
    of MoDA's own or take more than one line.
hangs: requests and files without an answer in time.
leaks: answers that hold the content or the folder of a private file, or that differ where the file
    is there and where it is not.
left: open files, processes and temporary files that were not there before.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from attack_files import try_files
from attack_keys import KEY_LINES, receiving, remove_all
from attack_requests import PAGE, SERVE, Attack, ask_page, draw, file_name, path, server_file
from attack_running import KEY, Running, is_ready, start
from attack_target import Answer, Hooks, Target

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
AT_ONCE = 6
SETTLE_SECONDS = 60.0
ORACLES = (path, server_file, file_name, ask_page)
"""Attacks that name a file; the answers must not tell whether it is there."""
SAID = re.compile(rb'"(?:detail|error)":\s*(?:"(?:[^"\\]|\\.)*"|null)')
ENCODED = re.compile(rb"(?:%(?:25)*[0-9a-f]{2})+|[0-9a-f-]{10,}", re.IGNORECASE)
SPEECH_BYTES = 40_000
"""Of the example that is sent: more than a second."""


@dataclass
class Count:
    """What was found; threads add to it."""

    attacks: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    crashes: list[str] = field(default_factory=list)
    hangs: list[str] = field(default_factory=list)
    leaks: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        return not (self.crashes or self.hangs or self.leaks or self.left)


def run_attack(attack: Attack, target: Target, seed: str, count: Count) -> None:
    """One attack and what came of it."""
    name = f"{attack.__name__} {seed}"
    count.attacks[attack.__name__] += 1
    answers = _tried(attack, target, seed)
    for answer in answers:
        count.answers[str(answer.status)] += 1
        if answer.status == 500:
            count.crashes.append(f"{name}: {answer.content[-300:]!r}")
        if answer.wrong:
            count.leaks.append(f"{name}: {answer.wrong}")
        if answer.hangs:
            count.hangs.append(name)
        if target.canary.read_bytes() in answer.content:
            count.leaks.append(f"{name}: {answer.content[-300:]!r}")
    if attack in ORACLES:
        missing = target.canary.with_name(target.canary.name[::-1])
        others = _tried(attack, replace(target, canary=missing), seed)
        pairs = zip(answers, others, strict=False)
        if len(answers) != len(others) or any(
            _comparable(one, target.canary) != _comparable(other, missing) for one, other in pairs
        ):
            said = [answer.content[-200:] for answer in (*answers, *others)]
            count.leaks.append(f"{name}: differs where the file is not there: {said!r}")


def _tried(attack: Attack, target: Target, seed: str) -> list[Answer]:
    try:
        return attack(target, random.Random(seed))
    except OSError:  # refused or cut off before anything was said
        return [Answer(0, b"")]


def _comparable(answer: Answer, named: Path) -> tuple[int, set[bytes]]:
    """Status and reasons, without the name of the file."""
    names = re.compile(re.escape(named.name.encode()), re.IGNORECASE)
    said = (names.sub(b"", text) for text in SAID.findall(answer.content))
    return answer.status, {ENCODED.sub(b"", text) for text in said}


def attack_server(
    server: Running, target: Target, attacks: dict[Attack, int], seed: str, num: int
) -> Count:
    """So many attacks, some at once, and what the server holds more afterwards."""
    count = Count()
    for number, attack in enumerate(attacks):  # what is opened once and kept
        run_attack(attack, target, f"{seed}-first-{number}", count)
    _settle(server)
    files, processes = server.open_files(), set(server.processes())
    kept = set(server.files())
    waiting: SimpleQueue[tuple[int, Attack]] = SimpleQueue()
    for number, attack in enumerate(draw(attacks, random.Random(seed), num)):
        waiting.put((number, attack))

    def work() -> None:
        while True:
            try:
                number, attack = waiting.get_nowait()
            except Empty:
                return
            run_attack(attack, target, f"{seed}-{number}", count)

    threads = [threading.Thread(target=work) for _ in range(AT_ONCE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if target.key is not None and server.process.poll() is None:
        remove_all(target)
    _settle(server)
    if server.process.poll() is not None:
        count.crashes.append(f"the server has ended with {server.process.poll()}")
        return count
    after = server.open_files()  # before the next request, whose connection would be one of them
    if not is_ready(server.address):
        count.crashes.append("the server is not ready any more")
    if len(after) > len(files):
        more = [what for what in after.values() if what not in files.values()]
        count.left.append(f"{len(after) - len(files)} open files of {more}")
    gone = processes - set(server.processes())
    count.crashes += [f"process {pid} has died" for pid in gone]
    count.crashes += server.faults()
    count.left += [f"{one}" for one in server.files() if one not in kept and _is_ours(one)]
    return count


def _is_ours(path: Path) -> bool:
    """Uploads that visitors of the page may still use are kept for an hour, within limits."""
    return "visitors" not in path.parts


def _settle(server: Running) -> None:
    """Wait until no connection is left and the last video is made."""
    deadline, before = time.monotonic() + SETTLE_SECONDS, -1
    while time.monotonic() < deadline and server.process.poll() is None:
        now = len(server.open_files())
        if now == before and not any(map(_is_ours, server.files())):
            return
        before = now
        time.sleep(3.0)


def end(server: Running, count: Count) -> None:
    """Stop a server; its processes and files must go with it."""
    processes = server.processes()
    count.answers[f"exit code {server.stop()}"] += 1
    time.sleep(1.0)
    alive = [pid for pid in processes if Path(f"/proc/{pid}/exe").exists()]
    count.left += [f"process {pid} after the end" for pid in alive]
    count.left += [f"{path} after the end" for path in server.files()]


def make_target(folder: Path, server: Running, key: str | None, hooks: Hooks) -> Target:
    """The server with a private file beside it."""
    canary = folder / "private" / f"canary-{random.SystemRandom().randbytes(6).hex()}.jpg"
    canary.parent.mkdir(exist_ok=True)
    picture = (EXAMPLES / "portrait.jpg").read_bytes()
    secret = b"\xff\xfe\0\x22" + random.SystemRandom().randbytes(16).hex().encode()
    canary.write_bytes(picture[:2] + secret + picture[2:])
    speech = (EXAMPLES / "speech.wav").read_bytes()[:SPEECH_BYTES]
    fields, function = (0, 0) if key else _functions(server)
    return Target(
        server.address, canary, picture, speech, key, ("127.0.0.1",), fields, function, hooks
    )  # fmt: skip


def _functions(server: Running) -> tuple[int, int]:
    """How many inputs the page has, and the number of the function that makes videos."""
    with urllib.request.urlopen(f"http://{server.address}/config", timeout=60) as answer:
        known = json.load(answer)["dependencies"]
    make = next(entry for entry in known if entry["api_name"] == "generate")
    return len(make["inputs"]), make["id"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all attacks and print what was found."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", default="1")
    parser.add_argument("--serve", type=int, default=400, help="requests to moda serve")
    parser.add_argument("--page", type=int, default=250, help="requests to moda web")
    parser.add_argument("--files", type=int, default=350, help="hostile files")
    parser.add_argument("--output", type=Path)
    given = parser.parse_args(arguments)
    counts: dict[str, Count] = {}
    with tempfile.TemporaryDirectory(prefix="attack-") as name, receiving() as hooks:
        folder = Path(name)
        keys = folder / "keys"
        keys.write_text(KEY_LINES)
        portrait = str(EXAMPLES / "portrait.jpg")
        commands: list[tuple[str, tuple[str, ...], str | None, dict[Attack, int], int]] = [
            ("serve", (portrait, "--sessions", "1", "--size", "128", "--jobs", "16",
                       "--requests-per-minute", "1000000", "--max-speech", "5", "--api-keys",
                       str(keys), "--allow-webhook", hooks.allowed), KEY, SERVE, given.serve),
            ("web", ("--max-upload", "4", "--max-seconds", "5"), None, PAGE, given.page),
        ]  # fmt: skip
        for command, options, key, attacks, num in commands:
            if num:
                server = start(folder, command, *options, key=key)
                called = Hooks(hooks.allowed, hooks.trap)
                target = make_target(folder, server, key, called)
                try:
                    counts[command] = attack_server(server, target, attacks, given.seed, num)
                finally:
                    end(server, counts.setdefault(command, Count()))
                counts[command].leaks += hooks.wrong
                hooks.wrong.clear()
                print(command, json.dumps(vars(counts[command]), indent=1), flush=True)
        if given.files:
            counts["files"] = Count(*try_files(folder, given.seed, given.files))
    result: dict[str, Any] = {name: vars(count) for name, count in counts.items()}
    print(json.dumps(result, indent=1))
    if given.output:
        given.output.write_text(json.dumps(result, indent=1) + "\n")
    return 0 if all(count.is_clean for count in counts.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
