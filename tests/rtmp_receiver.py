"""A server of RTMP in a process of its own: waits for one stream and writes down what came.

    python rtmp_receiver.py ADDRESS FILE.npz

PyAV holds the interpreter's lock while it connects, so sender and receiver are two processes.
"""

import sys

import av
import numpy as np


def main(address: str, path: str) -> None:
    levels, times, sound = [], [], []
    with av.open(address, options={"listen": "1"}, timeout=60.0) as container:
        codecs = [stream.codec_context.name for stream in container.streams]
        try:
            for frame in container.decode(*container.streams):
                if isinstance(frame, av.VideoFrame):
                    levels.append(frame.to_ndarray(format="gray").mean())
                    times.append(frame.time)
                elif isinstance(frame, av.AudioFrame):
                    sound.append(frame.to_ndarray()[0])
        except OSError:  # FFmpeg's word for a sender who has hung up
            pass
    np.savez(path, codecs=codecs, levels=levels, times=times, sound=np.concatenate(sound))


if __name__ == "__main__":
    main(*sys.argv[1:])
