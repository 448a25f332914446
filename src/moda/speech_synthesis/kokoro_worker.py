"""A process of its own around Kokoro: text in, samples and times out.

Started as a file by :mod:`moda.speech_synthesis.kokoro`, by the Python that has ``kokoro``. It
speaks the same protocol as ``espeak_worker.py``: one JSON object in, one line of JSON and 16-bit
samples out.
"""

from __future__ import annotations

import json
import sys
from typing import Any

RATE_HZ = 24_000


def speak(request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """Speak a text; the tokens with their times in seconds, and the samples."""
    try:
        import kokoro  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        return {"error": "missing"}, b""
    import numpy as np

    pipeline = kokoro.KPipeline(lang_code=request["language_code"], repo_id="hexgrad/Kokoro-82M")
    sound, tokens, has_times = [], [], True
    offset = 0.0
    for result in pipeline(request["text"], voice=request["voice"], speed=request["rate"]):
        samples = np.asarray(result.audio, dtype=np.float32).reshape(-1)
        for token in getattr(result, "tokens", None) or ():
            start, end = token.start_ts, token.end_ts
            if start is None or end is None:
                has_times = False
                continue
            text = (token.text or "") + (token.whitespace or "")
            tokens.append([text, token.phonemes or "", offset + start, offset + end])
        sound.append(np.round(np.clip(samples, -1.0, 1.0) * 32767.0).astype("<i2").tobytes())
        offset += len(samples) / RATE_HZ
    header = {"rate_hz": RATE_HZ, "tokens": tokens if has_times else []}
    return header, b"".join(sound)


def main() -> None:
    """Answer the request on standard input; whatever libraries print goes to standard error."""
    answer, sys.stdout = sys.stdout.buffer, sys.stderr
    header, sound = speak(json.load(sys.stdin.buffer))
    answer.write(json.dumps(header).encode() + b"\n" + sound)


if __name__ == "__main__":
    main()
