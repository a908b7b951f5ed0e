"""RGB frames -> H.264 in MP4, playable at every moment of its writing."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace

from segmentation.errors import UserError
from segmentation.inference.video.sound import Sound
from segmentation.inference.writing import whole

_CODEC = {
    "preset": "veryfast",  # the processor is wanted for the model
    "crf": "20",  # edges of masks stay sharp
    "bf": "0",  # frames are stored in the order in which they are shown: exact times in every player
}
# A fragment a second: whatever kills the process, the file plays up to the last one that was written.
_FRAGMENTS = {
    "movflags": "frag_keyframe+delay_moov+default_base_moof",
    "frag_duration": "1000000",
    "flush_packets": "1",
}


class Writer:
    """The video at `path`: yuv420p, BT.709, with the sound of the source.

    Frames keep their times. Odd sizes grow to even ones, which yuv420p needs: the last row or column is
    repeated. Closing ends the file properly, also after an error; `finish` makes it one that starts fast.
    """

    def __init__(
        self, path: Path, *, time_base: Fraction, rate: Fraction, aspect: Fraction, sound: Sound | None
    ) -> None:
        self.frames = 0
        self._path = path
        self._time_base, self._rate, self._aspect, self._sound = time_base, rate, aspect, sound
        self._output = av.open(f"file:{path}", "w", format="mp4", options=_FRAGMENTS)
        self._stream: av.VideoStream | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with _said(self._path):
                if self._stream is not None:
                    self._output.mux(self._stream.encode(None))
                self._output.close()
        except UserError:
            if error is None:  # else the first one says more
                raise
        finally:
            if self._sound is not None:
                self._sound.close()

    def write(self, frames_NHW3: np.ndarray, times: Sequence[int]) -> None:
        """Adds uint8 RGB frames, shown from so many ticks on, and the sound up to them.

        Raises `UserError` where the disk is full.
        """
        with _said(self._path):
            for frame_HW3, time in zip(frames_NHW3, times, strict=True):
                self._write(frame_HW3, time)

    def end(self) -> None:
        """Adds what is left of the sound: after the last frame of a whole video."""
        with _said(self._path):
            if self._sound is not None:
                self._sound.write(self._output, until=None)

    def _write(self, frame_HW3: np.ndarray, time: int) -> None:
        height, width = frame_HW3.shape[:2]
        if height % 2 or width % 2:
            frame_HW3 = np.pad(frame_HW3, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        if self._stream is None:
            self._stream = self._start(*frame_HW3.shape[:2])
        frame = av.VideoFrame.from_ndarray(frame_HW3, format="rgb24").reformat(
            format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
        )
        frame.pts, frame.time_base = time, self._time_base
        self._output.mux(self._stream.encode(frame))
        self.frames += 1
        if self._sound is not None:
            self._sound.write(self._output, until=time * self._time_base)

    def _start(self, height: int, width: int) -> av.VideoStream:
        stream = self._output.add_stream("libx264", rate=self._rate, options=_CODEC)
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        context = stream.codec_context
        context.time_base, context.sample_aspect_ratio = self._time_base, self._aspect
        context.colorspace = context.color_primaries = context.color_trc = 1  # BT.709
        context.color_range = ColorRange.MPEG
        if self._sound is not None:
            self._sound.attach(self._output)
        return stream


def finish(part: Path, path: Path) -> None:
    """Makes of a fragmented MP4 the video at `path`, its index first: it starts and seeks at once in a browser.

    Raises `UserError` where the disk is full; `part` is left then.
    """
    with (
        _said(path),
        whole(path) as copy,
        av.open(f"file:{part}") as source,
        av.open(f"file:{copy}", "w", format="mp4", options={"movflags": "faststart"}) as output,
    ):
        targets = {
            stream.index: output.add_stream_from_template(stream, opaque=True)
            for stream in (*source.streams.video, *source.streams.audio)
        }
        for packet in source.demux(*(source.streams[index] for index in targets)):
            if packet.dts is not None:
                packet.stream = targets[packet.stream_index]
                output.mux(packet)
    part.unlink()


@contextmanager
def _said(path: Path) -> Iterator[None]:
    try:
        yield
    except av.FFmpegError as error:
        raise UserError(
            f"{path} cannot be written: {error.strerror}. Make room, or give another folder."
        ) from error
