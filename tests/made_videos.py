"""Tiny videos of every kind, and what is in a video."""

import os
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

RATE = 25
STEP = 8
"""Frame number n is grey of n * STEP: so its place can be read from its pixels."""


def make_video(
    path: Path,
    *,
    frames: int = 12,
    size: tuple[int, int] = (48, 64),
    codec: str = "libx264",
    pixels: str = "yuv420p",
    times: Sequence[int] | None = None,
    sound: str | None = None,
    seconds: float = 0.5,
    rotation: tuple[int, bool] | None = None,
    aspect: Fraction | None = None,
) -> Path:
    """Writes grey frames with a red corner at the upper left; `times` are in ms, 40 ms apart unless given."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=RATE)
        stream.height, stream.width, stream.pix_fmt = *size, pixels
        stream.codec_context.time_base = Fraction(1, RATE) if codec == "mpeg4" else Fraction(1, 1000)
        if rotation is not None:
            stream.set_display_rotation(rotation[0], hflip=rotation[1])
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        audio = container.add_stream(sound, rate=48000, layout="stereo") if sound else None
        for index, time in enumerate(times or range(0, 40 * frames, 40)):
            picture = av.VideoFrame.from_ndarray(grey(index, size), format="rgb24")
            picture.pts, picture.time_base = time, Fraction(1, 1000)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
        if audio is not None:
            samples = (np.sin(np.arange(int(seconds * 48000)) / 20) * 9000).astype(np.int16)
            wave = av.AudioFrame.from_ndarray(samples.repeat(2)[None], format="s16", layout="stereo")
            wave.sample_rate, wave.pts, wave.time_base = 48000, 0, Fraction(1, 48000)
            container.mux(audio.encode(wave))
            container.mux(audio.encode(None))
    return path


def grey(index: int, size: tuple[int, int]) -> np.ndarray:
    """Frame number `index` as uint8 (H, W, 3)."""
    picture = np.full((*size, 3), index * STEP % 256, np.uint8)
    picture[: size[0] // 2, : size[1] // 2] = (230, 30, 30)
    return picture


def read_video(path: Path) -> tuple[list[np.ndarray], list[float]]:
    """Frames as uint8 RGB (H, W, 3), and their times in seconds."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
        return [frame.to_ndarray(format="rgb24") for frame in frames], [frame.time for frame in frames]


def numbers(frames: Sequence[np.ndarray]) -> list[int]:
    """The frames' places in their source, read from the grey at the lower right."""
    return [round(float(frame[-16:, -16:].mean()) / STEP) for frame in frames]


def sound_of(path: Path) -> tuple[str, float]:
    """The codec of the sound, and its length in seconds."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        frames = list(container.decode(stream))
        return stream.codec_context.name, sum(frame.samples for frame in frames) / stream.rate


def same(frames_NHW3: np.ndarray) -> np.ndarray:
    """Changes nothing."""
    return frames_NHW3


def names(folder: Path) -> list[str]:
    """What lies in a folder."""
    return sorted(path.name for path in folder.iterdir())


def interrupting(at: int, number: int) -> Callable[[np.ndarray], np.ndarray]:
    """Changes nothing, and sends this process a signal with frame number `at`."""
    count = 0

    def render(frames_NHW3: np.ndarray) -> np.ndarray:
        nonlocal count
        count += len(frames_NHW3)
        if count == at:
            os.kill(os.getpid(), number)
        return frames_NHW3

    return render
