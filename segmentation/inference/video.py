"""Prediction on videos and cameras, written as a video that browsers play."""

import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from segmentation.config import OutputKind, Span
from segmentation.errors import UserError
from segmentation.inference.inputs import as_pixels, require_first_bands
from segmentation.inference.outputs import ALPHA
from segmentation.inference.prefetch import Pipeline, terminable
from segmentation.visualization import with_legend

if TYPE_CHECKING:
    from segmentation.inference.predictor import Predictor
    from segmentation.inference.video_io import Reader, Writer

log = logging.getLogger(__name__)

Render = Callable[[np.ndarray], np.ndarray]
"""Frames as uint8 RGB (N, H, W, 3) -> the frames to write, of the same shape."""

_LOG_INTERVAL = 10.0  # seconds between two progress messages


@dataclass(frozen=True)
class VideoSummary:
    """What was written, and how fast.

    `shares` is the part of the time that each of the stages `decode`, `inference` and `encode` was busy. They
    overlap, so the parts may add up to more than 1; the one near 1 is the bottleneck. `damaged` counts frames that
    could not be decoded and were left out, `dropped` camera frames that came faster than they were processed.
    """

    path: Path
    frames: int
    seconds: float
    shares: dict[str, float]
    damaged: int
    dropped: int

    @property
    def fps(self) -> float:
        """Frames per second, from the first request for a frame to the end of the file."""
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
    predictor: "Predictor",
    *,
    alpha: float = ALPHA,
    tile: int | None = None,
    overlap: int | None = None,
    legend: bool = False,
    stills: Mapping[OutputKind, Path] = MappingProxyType({}),
) -> Render:
    """A function that draws predictions over frames; `alpha`, `tile` and `overlap` as for single images.

    With `legend` one of the classes is below each frame. `stills` are folders in which masks, probabilities or
    disagreement of the frames are saved as those of single images, numbered from 1, in place of the frames of an
    earlier video. Raises `UserError` where `Predictor.tiling` and `require_first_bands` do.
    """
    require_first_bands(predictor.trained, "A video")
    classes = predictor.trained.classes
    numbers = itertools.count(1)
    tiling = predictor.tiling(tile=tile, overlap=overlap, batch_size=1)

    def render(frames_NHW3: np.ndarray) -> np.ndarray:
        images = [as_pixels(frame, predictor.trained.channels) for frame in frames_NHW3]
        if tiling is None:
            found = predictor.predict_all(images)
        else:
            found = [predictor.predict_tiles(image, tiling) for image in images]
        for prediction in found:
            number = next(numbers)
            for kind, folder in stills.items():
                if number == 1:  # an earlier video may have had more frames
                    _empty(folder)
                ending = ".npz" if kind == "probability" and not classes.binary else ".png"
                prediction.save(folder / f"{number:06d}{ending}", kind)
        drawn = np.stack([np.asarray(prediction.overlay(alpha)) for prediction in found])
        return with_legend(drawn, classes) if legend else drawn

    return render


def _empty(folder: Path) -> None:
    for path in folder.glob("[0-9]" * 6 + ".*"):
        path.unlink()


def predict_video(
    render: Render,
    source: Path | int,
    output: Path,
    *,
    batch_size: int = 4,
    span: Span | None = None,
    video: bool = True,
) -> VideoSummary:
    """Write the rendered frames of a video file, or of the camera with that number, to the folder `output`.

    The video is named after the file (`camera0.mp4` for a camera) and never replaces another; frames keep
    their times, and the sound is kept unless the `span` (default: all) lacks the beginning or the end. Without
    `video` none is written, for a `render` that saves what it finds itself. Decoding, `render` (in the caller's
    thread) and encoding overlap.

    Ctrl-C ends a camera's video. A file interrupted by Ctrl-C, SIGTERM or an error leaves a video of all frames
    rendered so far, and the interruption is raised again. While the video is written it is called
    `NAME.part.mp4`, which also plays if the process is killed.

    Raises `UserError` for a source that cannot be read, a disk that is full, and where PyAV is missing.
    """
    try:
        from segmentation.inference import video_io
    except ModuleNotFoundError as error:
        if error.name != "av":
            raise
        raise UserError("Videos need PyAV: pip install '.[video]'.") from error

    with video_io.Reader(source) as reader, terminable():
        span = span or Span()
        mute = isinstance(source, int) or span.is_cut or not video
        sound = None if mute else video_io.Sound(Path(str(source)), reader.start)
        part, path = _reserve(output, f"camera{source}" if isinstance(source, int) else source.stem)
        writer = video_io.Writer(
            part, time_base=reader.time_base, rate=reader.rate, aspect=reader.aspect, sound=sound
        )

        def write(done: tuple[np.ndarray, tuple[int, ...]]) -> None:
            if video:
                writer.write(*done)
            else:
                writer.frames += len(done[1])

        overlap = Pipeline(
            read=reader.batches(batch_size, span),
            work=lambda batch: (render(batch.pixels), batch.times),
            write=write,
            live=isinstance(source, int),
        )
        begin = time.perf_counter()
        try:
            with writer, _logging_progress(reader, writer):
                _run(overlap)
                writer.end()
        except BaseException:
            if writer.frames and video:
                log.warning("Stopped early: %s gets the %d frames so far.", path, writer.frames)
            raise
        finally:
            if writer.frames and video:
                video_io.finish(part, path)
            else:
                part.unlink()
        seconds = time.perf_counter() - begin
    stages = zip(("decode", "inference", "encode"), overlap.seconds.values(), strict=True)
    return VideoSummary(
        path=path if video else output,
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
    """The file to write to, created so that no other process takes it, and its final name."""
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
def _logging_progress(reader: "Reader", writer: "Writer") -> Iterator[None]:
    """Log the progress from time to time."""
    done, of = threading.Event(), f" of {reader.total}" if reader.total else ""

    def tell() -> None:
        while not done.wait(_LOG_INTERVAL):
            log.info("%d%s frames", writer.frames, of)

    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
