"""What was written plays in a real browser, sound and all, and so does what a killed process leaves."""

import http.server
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from queue import Queue
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
from conftest import ROOT
from made_videos import STEP, make_video, names, numbers, read_video, same, sound_of

from segmentation.inference.video import predict_video

HERE = Path(__file__).parent
CHROMIUM = Path("/usr/bin/chromium")
FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-component-update "
    "--disable-background-networking --disable-sync --autoplay-policy=no-user-gesture-required"
)
PAGE = """<!doctype html><video id="video" muted></video><script>
  const video = document.getElementById("video");
  const tell = (seen) => fetch("/seen?" + encodeURIComponent(JSON.stringify(seen)));
  video.onerror = () => tell({error: video.error.message});
  video.onended = () => {
    const canvas = document.createElement("canvas"), pen = canvas.getContext("2d");
    [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
    pen.drawImage(video, 0, 0);
    const pixel = (x, y) => [...pen.getImageData(x, y, 1, 1).data].slice(0, 3);
    tell({size: [video.videoWidth, video.videoHeight], seconds: video.duration,
          sound: video.webkitAudioDecodedByteCount > 0, corner: pixel(8, 8), ground: pixel(56, 40)});
  };
  video.src = location.hash.slice(1);
  video.playbackRate = 4;
  video.play();
</script>"""


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder, and hands on what the page tells."""

    def __init__(self, *arguments: Any, seen: Queue[dict[str, Any]], **options: Any) -> None:
        self.seen = seen
        super().__init__(*arguments, **options)

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        if path == "/seen":
            self.seen.put(json.loads(unquote(query)))
        super().do_GET()

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nobody reads it."""


@contextmanager
def served(folder: Path) -> Iterator[tuple[str, Queue[dict[str, Any]]]]:
    seen: Queue[dict[str, Any]] = Queue()
    handler = partial(Handler, seen=seen, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", seen
        finally:
            server.shutdown()


def played(video: Path, profile: Path) -> dict[str, Any]:
    (video.parent / "page.html").write_text(PAGE)
    with served(video.parent) as (address, seen):
        command = [str(CHROMIUM), *FLAGS.split(), f"--user-data-dir={profile}"]
        browser = subprocess.Popen(
            [*command, f"{address}/page.html#{video.name}"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            return seen.get(timeout=60)
        finally:
            browser.terminate()
            browser.wait()


@pytest.fixture(scope="module")
def part(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a process leaves that was killed after it had rendered 30 of 31 frames, 0.4 s apart."""
    folder = tmp_path_factory.mktemp("killed")
    source = make_video(folder / "a.mp4", frames=31, times=range(0, 31 * 400, 400), sound="aac", seconds=12)
    code = (
        f"import sys; sys.path.insert(0, {str(HERE.parent)!r})\n"
        "from pathlib import Path; from made_videos import interrupting\n"
        "from segmentation.inference.video import predict_video\n"
        f"predict_video(interrupting(30, 9), Path({str(source)!r}), Path({str(folder / 'out')!r}), batch_size=1)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == -9
    assert names(folder / "out") == ["a.part.mp4"]
    return folder / "out" / "a.part.mp4"


def test_a_killed_run_leaves_a_video_that_plays(part: Path) -> None:
    frames, times = read_video(part)
    assert 5 <= len(frames) < 30
    assert numbers(frames) == list(range(len(frames)))
    assert times == pytest.approx([index * 0.4 for index in range(len(frames))])
    assert sound_of(part)[1] > 1


@pytest.mark.skipif(not CHROMIUM.exists(), reason="chromium is not installed")
@pytest.mark.parametrize("kind", ["whole", "killed"])
def test_a_browser_plays_it(kind: str, part: Path, tmp_path: Path) -> None:
    source = make_video(
        tmp_path / "a.mkv", frames=31, codec="mpeg4", size=(47, 63), sound="ac3", seconds=1.24
    )
    video = predict_video(same, source, tmp_path / "out").path if kind == "whole" else part
    frames, times = read_video(video)
    seen = played(video, tmp_path / "profile")
    assert (seen["size"], seen["sound"]) == ([64, 48], True)
    assert seen["seconds"] == pytest.approx(times[-1] + np.diff(times)[-1], abs=0.1)
    assert seen["ground"] == pytest.approx([(len(frames) - 1) * STEP] * 3, abs=6)
    assert seen["corner"] == pytest.approx([230, 30, 30], abs=12)
