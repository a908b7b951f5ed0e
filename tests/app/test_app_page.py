"""The app in a real browser: a picture is dropped, looked at, thresholded and downloaded; the page asks nobody else."""

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from browser import Tab, driven, needs_browser
from conftest import ROOT
from made_predictors import write_checkpoint
from PIL import Image

import segmentation

pytest.importorskip("gradio", reason="gradio is not installed: pip install '.[app]'")

pytest.importorskip("websockets", reason="websockets is not installed, by which the browser is driven")

pytestmark = needs_browser

_STUB = "Method not implemented."  # what gradio's own page says of a stream that it closes


class Served(NamedTuple):
    address: str
    folder: Path
    process: subprocess.Popen[str]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The app with two untrained models, its temporary folder inside that of the test."""
    folder = tmp_path_factory.mktemp("served")
    one, two = write_checkpoint(folder / "one.ckpt"), write_checkpoint(folder / "two.ckpt", binary=True)
    (folder / "tmp").mkdir()
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "app.py"), f"checkpoint=[{one},{two}]", "port=0", "max_upload=1"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(folder / "tmp")},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.match(r"(http://127\.0\.0\.1:\d+/) \(Ctrl-C ends it\)", line)
        assert found, line
        yield Served(found[1], folder, process)
    finally:
        process.terminate()
        process.communicate(timeout=30)


@pytest.fixture(scope="module")
def tab(served: Served) -> Iterator[Tab]:
    with driven(served.folder) as tab:
        tab.call("Page.navigate", url=served.address)
        tab.wait("!!document.querySelector('#upload input[type=file]')")
        yield tab


def drop(tab: Tab, path: Path) -> None:
    """Instead of what was there."""
    tab.run("document.querySelector('#upload button[aria-label=Clear]')?.click()")
    tab.wait("!!document.querySelector('#upload input[type=file]')")
    tab.upload("#upload input[type=file]", path)


def slide(tab: Tab, name: str, value: float) -> None:
    """As a person moves a slider."""
    tab.run(
        f"""(() => {{
            const range = document.querySelector('#{name} input[type=range]');
            range.value = {value};
            range.dispatchEvent(new Event('input', {{bubbles: true}}));
        }})()"""
    )


def source(tab: Tab, number: int) -> str:
    """The address of the picture of a model."""
    return str(tab.wait(f"document.querySelector('#picture-{number} img')?.src"))


def test_a_picture_is_seen_thresholded_and_downloaded(tab: Tab, served: Served) -> None:
    random = np.random.default_rng(0).integers(0, 255, (6, 9, 3), np.uint8)
    path = served.folder / "scene.png"
    Image.fromarray(random).resize((90, 60)).save(path)
    drop(tab, path)
    first = source(tab, 0)
    for number in (0, 1):
        assert re.search(
            r"(one|two).* \d+ ms", tab.run(f"document.querySelector('#title-{number}').innerText")
        )
    assert "%" in tab.run("document.querySelector('#legend-0').innerText")
    slide(tab, "opacity", 1)
    tab.wait(f"document.querySelector('#picture-0 img')?.src != '{first}'")
    slide(tab, "threshold-1", 1)
    tab.wait("document.querySelector('#legend-1').innerText.trim() == 'background 100.0%'")
    slide(tab, "threshold-1", 0)
    tab.wait("document.querySelector('#legend-1').innerText.trim() == 'thing 100.0%'")
    before = source(tab, 0)
    tab.run("document.querySelectorAll('#view input')[2].click()")
    tab.wait("!!document.querySelector('#class input')")
    tab.wait(f"document.querySelector('#picture-0 img')?.src != '{before}'")
    for kind, name in (("Mask", "scene_mask.png"), ("GeoJSON", "scene.geojson")):
        tab.run(f"document.querySelector('#{kind}-0').click()")
        wait_for(served.folder / name)
    mask_HW = np.asarray(Image.open(served.folder / "scene_mask.png"))
    np.testing.assert_array_equal(mask_HW, segmentation.load(served.folder / "one.ckpt").predict(path).mask)
    assert json.loads((served.folder / "scene.geojson").read_text())["features"]
    assert [line for line in tab.console if line != _STUB] == []


def wait_for(path: Path) -> None:
    """A download that is complete."""
    end = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < end, f"{path.name} does not come"
        time.sleep(0.1)


def test_what_cannot_be_read_is_said_in_words(tab: Tab, served: Served) -> None:
    (served.folder / "notes.jpg").write_text("no picture at all")
    drop(tab, served.folder / "notes.jpg")
    said = tab.wait("document.querySelector('#message [role=alert]')?.innerText")
    assert said.startswith("notes.jpg ") and str(served.folder) not in said
    assert tab.run("document.querySelector('#picture-0 img')") is None
    assert "Traceback" not in tab.run("document.body.innerText")


def test_a_video_is_played(tab: Tab, served: Served) -> None:
    pytest.importorskip("av", reason="videos need PyAV")
    from made_videos import make_video

    drop(tab, make_video(served.folder / "clip.mp4", frames=4))
    tab.wait("document.querySelector('#video-0 video')?.readyState >= 2")
    assert "4 frames" in tab.run("document.querySelector('#title-0').innerText")


def test_the_page_asks_nobody_else_and_leaves_nothing(tab: Tab, served: Served) -> None:
    others = [each for each in tab.requests if not each.startswith((served.address, "data:", "blob:"))]
    assert others == []
    port = int(served.address.split(":")[2].strip("/"))
    own = socket.gethostbyname(socket.gethostname())
    if not own.startswith("127."):
        with pytest.raises(OSError), socket.create_connection((own, port), timeout=2):
            pass
    assert [*(served.folder / "tmp").iterdir()]
    served.process.terminate()
    assert served.process.wait(30) == 143
    assert [
        path for path in (served.folder / "tmp").iterdir() if path.name.startswith("segmentation-app")
    ] == []
