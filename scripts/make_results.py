"""Make docs/results.md from the stored results: every figure of the built-in model in one place.

    python scripts/make_results.py            writes the page
    python scripts/make_results.py --check    exit code 1 if the page is not what this would write

The results are the JSON files in ``benchmarks/results``; each says when, where and with what it was
measured. :func:`quotes` are the figures that other pages repeat; a test looks for them there.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from textwrap import TextWrapper
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "results.md"
LIPS = {
    "moda-tiny": "moda-tiny",
    "noise": "with white and babble noise at 20 dB",
    "telephone": "at 8 kHz",
    "rendered": "on finished frames",
    "another sound": "with another clip's sound",
    "loudness": "loudness",
    "linear map": "linear map from the sound",
    "ceiling": "real motion, rendered and tracked again: the ceiling",
}
"""Rows of the first table."""
MOMENTS = ("after_a_tenth", "at_the_end")
"""When a soak looks at its memory."""


def main() -> int:
    """Write the page, or say whether it is up to date."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true")
    made = page()
    if parser.parse_args().check:
        return int(PAGE.read_text(encoding="utf-8") != made)
    PAGE.write_text(made, encoding="utf-8")
    return 0


def page() -> str:
    """The page in Markdown."""
    sections = (
        introduction, lips, beside_published, renderer, speed, installation, first_video, live,
        robustness,
    )  # fmt: skip
    return "\n\n".join(section() for section in sections) + "\n"


def introduction() -> str:
    """What the page is."""
    return joined(
        "# Results",
        "All figures of the built-in model and renderer in one place, made by "
        "`scripts/make_results.py` from the files in `benchmarks/results`. Figures of other "
        "machines are [welcome](../CONTRIBUTING.md).",
    )


def lips() -> str:
    """Lips and head of speakers that the model has not seen."""
    found = stored("lips")
    rows = {row["method"]: row for row in found["rows"]}
    phones, head, seed = found["phones"], found["head"], found["another_seed"]
    amplitude, speed = head["real_amplitude_quartiles"], head["real_speed_quartiles"]
    measures = {
        f"lips closed at {phones['closures']} p, b, m of {phones['languages']} languages, held-out "
        "synthetic voices": f"{percent(phones['closed'])} from the sound, "
        f"{percent(phones['closed_known'])} with known phones; by chance "
        f"{percent(phones['closed_by_chance'])} (of the motion; on finished frames "
        f"{percent(phones['closed_on_frames'])} of {phones['closures_on_frames']})",
        f"lips narrower than usual at {phones['rounded_phones']} u, o, w": (
            f"{percent(phones['rounded'])}; by chance {percent(phones['rounded_by_chance'])}"
        ),
        "lips closed in silences of half a second and more": (
            f"{percent(found['silence']['closed'], 1)} of {found['silence']['frames']} frames"
        ),
        "lips closed to music and noise": (
            f"{percent(found['music_and_noise']['closed'], 1)} of "
            f"{found['music_and_noise']['minutes']} minutes"
        ),
        "blinks a minute": f"{found['blinks_per_minute']:.0f}",
        "amplitude of the head, degrees": (
            f"{head['amplitude_degrees']}; quartiles of real clips {amplitude[0]}, {amplitude[1]}"
        ),
        "speed of the head, degrees a second": (
            f"{head['speed_degrees_per_second']}; quartiles of real clips {speed[0]}, {speed[1]:g}"
        ),
        "largest step of the head where windows join, and elsewhere, degrees a frame": (
            f"{head['largest_step_at_joins_degrees']:.1f}, "
            f"{head['largest_step_elsewhere_degrees']:.1f}"
        ),
        "drift of the head over 10 minutes, standard deviations": (
            f"{head['drift_over_10_minutes']}"
        ),
        "another seed changes lip gap and width, shares of their spread": (
            f"{seed['gap']}, {seed['width']}"
        ),
    }
    lip_rows = (
        [words, three(rows[name]["gap"]), three(rows[name]["width"])]
        for name, words in LIPS.items()
    )
    return joined(
        "## Lips and head",
        f"`moda evaluate` measures {found['speakers']} speakers that neither the weights nor the "
        f"motion space have seen ({found['seconds']} seconds; the clips are private, see the "
        "[model card](model-card-moda-tiny.md)). Correlations with the filmed lips are taken at "
        "each clip's own offset of sound and picture, weighted by length, means of "
        f"{found['seeds']} seeds.",
        table(["lips of speakers held out of training", "lip gap", "lip width"], lip_rows),
        table(["measure", "moda-tiny"], measures.items()),
        f"{source('lips', found)} A few settings were chosen on the same ten speakers, so the "
        "figures are a little optimistic.",
    )


def beside_published() -> str:
    """Lips beside those of other systems."""
    found = stored("beside_published")
    systems = sorted({name for row in found["rows"] for name in row["systems"]}, key=str.lower)
    means = {"moda-tiny, a neutral face": mean_rows(found["rows"])}
    means["moda-tiny, `examples/portrait.jpg`"] = found["means"]["examples/portrait.jpg"]
    means["the others"] = found["means"]["others"]
    rows = (
        [
            name,
            *(f"{mean[key][0]:.2f}, {mean[key][1]:.2f}" for key in ("filmed", "consensus")),
            "1" if name == "the others" else f"{mean['spread'][0]:.2f}, {mean['spread'][1]:.2f}",
            f"{mean['head']:.1f}",
        ]
        for name, mean in means.items()
    )
    filmed = sum(row["filmed"][0] is not None for row in found["rows"])
    by_set = (
        [
            f"{row['source'].split()[0]}, {row['language']}",
            ", ".join(row["systems"]) or "the filmed speaker alone",
            *(beside(row[key], row[f"{key}_others"]) for key in ("filmed", "consensus")),
        ]
        for row in found["rows"]
    )
    heading = [
        "", f"r with the filmed speaker ({filmed} recordings)", "r with the others' consensus",
        "spread over the others' median", "head, degrees",
    ]  # fmt: skip
    by_heading = [
        "shown by, language", "systems", "r with the filmed speaker", "r with the consensus",
    ]  # fmt: skip
    return joined(
        "## Lips beside published systems",
        f"Finished videos beside {found['published_videos']} published videos of {len(systems)} "
        f"systems, on the same {len(found['rows'])} recordings and tracked alike. The videos are "
        "those that the systems' own authors or their rivals chose to show; they show other "
        "portraits. Pairs are lip gap and lip width.",
        table(heading, rows),
        "By recording, ours with the neutral face, and the mean or median of the others in "
        "brackets:",
        table(by_heading, by_set),
        f"{source('beside_published', found)} The row of `examples/portrait.jpg` is older than "
        "the first one; its face is 100 pixels wide. Published figures such as Sync-C or FID are "
        "another matter: [evaluation]"
        "(evaluation.md#published-numbers-and-why-they-do-not-compare).",
    )


def renderer() -> str:
    """What the renderer alone is worth."""
    found = stored("renderer_quality")
    keys = ("face", "face_not_moved", "mouth", "mouth_not_moved")
    rows = ([row["clip"], *(f"{row[key]:.1f}" for key in keys)] for row in found["rows"])
    return joined(
        "## The renderer alone",
        "`moda evaluate-renderer` animates one frame of a video with the video's own motion "
        "(PSNR in dB, 40 frames each of clips that published systems show):",
        table(["clip", "face", "photograph not moved", "mouth", "photograph not moved"], rows),
        source("renderer_quality", found),
        "`moda evaluate-videos PROTOCOL -o report/` (after `pip install '.[evaluate]'`) compares "
        "finished videos of any method with real ones; [evaluation](evaluation.md) defines "
        "protocol and metrics.",
    )


def speed() -> str:
    """Time and memory of ``moda generate``."""
    found, older = stored("generate"), stored("2-core-xeon")
    rows = []
    for name, (ours, before) in found["rows"].items():
        share = ours["wall_seconds"] / before["wall_seconds"]
        times = [f"{row['wall_seconds']:.3g} s" for row in (ours, before)]
        memory = [gigabytes(row["peak_mb"]) for row in (ours, before)]
        words = name.replace("first video", "first video after an installation")
        words = f"`{name}`" if name.startswith("moda") else words
        rows.append([words, *times, f"{share:.2f}", *memory])
    ten = next(row for row in older["rows"] if row["seconds"] == 600)
    minute = found["rows"]["60 s of speech"][0]
    one = [
        "1 minute", f"{minute['wall_seconds']:.0f} s", f"{minute['wall_seconds'] / 60:.2f}",
        gigabytes(minute["peak_mb"]),
    ]  # fmt: skip
    return joined(
        "## Speed and memory",
        "`benchmarks/generate.py` measures start, first video, a minute of speech, memory and "
        "size on disk, everything included from start-up to the finished file, 512 pixels, 25 "
        'frames per second. "Before" is the version before onnxruntime took the place of PyTorch, '
        "run in turns with this one: the machine was two to three times slower than on other "
        "days, so shares are what can be compared.",
        table(["", "time", "before", "share", "peak memory", "before"], rows),
        table(["speech", "time", "real-time factor", "peak memory"], [one]),
        f"{source('generate', found)} Ten minutes were last measured with the version before: "
        f"{ten['wall_seconds']:.0f} s, {gigabytes(ten['peak_mb'])} ({link('2-core-xeon')}, "
        f"{older['date']}). The first run after an installation compiles the inner loops; later "
        "runs reuse the result.",
    )


def installation() -> str:
    """Time and size of an installation from the wheel alone."""
    found = stored("installation")
    rows = (
        [
            row["python"],
            row["system"],
            f"{row['packages']}",
            f"{row['install_seconds']:.0f} s",
            f"{row['installed_mb']} MB",
            f"{row['demo_seconds']:.0f} s",
        ]
        for row in found["rows"]
    )
    targets = ", ".join(found["resolved"]["platforms"])
    pythons = ", ".join(found["resolved"]["pythons"])
    return joined(
        "## Installation",
        f"A fresh environment, `pip install` of the wheel ({found['wheel_mb']} MB) and nothing "
        "else, then `moda demo` in an empty folder (`benchmarks/installation.py`):",
        table(["Python", "system", "packages", "installation", "on disk", "`moda demo`"], rows),
        f"{source('installation', found)} {found['note']} Every package has wheels for Python "
        f"{pythons} on {targets}: nothing is built from source.",
    )


def first_video() -> str:
    """From the opened page to a playing video."""
    found = stored("page")
    rows = ([row["window"], f"{row['clicks']}", f"{row['seconds']:.0f} s"] for row in found["rows"])
    return joined(
        "## The first video on the page",
        "`moda web` just started, in headless Chromium: an example, then *Make video*. The time is "
        "from the opening of the page until the video plays (`scripts/make_page_pictures.py`).",
        table(["window", "clicks", "time"], rows),
        f"{source('page', found)} The page is looked at for a second before the first click. "
        f"The load average of the machine was {found['load_average']}, its own work included.",
    )


def live() -> str:
    """Live sessions."""
    found, two, webrtc = stored("live"), stored("live_two_sessions"), stored("live_webrtc")
    sets = {
        f"WebSocket, {minutes(found)} minutes beside other programs": found,
        f"two sessions at once, {minutes(two)} minutes": two,
        f"WebRTC, {minutes(webrtc)} minutes": webrtc,
    }
    rows = []
    for name, measured in sets.items():
        sessions = measured["sessions"]
        silent, closed = (
            max(cut[key] for session in sessions for cut in session["barge_in"])
            for key in ("silent_seconds", "closed_seconds")
        )
        rows.append(
            [
                name,
                f"{max(session['first_picture_seconds'] for session in sessions):.2f} s",
                f"{max((s['sync_milliseconds'] for s in sessions), key=abs):+.0f} ms",
                f"{silent:.2f}, {closed:.2f} s",
                gigabytes(measured["server_memory_megabytes"][-1]),
            ]
        )
    lip_rows = {row["method"]: row for row in stored("live_lips")["rows"]}
    offline, default = lip_rows["offline"], lip_rows["live, 240 ms"]
    heading = [
        "", "open lips after the first loud packet", "sound and picture at the end",
        "after an interruption: silent, closed", "memory of the server",
    ]  # fmt: skip
    return joined(
        "## Live",
        "`benchmarks/live.py` sends the example recording in real time, 512 pixels; of several "
        "sessions the worst counts.",
        table(heading, rows),
        f"{source('live', found)} {link('live_two_sessions')}, {link('live_webrtc')}: "
        f"{webrtc['date']}, same kind of machine, nothing else to do. Lips of a live head: gap "
        f"{three(default['gap'])}, width {three(default['width'])} at the default look-ahead, "
        f"{three(offline['gap'])} and {three(offline['width'])} of the whole recording "
        f"({link('live_lips')}, {stored('live_lips')['date']}). [Live](live.md#measurements) has "
        "the rest, [Realtime](agents/realtime.md) the figures of agents.",
    )


def robustness() -> str:
    """What hostile input comes to."""
    found = stored("robustness")
    requests, files = found["requests"], found["damaged_files"]
    soak = stored("soak")
    median, least = (min(one[name] for one in soak["sessions"]) for name in ("median", "least"))
    early, late = (sum(soak["memory_megabytes"][when].values()) / 1000 for when in MOMENTS)
    rows = [
        [
            f"{soak['minutes']:.0f} minutes of `moda serve`: {len(soak['sessions'])} live heads "
            f"of {soak['size']} pixels, videos one after the other, {soak['attackers']} attackers",
            f"{median:.1f} pictures a second (least of ten seconds {least:.1f}); memory "
            f"{early:.2f} GB after a tenth, {late:.2f} at the end; {soak['videos']['made']} videos "
            f"made; {sum(soak['attacks'].values()):,} attacks: {len(soak['leaks'])} leaks, "
            f"{len(soak['hangs'])} hangs, {soak['answers'].get('500', 0)} answers 500, "
            f"{len(soak['files_left'])} files left",
            f"`{soak['command']}`, {soak['date']}, {soak['machine']}",
        ],
        [
            f"{requests['sent']:,} requests of {requests['kinds']} hostile kinds",
            f"{requests['as_expected']} got the status of their kind, "
            f"{requests['all_sessions_taken']} that all sessions are taken, which they were; "
            "no error in the log, no file, process or session left over",
            f"`{requests['command']}`, {requests['date']}",
        ],
        [
            f"files of {files['kinds']} kinds, damaged by chance",
            "the last run found only errors in one line; what earlier ones found is in the tests",
            f"`{files['command']}`, {files['date']}",
        ],
    ]
    return joined(
        "## Robustness",
        table(["given", "came of it", "how, when"], rows),
        f"({link('robustness')}, {link('soak')}) [SECURITY.md](../SECURITY.md) lists what is "
        "tested and what is not defended.",
    )


def quotes() -> dict[str, tuple[str, ...]]:
    """Figures that other pages repeat, as they stand there."""
    rows = {row["method"]: row for row in stored("lips")["rows"]}
    ours, ceiling = rows["moda-tiny"], rows["ceiling"]
    minute = stored("generate")["rows"]["60 s of speech"][0]
    lip_rows = {row["method"]: row for row in stored("live_lips")["rows"]}
    default = lip_rows["live, 240 ms"]
    sessions = stored("live")["sessions"]
    return {
        "README.md": (
            f"r = {two(ours['gap'])} for the gap, {two(ours['width'])} for the width; real motion "
            f"drawn by this renderer {two(ceiling['gap'])} and {two(ceiling['width'])}",
            f"| {minute['wall_seconds']:.0f} s | {gigabytes(minute['peak_mb'])} |",
        ),
        "docs/model-card-moda-tiny.md": (
            f"{three(ceiling['gap'])} | {three(rows['rendered']['width'])}; "
            f"{three(ceiling['width'])}",
        ),
        "docs/live.md": (
            f"**{three(default['gap'])}** | **{three(default['width'])}**",
            f"All {sessions[0]['frames']:,} frames came, {sessions[0]['undrawn_frames']} of them",
        ),
    }


def stored(name: str) -> dict[str, Any]:
    """A stored result."""
    found = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return dict(found)


def joined(*parts: str) -> str:
    """Paragraphs, wrapped, and tables."""
    fill = TextWrapper(width=120, break_long_words=False, break_on_hyphens=False).fill
    return "\n\n".join(part if part.startswith("|") else fill(part) for part in parts)


def source(name: str, found: Mapping[str, Any]) -> str:
    """Where figures come from: file, date, machine, versions."""
    versions = ", ".join(f"{part} {version}" for part, version in found.get("versions", {}).items())
    python = f"Python {found['python']}, " if "python" in found else ""
    known = ", ".join(part for part in (found["machine"], python + versions) if part)
    return f"({link(name)}: {found['date']}; {known}.)"


def link(name: str) -> str:
    """A link to a stored result."""
    return f"[{name}.json](../benchmarks/results/{name}.json)"


def table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def mean_rows(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means over the recordings that have a figure."""
    return {
        **{
            key: [mean(row[key][index] for row in rows) for index in (0, 1)]
            for key in ("filmed", "consensus", "spread")
        },
        "head": mean(row["head"] for row in rows),
    }


def mean(values: Iterable[float | None]) -> float:
    """Of those that are there."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known)


def pair(values: Sequence[float | None]) -> str:
    """Two correlations, a dash for what was not measured."""
    return ", ".join("-" if value is None else f"{value:.2f}" for value in values)


def beside(ours: Sequence[float | None], others: Sequence[float | None]) -> str:
    """Two pairs, or nothing where there is no ours."""
    return "" if ours[0] is None else f"{pair(ours)} ({pair(others)})"


def minutes(found: Mapping[str, Any]) -> str:
    return f"{found['sessions'][0]['seconds'] / 60:.0f}"


def percent(share: float, digits: int = 0) -> str:
    return f"{100 * share:.{digits}f} %"


def two(value: float) -> str:
    """Two digits after the point, halves upwards."""
    return str(Decimal(str(value)).quantize(Decimal("0.01"), ROUND_HALF_UP))


def three(value: float) -> str:
    return f"{value:.3f}"


def gigabytes(megabytes: float) -> str:
    return f"{two(megabytes / 1000)} GB"


if __name__ == "__main__":
    raise SystemExit(main())
