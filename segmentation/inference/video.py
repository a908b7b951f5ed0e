"""Prediction on videos and cameras: a function of frames in, a video that browsers play out."""

import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from segmentation.errors import UserError
from segmentation.inference.inputs import as_pixels
from segmentation.inference.outputs import ALPHA
from segmentation.inference.prefetch import Pipeline, terminable

if TYPE_CHECKING:
    from segmentation.inference.predictor import Predictor
    from segmentation.inference.video_io import Reader, Writer

log = logging.getLogger(__name__)

Render = Callable[[np.ndarray], np.ndarray]
"""Frames as uint8 RGB (N, H, W, 3) -> what shall be shown instead, of the same shape."""

_SAY_EVERY = 10.0  # seconds between two words on how far it is


@dataclass(frozen=True)
class VideoSummary:
    """What was written, and how fast.

    `shares` says for what part of the time the stages `decode`, `inference` and `encode` were busy: they overlap,
    so the parts may add up to more than 1, and the one near 1 is what the others wait for. `damaged` counts what
    could not be decoded and was left out, `dropped` the frames of a camera that came too fast.
    """

    path: Path
    frames: int
    seconds: float
    shares: dict[str, float]
    damaged: int
    dropped: int

    @property
    def fps(self) -> float:
        """Frames a second, from the first one that was asked for to the end of the file."""
        return self.frames / self.seconds

    def __str__(self) -> str:
        busy = ", ".join(f"{stage} {share:.0%}" for stage, share in self.shares.items())
        left = f"; {self.damaged} damaged frames left out" if self.damaged else ""
        left += f"; {self.dropped} frames dropped" if self.dropped else ""
        return (
            f"{self.path}: {self.frames} frames in {self.seconds:.1f} s, {self.fps:.1f} frames/s "
            f"(busy: {busy}{left})"
        )


def overlays(
    predictor: "Predictor", *, alpha: float = ALPHA, tile: int | None = None, overlap: int | None = None
) -> Render:
    """What draws a predictor's answers over frames; `alpha`, `tile` and `overlap` as for single pictures.

    Raises `UserError` where `Predictor.tiling` does.
    """
    tiling = predictor.tiling(tile=tile, overlap=overlap, batch_size=1)

    def render(frames_NHW3: np.ndarray) -> np.ndarray:
        pictures = [as_pixels(frame, predictor.trained.channels) for frame in frames_NHW3]
        if tiling is None:
            found = predictor.predict_all(pictures)
        else:
            found = [predictor.predict_tiles(picture, tiling) for picture in pictures]
        return np.stack([np.asarray(prediction.overlay(alpha)) for prediction in found])

    return render


def predict_video(render: Render, source: Path | int, output: Path, *, batch_size: int = 4) -> VideoSummary:
    """Writes what `render` makes of a video file, or of the camera of that number, into the folder `output`.

    The video is named after the file (`camera0.mp4` for a camera) and never written over another; its frames
    keep their times and its sound. Decoding, `render` (in the caller's thread) and encoding overlap.

    Ctrl-C is how a camera ends. A file that is interrupted by it, by SIGTERM or by an error leaves a video of all
    frames rendered so far, and the interruption goes on to the caller. While the video is written it is called
    `NAME.part.mp4`; that one plays, too, should the process be killed.

    Raises `UserError` for a source that cannot be read, a disk that is full, and where PyAV is missing.
    """
    try:
        from segmentation.inference import video_io
    except ModuleNotFoundError as error:
        if error.name != "av":
            raise
        raise UserError("Videos need PyAV: pip install 'segmentation[video]'.") from error

    with video_io.Reader(source) as reader, terminable():
        voice = None if isinstance(source, int) else video_io.Sound(source, reader.start)
        part, path = _reserve(output, f"camera{source}" if isinstance(source, int) else source.stem)
        writer = video_io.Writer(
            part, time_base=reader.time_base, rate=reader.rate, aspect=reader.aspect, sound=voice
        )
        overlap = Pipeline(
            read=reader.batches(batch_size),
            work=lambda batch: (render(batch.pixels), batch.times),
            write=lambda done: writer.write(*done),
            live=isinstance(source, int),
        )
        begin = time.perf_counter()
        try:
            with writer, _telling(reader, writer):
                _run(overlap)
                writer.end()
        except BaseException:
            if writer.frames:
                log.warning("Stopped early: %s gets the %d frames so far.", path, writer.frames)
            raise
        finally:
            if writer.frames:
                video_io.finish(part, path)
            else:
                part.unlink()
        seconds = time.perf_counter() - begin
    stages = zip(("decode", "inference", "encode"), overlap.seconds.values(), strict=True)
    return VideoSummary(
        path=path,
        frames=writer.frames,
        seconds=seconds,
        shares={stage: busy / seconds for stage, busy in stages},
        damaged=reader.damaged,
        dropped=overlap.dropped * batch_size,
    )


def _run(overlap: Pipeline) -> None:
    try:
        overlap.run()
    except KeyboardInterrupt:
        if not overlap.live:
            raise


def _reserve(folder: Path, stem: str) -> tuple[Path, Path]:
    """The file to write into, made so that no other process takes it, and its name when it is whole."""
    folder.mkdir(parents=True, exist_ok=True)
    names = itertools.chain([stem], (f"{stem}-{number}" for number in itertools.count(2)))
    for name in names:
        part, path = folder / f"{name}.part.mp4", folder / f"{name}.mp4"
        with suppress(FileExistsError):
            if not path.exists():
                part.open("x").close()
                break
    return part, path


@contextmanager
def _telling(reader: "Reader", writer: "Writer") -> Iterator[None]:
    """Says now and then how far the work is."""
    done, of = threading.Event(), f" of {reader.total}" if reader.total else ""

    def tell() -> None:
        while not done.wait(_SAY_EVERY):
            log.info("%d%s frames", writer.frames, of)

    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
