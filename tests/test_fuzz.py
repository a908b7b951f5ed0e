"""Files with wrong bytes: each is read, or refused with a `UserError`; no other exception, no great memory."""

import resource
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest
import torch
from made_videos import make_video

from segmentation.checkpoint import describe, load
from segmentation.data.class_map import parse_class_map, read_class_map
from segmentation.errors import UserError
from segmentation.inference.video import predict_video
from segmentation.models import create_segmenter
from segmentation.types import Classes

CLASS_MAP = """\
names: {sky: [0, 0, 255], road: [128, 64, 128], "the rest": [1, 2, 3]}
labels: {0: sky, 3: road, 255: the rest}
ignore: [7, [9, 9, 9]]
"""
WORDS = (
    b"null",
    b"[]",
    b"{}",
    b"&a",
    b"*a",
    b"!!python/name:os.system ",
    b"-1",
    b"1e999",
    b"2001-99-99",
    b"\xff",
    b"0" * 5000,
)


def spoiled(content: bytes, random: Random, words: tuple[bytes, ...] = ()) -> bytes:
    """The content with one to four wrong places: a byte changed, some cut out, repeated or put in."""
    for _ in range(random.randint(1, 4)):
        at, length = random.randrange(len(content)), random.randint(1, 20)
        put = [bytes([random.randrange(256)]), b"", content[at : at + length] * 2, *words]
        content = content[:at] + random.choice(put) + content[at + random.choice([1, length]) :]
    return content


def checkpoint(folder: Path) -> Path:
    known = Classes(("background", "thing"), binary=True)
    model = create_segmenter(backbone={"name": "mobilenet_v3_small"}, head={"name": "lraspp"}, outputs=1)
    about = describe(
        model, known, threshold=0.5, size=(64, 64), resize=True, protocol={}, dataset={"name": "shapes"}
    )
    state = {f"model.{name}": value for name, value in model.state_dict().items()}
    torch.save({"segmentation": about, "state_dict": state, "epoch": 3}, folder / "whole.ckpt")
    return folder / "whole.ckpt"


def with_spoiled_description(whole: Path, path: Path, random: Random) -> None:
    """The pickle inside is spoiled, the archive around it whole; or the archive is."""
    if random.random() < 0.2:
        path.write_bytes(spoiled(whole.read_bytes(), random))
        return
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            new.writestr(name, spoiled(content, random) if name.endswith("data.pkl") else content)


@pytest.fixture(autouse=True)
def memory() -> Iterator[None]:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < before + 2**20  # KiB


def outcomes(read: Callable[[Random], object], seeds: int) -> list[str]:
    """What came of each seed."""
    found = []
    for seed in range(seeds):
        try:
            read(Random(seed))
            found.append("read")
        except UserError as error:
            assert "\n" not in str(error)
            found.append("refused")
        except BaseException as error:
            raise AssertionError(f"seed {seed}: {error!r}") from error
    return found


def test_checkpoints(tmp_path: Path) -> None:
    whole = checkpoint(tmp_path)
    load(whole)

    def read(random: Random) -> None:
        with_spoiled_description(whole, tmp_path / "a.ckpt", random)
        load(tmp_path / "a.ckpt")

    assert {*outcomes(read, 40)} == {"read", "refused"}


def test_class_maps(tmp_path: Path) -> None:
    path = tmp_path / "classes.yaml"

    def read(random: Random) -> None:
        path.write_bytes(spoiled(CLASS_MAP.encode(), random, WORDS))
        parse_class_map(read_class_map(path), str(path))

    path.write_text(CLASS_MAP)
    parse_class_map(read_class_map(path), str(path))
    assert {*outcomes(read, 300)} == {"read", "refused"}


@pytest.mark.parametrize(("ending", "codec"), [("mp4", "libx264"), ("avi", "mpeg4"), ("mkv", "libx264")])
def test_videos(ending: str, codec: str, tmp_path: Path) -> None:
    content = make_video(tmp_path / f"whole.{ending}", frames=4, codec=codec).read_bytes()

    def read(random: Random) -> None:
        (tmp_path / f"a.{ending}").write_bytes(spoiled(content, random))
        predict_video(lambda frames: frames, tmp_path / f"a.{ending}", tmp_path / "out")

    assert "read" in outcomes(read, 30)
    assert not [*(tmp_path / "out").glob("*.part*")]
