"""Videos: every source becomes an H.264 file that plays, with its frames, times and sound, whatever happens."""

import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from made_predictors import near
from made_videos import interrupting, make_video, names, numbers, read_video, same, sound_of
from PIL import Image

from segmentation.checkpoint import Trained
from segmentation.config import Span
from segmentation.errors import UserError
from segmentation.inference import Predictor, video_io
from segmentation.inference.video import overlays, predict_video
from segmentation.models import Decision, create_segmenter
from segmentation.types import Classes


def threads() -> int:
    return threading.active_count()


@pytest.fixture
def usual_priority() -> Iterator[None]:
    """As root SVT-AV1 makes its caller a real-time process, and whatever that starts later starves all others."""
    yield
    if hasattr(os, "sched_setscheduler"):
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("h264.mp4", {}),
        ("h264.mkv", {}),
        ("ten_bits.mp4", {"codec": "libx265", "pixels": "yuv420p10le"}),
        ("yuv444.mp4", {"pixels": "yuv444p"}),
        ("vp9.webm", {"codec": "libvpx-vp9"}),
        ("av1.mp4", {"codec": "libsvtav1", "size": (64, 64)}),
        ("a.gif", {"codec": "gif", "pixels": "rgb8"}),
        ("mpeg4.avi", {"codec": "mpeg4"}),
        ("a.ts", {}),
        ("odd.mkv", {"codec": "ffv1", "pixels": "bgr0", "size": (35, 51)}),
        ("mjpeg.mov", {"codec": "mjpeg", "pixels": "yuvj420p"}),
    ],
)
def test_any_source_becomes_h264(
    name: str, options: dict[str, Any], tmp_path: Path, usual_priority: None
) -> None:
    source = make_video(tmp_path / name, **options)
    summary = predict_video(same, source, tmp_path / "out", batch_size=5)
    assert summary.path == tmp_path / "out" / f"{source.stem}.mp4"
    assert names(tmp_path / "out") == [summary.path.name]
    with av.open(str(summary.path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
    content = summary.path.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")  # starts before it is fetched whole
    assert b"moof" not in content
    before, after = read_video(source), read_video(summary.path)
    assert summary.frames == len(before[0]) == len(after[0]) == 12
    assert np.diff(after[1]) == pytest.approx(np.diff(before[1]), abs=1e-3)
    height, width = before[0][0].shape[:2]
    assert after[0][0].shape == (height + height % 2, width + width % 2, 3)
    for one, other in zip(before[0], after[0], strict=True):
        # Block by block, for GIFs are dithered and yuv420p has a quarter of the colours.
        one, other = (
            cv2.resize(frame[:height, :width], (8, 6), interpolation=cv2.INTER_AREA) for frame in (one, other)
        )
        assert np.abs(one.astype(int) - other).mean() < 4


def test_another_decoder_sees_the_same(tmp_path: Path) -> None:
    summary = predict_video(same, make_video(tmp_path / "a.mp4", frames=20), tmp_path / "out", batch_size=3)
    capture = cv2.VideoCapture(str(summary.path))
    assert (capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)) == (25, 20)
    frames = []
    while (step := capture.read())[0]:
        frames.append(step[1][:, :, ::-1])
    assert numbers(frames) == list(range(20))
    # OpenCV 4 reads the colours of every video as BT.601, also where the file says BT.709.
    red = (230, 30, 30) if int(cv2.__version__[0]) >= 5 else (213, 9, 32)
    assert np.abs(frames[5][4:20, 4:28].astype(int) - red).max() < 25


def test_a_variable_frame_rate_keeps_its_times(tmp_path: Path) -> None:
    times = [0, 7, 50, 1050, 1060, 3500, 3533, 9000, 9001, 9020]
    source = make_video(tmp_path / "a.mp4", frames=10, times=times, sound="aac", seconds=9.5)
    frames, after = read_video(predict_video(same, source, tmp_path / "out", batch_size=4).path)
    assert after == pytest.approx([time / 1000 for time in times], abs=1e-4)
    assert numbers(frames) == list(range(10))


@pytest.mark.parametrize(
    ("name", "sound", "options", "kept"),
    [
        ("a.mp4", "aac", {}, "aac"),
        ("a.mp4", "libmp3lame", {}, "mp3float"),
        ("a.webm", "libopus", {"codec": "libvpx-vp9"}, "opus"),
        ("a.ts", "aac", {}, "aac"),
        ("a.avi", "pcm_s16le", {"codec": "mpeg4"}, "aac"),
        ("a.mkv", "ac3", {}, "aac"),
    ],
)
def test_sound_is_kept(name: str, sound: str, options: dict[str, Any], kept: str, tmp_path: Path) -> None:
    source = make_video(tmp_path / name, sound=sound, seconds=1.5, **options)
    summary = predict_video(same, source, tmp_path / "out")
    codec, seconds = sound_of(summary.path)
    assert codec == kept
    assert seconds == pytest.approx(sound_of(source)[1], abs=0.06)  # a packet of AAC is 0.02 s


def test_sound_stays_with_the_picture(tmp_path: Path) -> None:
    source = make_video(tmp_path / "a.ts", times=range(2000, 2480, 40), sound="aac", seconds=3)
    after = predict_video(same, source, tmp_path / "out").path
    assert read_video(after)[1][0] == pytest.approx(2.0, abs=0.03)
    assert sound_of(after)[1] == pytest.approx(3.0, abs=0.06)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_frames_are_turned_as_the_phone_was_held(degrees: int, mirrored: bool, tmp_path: Path) -> None:
    source = make_video(tmp_path / "a.mp4", frames=2, rotation=(degrees, mirrored))
    seen = []
    summary = predict_video(lambda frames: seen.append(frames) or frames, source, tmp_path / "out")
    stored = read_video(source)[0][0]
    upright = np.rot90(stored, degrees // 90)
    assert np.array_equal(seen[0][0], upright[:, ::-1] if mirrored else upright)
    if not mirrored:  # which this judge knows nothing of
        capture = cv2.VideoCapture(str(source))
        assert np.abs(capture.read()[1][:, :, ::-1].astype(int) - upright).max() < 4
    with av.open(str(summary.path)) as container:
        assert next(container.decode(video=0)).rotation == 0


def test_pixels_that_are_not_square_stay_so(tmp_path: Path) -> None:
    source = make_video(tmp_path / "a.mp4", aspect=Fraction(4, 3))
    with av.open(str(predict_video(same, source, tmp_path / "out").path)) as container:
        assert container.streams.video[0].sample_aspect_ratio == Fraction(4, 3)


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_what_is_rendered_is_written_in_order(batch_size: int, tmp_path: Path) -> None:
    random = np.random.default_rng(0)

    def negative(frames_NHW3: np.ndarray) -> np.ndarray:
        time.sleep(random.uniform(0, 0.01))
        return 255 - frames_NHW3

    source = make_video(tmp_path / "a.mp4", frames=30)
    summary = predict_video(negative, source, tmp_path / "out", batch_size=batch_size)
    frames = [255 - frame for frame in read_video(summary.path)[0]]
    assert numbers(frames) == list(range(30))


def test_stages_overlap_and_say_how_busy_they_were(tmp_path: Path) -> None:
    source = make_video(tmp_path / "a.mp4", frames=20, sound="aac")

    def slow(frames_NHW3: np.ndarray) -> np.ndarray:
        time.sleep(0.1)
        return frames_NHW3

    summary = predict_video(slow, source, tmp_path / "out", batch_size=2)
    assert summary.fps == pytest.approx(20 / summary.seconds)
    assert set(summary.shares) == {"decode", "inference", "encode"}
    assert summary.shares["inference"] > 0.7
    assert "20 frames in" in str(summary)
    assert "inference" in str(summary)


def test_nothing_is_written_over(tmp_path: Path) -> None:
    source = make_video(tmp_path / "a.mp4", frames=2)
    content = source.read_bytes()
    paths = [predict_video(same, source, tmp_path).path.name for _ in range(2)]
    assert paths == ["a-2.mp4", "a-3.mp4"]
    assert source.read_bytes() == content


@pytest.mark.parametrize(
    ("number", "kind"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)]
)
def test_an_interrupted_run_leaves_a_whole_video(
    number: int, kind: type[BaseException], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = make_video(tmp_path / "a.mp4", frames=30, sound="aac", seconds=1.2)
    before, handler = threads(), signal.getsignal(number)
    with pytest.raises(kind):
        predict_video(interrupting(20, number), source, tmp_path / "out", batch_size=2)
    assert (threads(), signal.getsignal(number)) == (before, handler)
    assert names(tmp_path / "out") == ["a.mp4"]
    frames, times = read_video(tmp_path / "out" / "a.mp4")
    assert numbers(frames) == list(range(len(frames)))
    assert 18 <= len(frames) <= 20
    assert f"a.mp4 gets the {len(frames)} frames so far" in caplog.text
    assert sound_of(tmp_path / "out" / "a.mp4")[1] == pytest.approx(times[-1], abs=0.06)


@pytest.mark.parametrize("batch", [1, 3])
def test_an_error_while_rendering_ends_everything(batch: int, tmp_path: Path) -> None:
    source = make_video(tmp_path / "a.mp4", frames=30)
    calls, before = 0, threads()

    def fails(frames_NHW3: np.ndarray) -> np.ndarray:
        nonlocal calls
        calls += 1
        if calls == batch:
            raise ArithmeticError("a weight is missing")
        return frames_NHW3

    with pytest.raises(ArithmeticError, match="a weight is missing"):
        predict_video(fails, source, tmp_path / "out", batch_size=4)
    assert threads() == before
    left = names(tmp_path / "out")
    assert left == ([] if batch == 1 else ["a.mp4"])
    if left:
        assert numbers(read_video(tmp_path / "out" / "a.mp4")[0]) == list(range(8))


def test_an_error_while_writing_ends_everything(tmp_path: Path) -> None:
    source = make_video(tmp_path / "a.mp4", frames=30)
    before = threads()
    with pytest.raises(ValueError, match=r"shape|dimension|array"):
        predict_video(lambda frames: frames[..., 0], source, tmp_path / "out", batch_size=1)
    assert threads() == before
    assert names(tmp_path / "out") == []


def test_a_full_disk_is_said(tmp_path: Path) -> None:
    source = make_video(tmp_path / "a.mp4", frames=40, size=(240, 320))
    random = np.random.default_rng(0)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(UserError, match=r"a\.part\.mp4 cannot be written: File too large"):
            predict_video(
                lambda frames: random.integers(0, 255, frames.shape, np.uint8), source, tmp_path / "out"
            )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_damaged_frames_are_left_out_and_counted(tmp_path: Path) -> None:
    source = make_video(tmp_path / "a.mkv", frames=30, codec="mjpeg", pixels="yuvj420p", size=(96, 128))
    with av.open(str(source)) as container:
        sizes = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    content = bytearray(source.read_bytes())
    for index in (7, 8, 20):
        place = content.index(b"\xff\xd8", sizes[index][0])
        content[place : place + sizes[index][1] - 20] = bytes(sizes[index][1] - 20)
    source.write_bytes(content)
    summary = predict_video(same, source, tmp_path / "out")
    frames, times = read_video(summary.path)
    assert summary.damaged == 3
    assert numbers(frames) == [index for index in range(30) if index not in (7, 8, 20)]
    assert times[7] == pytest.approx(9 * 0.04)
    assert "3 damaged" in str(summary)


def test_a_file_that_is_cut_off_gives_what_it_holds(tmp_path: Path) -> None:
    source = make_video(tmp_path / "a.mkv", frames=60, size=(96, 128), sound="aac", seconds=2.4)
    content = source.read_bytes()
    source.write_bytes(content[: len(content) * 2 // 3])
    frames, _ = read_video(predict_video(same, source, tmp_path / "out").path)
    assert 10 < len(frames) < 60


def damaged(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def only_sound(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=48000)
        wave = av.AudioFrame.from_ndarray(np.zeros((2, 4096), np.float32), format="fltp", layout="stereo")
        wave.sample_rate = 48000
        container.mux(stream.encode(wave))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: folder / "none.mp4", r"none\.mp4 cannot be read: there is no such file"),
        (lambda folder: damaged(folder / "a.mp4", b""), r"a\.mp4 cannot be read: it is empty"),
        (lambda folder: damaged(folder / "a.mp4", b"no video at all" * 99), r"a\.mp4 .* damaged"),
        (lambda folder: damaged(folder / "a.mkv", b"\x1a\x45\xdf\xa3" + bytes(999)), r"a\.mkv .* damaged"),
        (
            lambda folder: damaged(folder / "b.mp4", make_video(folder / "a.mp4").read_bytes()[:-900]),
            r"b\.mp4 .* cut off",
        ),
        (lambda folder: only_sound(folder / "a.m4a"), r"a\.m4a holds no video"),
        (lambda folder: damaged(folder / "a.m3u8", b"#EXTM3U\n#EXTINF:9,\na.ts\n"), r"a\.m3u8 .*no video"),
        (lambda folder: damaged(folder / "a.ffconcat", b"ffconcat version 1.0\nfile a.ts\n"), "no video"),
    ],
)
def test_what_is_no_video_is_named(make: Any, words: str, tmp_path: Path) -> None:
    make_video(tmp_path / "a.ts", frames=2)
    with pytest.raises(UserError, match=words):
        predict_video(same, make(tmp_path), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(Path("/dev/video7").exists(), reason="there is such a camera")
def test_a_camera_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"Camera 7 \(/dev/video7\) cannot be opened: .*Cameras here: "
    ) as error:
        predict_video(same, 7, tmp_path)
    assert "\n" not in str(error.value)


def test_a_camera_goes_on_until_it_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fake(number: int) -> Any:
        return av.open(f"testsrc=size=64x48:rate={100 + number},realtime", format="lavfi")

    monkeypatch.setattr(video_io, "open_camera", fake)

    def slow(frames_NHW3: np.ndarray) -> np.ndarray:
        time.sleep(0.05)
        return stop(frames_NHW3)

    stop = interrupting(12, signal.SIGINT)
    summary = predict_video(slow, 0, tmp_path, batch_size=1)
    assert summary.path == tmp_path / "camera0.mp4"
    frames, times = read_video(summary.path)
    assert summary.frames == len(frames) in (11, 12)
    assert summary.dropped > 5
    # The times are the camera's own: the frames that were dropped leave gaps.
    assert times[-1] > 0.3


def test_pyav_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    monkeypatch.delitem(sys.modules, "segmentation.inference.video_io", raising=False)
    monkeypatch.delattr("segmentation.inference.video_io", raising=False)
    with pytest.raises(UserError, match="pip install"):
        predict_video(same, tmp_path / "a.mp4", tmp_path)


def test_recordings_that_were_strung_together_go_on(tmp_path: Path) -> None:
    single = make_video(tmp_path / "a.ts", frames=50, sound="aac", seconds=2)
    smaller = make_video(tmp_path / "b.ts", frames=50, sound="aac", seconds=2, size=(24, 32))
    single.write_bytes(single.read_bytes() + smaller.read_bytes())
    after = predict_video(same, single, tmp_path / "out").path
    frames, times = read_video(after)
    assert np.diff(times) == pytest.approx([0.04] * 99, abs=0.002)
    assert {frame.shape for frame in frames} == {(48, 64, 3)}
    assert sound_of(after)[1] == pytest.approx(4, abs=0.1)


def test_a_format_that_nothing_decodes(tmp_path: Path) -> None:
    source = make_video(tmp_path / "a.avi", codec="mpeg4")
    source.write_bytes(source.read_bytes().replace(b"FMP4", b"ZZZZ"))
    with pytest.raises(UserError, match=r"a\.avi is in a format that cannot be decoded"):
        predict_video(same, source, tmp_path / "out")


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("tile", [None, 32])
def test_overlays_are_those_of_single_pictures(tile: int | None, channels: int) -> None:
    model = create_segmenter(
        backbone={"name": "mobilenet_v3_small"}, head={"name": "deeplabv3"}, outputs=3, channels=channels
    )
    trained = Trained(model, Classes(("a", "b", "c")), Decision(False), (48, 64), False, {}, {})
    predictor = Predictor(trained)
    frames = np.random.default_rng(0).integers(0, 256, (2, 35, 51, 3), np.uint8)
    shown = overlays(predictor, alpha=0.7, tile=tile, overlap=8 if tile else None)(frames)
    assert (shown.shape, shown.dtype) == (frames.shape, np.uint8)
    for frame, picture in zip(frames, shown, strict=True):
        alone = predictor.predict(frame, tile=tile, overlap=8 if tile else None).overlay(0.7)
        assert np.abs(np.asarray(alone).astype(int) - picture).mean() < 1


@pytest.mark.parametrize("binary", [True, False])
def test_masks_and_probabilities_of_frames_are_those_of_pictures(binary: bool, tmp_path: Path) -> None:
    source, predictor = make_video(tmp_path / "a.mp4", frames=6), near(binary=binary)
    stills: Any = {kind: tmp_path / kind for kind in ("mask", "probability")}
    render = overlays(predictor, stills=stills)
    summary = predict_video(render, source, tmp_path / "out", batch_size=4, video=False)
    assert summary.frames == 6 and names(tmp_path / "out") == []
    ending = "png" if binary else "npz"
    assert names(tmp_path / "mask") == [f"{number:06d}.png" for number in range(1, 7)]
    assert names(tmp_path / "probability") == [f"{number:06d}.{ending}" for number in range(1, 7)]
    frame = read_video(source)[0][4]
    expected = predictor.predict(frame).mask * (255 if binary else 1)
    found = np.asarray(Image.open(tmp_path / "mask" / "000005.png"))
    assert found.shape == expected.shape and (found == expected).mean() > 0.98


@pytest.mark.parametrize(
    ("span", "expected"),
    [
        (Span(), [*range(20)]),
        (Span(0.2), [*range(5, 20)]),
        (Span(0.2, 0.6), [*range(5, 15)]),
        (Span(0.2, 0.6, 3), [5, 8, 11, 14]),
        (Span(every=7), [0, 7, 14]),
    ],
)
def test_a_part_of_a_video(span: Span, expected: list[int], tmp_path: Path) -> None:
    source = make_video(tmp_path / "a.mp4", frames=20, sound="aac", seconds=0.8)
    summary = predict_video(same, source, tmp_path / "out", batch_size=3, span=span)
    frames, times = read_video(summary.path)
    assert numbers(frames) == expected
    assert times == pytest.approx([(number - expected[0]) / 25 for number in expected], abs=1e-3)


def test_a_span_behind_the_end_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no frame from start=9"):
        predict_video(same, make_video(tmp_path / "a.mp4"), tmp_path / "out", span=Span(9))
    assert names(tmp_path / "out") == []


def test_a_legend_stands_below_the_frame() -> None:
    frames, predictor = np.zeros((2, 40, 64, 3), np.uint8), near()
    plain, told = (overlays(predictor, legend=legend)(frames) for legend in (False, True))
    assert told.shape[1] > plain.shape[1] == 40
    assert (told[:, :40] == plain).all()
    assert set(predictor.trained.classes.palette) <= {
        tuple(pixel) for pixel in told[0, 40:].reshape(-1, 3).tolist()
    }
