"""The cache changes nothing but the time: same batches, never half, never stale, never more than there is room for."""

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_data import flat, mask, save

from segmentation.data import create_source, places
from segmentation.data.augmentation import training_transform
from segmentation.data.cache import Cached, cached
from segmentation.data.datamodule import SegmentationData
from segmentation.data.source import Samples, Source
from segmentation.data.store import Store
from segmentation.errors import UserError
from segmentation.settings import DataSettings

KINDS = ["ram", "disk"]


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "segmentation"


def pictures(root: Path) -> Source:
    """Pairs of different sizes."""
    random = np.random.default_rng(0)
    for number in range(12):
        height, width = 40 + number, 70 - number
        save(root / "images" / f"p{number}.png", random.integers(0, 256, (height, width, 3), dtype=np.uint8))
        save(root / "masks" / f"p{number}.png", mask(0, 255, height=height, width=width))
    return create_source(name="binary", root=str(root))


def shapes(root: Path) -> Source:
    return create_source(name="shapes", train=9, val=4, test=4)


def batches(source: Source, cache: Any = "none", *, resize: bool = True, workers: int = 0) -> list[Any]:
    """Two epochs of training and one of validation and test."""
    settings = DataSettings(size=(32, 48), resize=resize, batch_size=4, workers=workers, cache=cache)
    changes = training_transform(**settings.input, scale=[0.5, 2.0], flip=0.5, colour=0.5)
    data = SegmentationData(source, changes, settings, seed=3)
    loader = data.train_dataloader()
    given = []
    for epoch in range(2):
        loader.batch_sampler.sampler.set_epoch(epoch)
        given += list(loader)
    return [*given, *data.val_dataloader(), *data.test_dataloader()]


def assert_equal(one: list[Any], other: list[Any]) -> None:
    assert len(one) == len(other)
    for mine, theirs in zip(one, other, strict=True):
        assert mine["name"] == theirs["name"]
        assert torch.equal(mine["image"], theirs["image"])
        assert all(map(torch.equal, mine["mask"], theirs["mask"]))


@pytest.mark.parametrize("make", [pictures, shapes])
@pytest.mark.parametrize("resize", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_the_same_batches_bit_by_bit(make: Any, resize: bool, kind: str, tmp_path: Path) -> None:
    source = make(tmp_path)
    plain = batches(source, resize=resize)
    assert_equal(batches(source, kind, resize=resize), plain)  # filled
    assert_equal(batches(source, kind, resize=resize), plain)  # found


@pytest.mark.parametrize("kind", KINDS)
def test_workers_share_it(kind: str, tmp_path: Path) -> None:
    source = pictures(tmp_path)
    assert_equal(batches(source, kind, workers=2), batches(source))


class Counted:
    """Samples that remember which of them were read."""

    def __init__(self, samples: Samples) -> None:
        self.samples = samples
        self.read: list[int] = []

    @property
    def names(self) -> Any:
        return self.samples.names

    def trace(self) -> Any:
        return self.samples.trace()  # type: ignore[attr-defined]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Any:
        self.read.append(index)
        return self.samples[index]


def fill(samples: Samples, kind: Any) -> tuple[Samples, set[int]]:
    """The cached samples, and those that had to be read for it."""
    counted = Counted(samples)
    return cached({"train": counted}, kind)["train"], set(counted.read)


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_filled_once_and_again_when_a_file_changes(kind: str, tmp_path: Path, own_folder: Path) -> None:
    train = pictures(tmp_path).train
    everything = set(range(len(train)))
    first, read = fill(train, kind)
    assert read == everything
    second, read = fill(train, kind)
    assert not read
    assert np.array_equal(second[1]["image"], train[1]["image"])
    path = tmp_path / "images" / f"{train.names[1]}.png"
    changed = np.full_like(first[1]["image"], 7)
    save(path, changed)
    third, read = fill(train, kind)
    assert read == everything
    assert (third[1]["image"] == 7).all()
    assert len(list(own_folder.glob("*-*"))) == 1  # the old one is gone


@pytest.mark.parametrize("kind", KINDS)
def test_other_bands_are_another_cache(kind: str, tmp_path: Path) -> None:
    pictures(tmp_path)
    for channels in (3, 1):
        source = create_source(channels, name="binary", root=str(tmp_path))
        samples, read = fill(source.train, kind)
        assert read
        assert samples[0]["image"].shape[2] == channels


def test_samples_may_be_changed_and_stay_as_they_were(tmp_path: Path) -> None:
    train, _ = fill(pictures(tmp_path).train, "ram")
    before = train[0]["image"].copy()
    train[0]["image"][:] = 0
    assert np.array_equal(train[0]["image"], before)


@pytest.mark.parametrize("kind", KINDS)
def test_it_opens_in_another_process(kind: str, tmp_path: Path) -> None:
    train, _ = fill(pictures(tmp_path).train, kind)
    assert isinstance(train, Cached)
    (tmp_path / "store").write_bytes(pickle.dumps(train._store))
    code = "import pickle, sys; store = pickle.load(open(sys.argv[1], 'rb')); print(store.read(2)[0].sum())"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "store")], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) == int(train[2]["image"].sum())


def test_memory_is_given_back(tmp_path: Path, own_folder: Path) -> None:
    samples = pictures(tmp_path).train
    train, _ = fill(samples, "ram")
    del train
    place = places.Memory(samples)
    assert place.find() is None
    assert fill(samples, "ram")[1]


@pytest.mark.parametrize(
    "spoil",
    [lambda data: data[:-1], lambda data: b"", lambda data: data[:40], lambda data: b"\0" * len(data)],
)
def test_a_damaged_file_is_filled_anew(spoil: Any, tmp_path: Path, own_folder: Path) -> None:
    samples = pictures(tmp_path).train
    train, _ = fill(samples, "disk")
    (file,) = own_folder.glob("*.cache")
    whole = file.read_bytes()
    del train
    file.write_bytes(spoil(whole))
    again, read = fill(samples, "disk")
    assert read
    assert file.read_bytes() == whole
    assert np.array_equal(again[0]["image"], samples[0]["image"])


def test_a_file_of_other_data_is_refused(tmp_path: Path) -> None:
    samples = pictures(tmp_path).train
    fill(samples, "disk")
    place = places.Disk(samples)
    with pytest.raises(ValueError, match="something else"):
        Store(str(place._path), bytes(32))


class Stopped(Counted):
    def __getitem__(self, index: int) -> Any:
        if len(self.read) > 40:
            raise KeyboardInterrupt
        return super().__getitem__(index)


def test_an_interrupted_filling_leaves_nothing(tmp_path: Path, own_folder: Path) -> None:
    train = create_source(name="shapes", train=60, val=1, test=1).train
    with pytest.raises(KeyboardInterrupt):
        cached({"train": Stopped(train)}, "disk")
    assert not list(own_folder.glob("*-*"))
    assert fill(train, "disk")[1] == set(range(60))


_FILLING = """
import os, sys
from segmentation.data import create_source
from segmentation.data.cache import cached
from segmentation.data.shapes import Shapes
real = Shapes.__getitem__
def slow(self, index):
    os.write(1, b"%d\\n" % index)
    return real(self, index)
Shapes.__getitem__ = slow
cached({'train': create_source(name='shapes', train=int(sys.argv[1]), val=1, test=1).train}, sys.argv[2])
"""


def filling(count: int, kind: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", _FILLING, str(count), kind], stdout=subprocess.PIPE, text=True
    )


def test_a_killed_filling_is_never_used(own_folder: Path) -> None:
    with filling(100_000, "disk") as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) > 200 and list(own_folder.glob("*.part")):
                break
        process.send_signal(signal.SIGKILL)
    assert [path.suffix for path in own_folder.glob("*-*")] == [".part"]
    place = places.Disk(create_source(name="shapes", train=100_000, val=1, test=1).train)
    assert place.find() is None
    with place.lock(), place.create():  # neither the lock nor the rest stands in the way
        assert len(list(own_folder.glob("*.part"))) == 1
    assert not list(own_folder.glob("*-*"))


@pytest.mark.parametrize("kind", KINDS)
def test_one_process_fills_and_the_others_wait(kind: str, own_folder: Path) -> None:
    processes = [filling(200, kind) for _ in range(2)]
    reads = [len(process.communicate()[0].splitlines()) for process in processes]
    assert all(process.returncode == 0 for process in processes)
    looks = 32
    assert sum(count > 2 * looks for count in reads) >= 1
    if kind == "disk":  # memory is gone with the process that had it, if nobody else came meanwhile
        assert sum(count > 2 * looks for count in reads) == 1


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (
            "ram",
            ("data.cache=ram would take 110.6 KB for train and val", "100.0 KB are free", "data.cache=disk"),
        ),
        ("disk", ("data.cache=disk would take 110.6 KB", "100.0 KB are free in", "XDG_CACHE_HOME")),
    ],
)
def test_too_large_is_said_before_anything_is_written(
    kind: Any, words: tuple[str, ...], own_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in (places.Disk, places.Memory):
        monkeypatch.setattr(place, "free", lambda self: 100_000)
    source = create_source(name="shapes", size=48, train=10, val=2, test=2)
    with pytest.raises(UserError) as caught:
        cached({"train": source.train, "val": source.val}, kind)
    for word in words:
        assert word in str(caught.value)
    assert not list(own_folder.glob("*"))


def test_larger_than_it_looked(monkeypatch: pytest.MonkeyPatch, own_folder: Path) -> None:
    left: Iterator[int] = iter([10**7, *[10**6] * 9])
    monkeypatch.setattr(places.Disk, "free", lambda self: next(left))
    with pytest.raises(UserError, match=r"taken 4.2 MB for 256 of 300 images of train, and 1.0 MB are left"):
        fill(create_source(name="shapes", train=300, val=1, test=1).train, "disk")
    assert not list(own_folder.glob("*-*"))


def test_a_folder_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    for kind in ("ram", "disk"):
        with pytest.raises(UserError, match="Set XDG_CACHE_HOME to another folder"):
            fill(create_source(name="shapes", train=3, val=1, test=1).train, kind)


def test_a_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*values: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("segmentation.data.store.Writer.add", full)
    with pytest.raises(UserError, match="cannot be written: No space left on device"):
        fill(create_source(name="shapes", train=3, val=1, test=1).train, "disk")


@pytest.mark.parametrize("kind", KINDS)
def test_a_broken_file_is_named(kind: Any, tmp_path: Path, own_folder: Path) -> None:
    source = create_source(**flat(tmp_path))
    broken = tmp_path / "images" / f"{source.train.names[2]}.png"
    broken.write_bytes(b"no picture")
    with pytest.raises(UserError, match=broken.name):
        cached({"train": source.train}, kind)


def test_samples_without_a_trace() -> None:
    with pytest.raises(TypeError, match="list has no trace"):
        cached({"train": []}, "ram")  # type: ignore[dict-item]


def test_test_images_are_kept_only_where_they_are_those_of_val(tmp_path: Path, own_folder: Path) -> None:
    source = shapes(tmp_path)
    batches(source, "disk")
    assert len(list(own_folder.glob("*.cache"))) == 2
    batches(Source(source.classes, source.train, source.val, source.val), "disk")
    assert len(list(own_folder.glob("*.cache"))) == 2


def test_from_the_cache_is_faster(tmp_path: Path) -> None:
    source = create_source(name="shapes", size=128, train=20, val=1, test=1)
    train, _ = fill(source.train, "ram")
    seconds = []
    for samples in (source.train, train):
        start = time.process_time()
        for index in range(20):
            samples[index]
        seconds.append(time.process_time() - start)
    assert seconds[1] < seconds[0] / 4
    assert os.environ["XDG_CACHE_HOME"].startswith(str(tmp_path))
