"""The sound of a video, carried over to another one."""

from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av

from segmentation.inference.video.media import open_media

_KEPT = frozenset({"aac", "mp3", "opus", "flac"})
"""What browsers play out of an MP4; everything else becomes AAC."""

_RATES = frozenset({8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000})
_USUAL_RATE = 48000


class Sound:
    """The best audio stream of a file, if it has one, written piece by piece as the picture goes on.

    `start` is the second of the source that becomes 0. What cannot be decoded is left out.
    """

    def __init__(self, path: Path, start: Fraction) -> None:
        self._source = open_media(path)
        self._stream = self._source.streams.best("audio")
        self._start = start
        self._packets: Iterator[av.Packet] = iter(())
        self._next: av.Packet | None = None

    def attach(self, output: av.container.OutputContainer) -> None:
        """Adds the sound's stream to a video of which nothing is written yet."""
        if not isinstance(self._stream, av.AudioStream) or self._stream.codec_context is None:
            return
        context = self._stream.codec_context
        # In transport streams every packet of AAC brings its own header, which an MP4 has no place for.
        bare = context.name == "aac" and not context.extradata
        if context.codec.canonical_name in _KEPT and not bare:
            target = output.add_stream_from_template(self._stream, opaque=True)
            packets = self._copied(target)
        else:
            rate = self._stream.rate if self._stream.rate in _RATES else _USUAL_RATE
            target = output.add_stream("aac", rate=rate)
            target.layout = "mono" if self._stream.channels == 1 else "stereo"
            packets = self._encoded(target)
        self._packets = _growing(packets)
        self._next = next(self._packets, None)

    def write(self, output: av.container.OutputContainer, until: Fraction | None) -> None:
        """Everything up to a second of the output, or to the end."""
        while self._next is not None and (until is None or _second(self._next) <= until):
            output.mux(self._next)
            self._next = next(self._packets, None)

    def close(self) -> None:
        """Lets go of the file."""
        self._source.close()

    def _copied(self, target: av.AudioStream) -> Iterator[av.Packet]:
        for packet in self._demuxed():
            if packet.dts is not None and packet.pts is not None:
                packet.stream = target
                yield packet

    def _encoded(self, target: av.AudioStream) -> Iterator[av.Packet]:
        for packet in self._demuxed():
            try:
                frames = packet.decode()
            except av.FFmpegError:
                continue
            for frame in frames:
                assert isinstance(frame, av.AudioFrame)
                yield from target.encode(frame)
        yield from target.encode(None)

    def _demuxed(self) -> Iterator[av.Packet]:
        """The source's packets by the output's clock."""
        shift, end = -self._start, None
        # Where a file is cut off, the sound ends as the picture does.
        with suppress(av.FFmpegError):
            for packet in self._source.demux(self._stream):
                if packet.dts is not None and packet.pts is not None and packet.time_base is not None:
                    if end is not None and _second(packet) < end - 1:
                        # As the picture: recordings that were strung together start to count again.
                        shift += end - _second(packet)
                    end = _second(packet) + (packet.duration or 0) * packet.time_base
                    ticks = round(shift / packet.time_base)
                    packet.pts, packet.dts = packet.pts + ticks, packet.dts + ticks
                yield packet


def _growing(packets: Iterator[av.Packet]) -> Iterator[av.Packet]:
    """Without those that go back in time, as damaged files have them; a muxer would refuse them."""
    last = None
    for packet in packets:
        if last is None or _second(packet) > last:
            yield packet
            last = _second(packet)


def _second(packet: av.Packet) -> Fraction:
    return Fraction(packet.dts or 0) * (packet.time_base or 1)
