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
from conftest import composed
from made_data import flat, mask, save

from segmentation.config import DataSettings, read_training_settings
from segmentation.data import cache, create_dataset
from segmentation.data.augmentation import training_transform
from segmentation.data.cache import Cached, cached
from segmentation.data.datamodule import SegmentationData
from segmentation.data.dataset import Fingerprint, Samples, SegmentationDataset
from segmentation.errors import UserError
from segmentation.types import Classes


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "segmentation"


def pictures(root: Path) -> SegmentationDataset:
    """Pairs of different sizes."""
    random = np.random.default_rng(0)
    for number in range(12):
        height, width = 40 + number, 70 - number
        save(root / "images" / f"p{number}.png", random.integers(0, 256, (height, width, 3), dtype=np.uint8))
        save(root / "masks" / f"p{number}.png", mask(0, 255, height=height, width=width))
    return create_dataset(name="binary", root=str(root))


def shapes(root: Path) -> SegmentationDataset:
    return create_dataset(name="shapes", train=9, val=4, test=4)


def batches(
    dataset: SegmentationDataset, kind: Any = "none", *, resize: bool = True, workers: int = 0
) -> list[Any]:
    """Two epochs of training and one of validation and test."""
    settings = DataSettings(size=(32, 48), resize=resize, batch_size=4, workers=workers, cache=kind)
    changes = training_transform(**settings.input, scale=[0.5, 2.0], flip=0.5, colour=0.5)
    data = SegmentationData(dataset, changes, settings, seed=3)
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
def test_the_same_batches_bit_by_bit(make: Any, resize: bool, tmp_path: Path) -> None:
    dataset = make(tmp_path)
    plain = batches(dataset, resize=resize)
    assert_equal(batches(dataset, "disk", resize=resize), plain)  # filled
    assert_equal(batches(dataset, "disk", resize=resize), plain)  # found


def test_workers_share_it(tmp_path: Path) -> None:
    dataset = pictures(tmp_path)
    assert_equal(batches(dataset, "disk", workers=2), batches(dataset))


class Counted:
    """Samples that remember which of them were read."""

    def __init__(self, samples: Samples) -> None:
        self.samples = samples
        self.read: list[int] = []

    @property
    def names(self) -> Any:
        return self.samples.names

    def fingerprint(self) -> Any:
        return self.samples.fingerprint()  # type: ignore[attr-defined]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Any:
        self.read.append(index)
        return self.samples[index]


def fill(samples: Samples) -> tuple[Samples, set[int]]:
    """The cached samples, and those that had to be read for it."""
    counted = Counted(samples)
    return cached({"train": counted})["train"], set(counted.read)


def test_it_is_filled_once_and_again_when_a_file_changes(tmp_path: Path, own_folder: Path) -> None:
    train = pictures(tmp_path).train
    everything = set(range(len(train)))
    first, read = fill(train)
    assert read == everything
    second, read = fill(train)
    assert not read
    assert np.array_equal(second[1]["image"], train[1]["image"])
    path = tmp_path / "images" / f"{train.names[1]}.png"
    changed = np.full_like(first[1]["image"], 7)
    save(path, changed)
    third, read = fill(train)
    assert read == everything
    assert (third[1]["image"] == 7).all()
    assert len(list(own_folder.glob("*-*"))) == 1  # the old one is gone


def test_other_bands_are_another_cache(tmp_path: Path) -> None:
    pictures(tmp_path)
    for channels in (3, 1):
        dataset = create_dataset(channels, name="binary", root=str(tmp_path))
        samples, read = fill(dataset.train)
        assert read
        assert samples[0]["image"].shape[2] == channels


def test_samples_may_be_changed_and_stay_as_they_were(tmp_path: Path) -> None:
    train, _ = fill(pictures(tmp_path).train)
    before = train[0]["image"].copy()
    train[0]["image"][:] = 0
    assert np.array_equal(train[0]["image"], before)


def test_it_opens_in_another_process(tmp_path: Path) -> None:
    train, _ = fill(pictures(tmp_path).train)
    assert isinstance(train, Cached)
    (tmp_path / "pickled").write_bytes(pickle.dumps(train))
    assert (tmp_path / "pickled").stat().st_size < 10_000  # the file's place, and no pixels
    code = "import pickle, sys; cache = pickle.load(open(sys.argv[1], 'rb')); print(cache[2]['image'].sum())"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "pickled")], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) == int(train[2]["image"].sum())


@pytest.mark.parametrize(
    "spoil",
    [lambda data: data[:-1], lambda data: b"", lambda data: data[:40], lambda data: b"\0" * len(data)],
)
def test_a_damaged_file_is_filled_anew(spoil: Any, tmp_path: Path, own_folder: Path) -> None:
    samples = pictures(tmp_path).train
    train, _ = fill(samples)
    (file,) = own_folder.glob("*.cache")
    whole = file.read_bytes()
    del train
    file.write_bytes(spoil(whole))
    again, read = fill(samples)
    assert read
    assert file.read_bytes() == whole
    assert np.array_equal(again[0]["image"], samples[0]["image"])


def test_a_file_of_other_data_is_refused(tmp_path: Path, own_folder: Path) -> None:
    samples = pictures(tmp_path).train
    fill(samples)
    (file,) = own_folder.glob("*.cache")
    with pytest.raises(ValueError, match="something else"):
        Cached(samples.names, file, bytes(32))


def test_another_format_number_is_another_cache(
    tmp_path: Path, own_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = pictures(tmp_path).train
    everything = set(range(len(train)))
    fill(train)
    monkeypatch.setattr(cache, "FORMAT", cache.FORMAT + 1)
    assert fill(train)[1] == everything
    assert not fill(train)[1]
    assert len(list(own_folder.glob("*.cache"))) == 1  # the old one is gone


@pytest.mark.parametrize("library", ["PIL", "cv2"])
def test_another_version_of_a_decoder_is_another_cache(
    library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = pictures(tmp_path).train
    fill(train)
    monkeypatch.setattr(f"{library}.__version__", "99.0")
    assert fill(train)[1] == set(range(len(train)))


class Stopped(Counted):
    def __getitem__(self, index: int) -> Any:
        if len(self.read) > 40:
            raise KeyboardInterrupt
        return super().__getitem__(index)


def test_an_interrupted_filling_leaves_nothing(tmp_path: Path, own_folder: Path) -> None:
    train = create_dataset(name="shapes", train=60, val=1, test=1).train
    with pytest.raises(KeyboardInterrupt):
        cached({"train": Stopped(train)})
    assert not list(own_folder.glob("*-*"))
    assert fill(train)[1] == set(range(60))


_FILLING = """
import os, sys
from segmentation.data import create_dataset
from segmentation.data.cache import cached
from segmentation.data.shapes import Shapes
real = Shapes.__getitem__
def slow(self, index):
    os.write(1, b"%d\\n" % index)
    return real(self, index)
Shapes.__getitem__ = slow
cached({'train': create_dataset(name='shapes', train=int(sys.argv[1]), val=1, test=1).train})
"""


def filling(count: int) -> "subprocess.Popen[str]":
    return subprocess.Popen([sys.executable, "-c", _FILLING, str(count)], stdout=subprocess.PIPE, text=True)


def test_a_killed_filling_is_never_used(own_folder: Path) -> None:
    with filling(2000) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) > 200 and list(own_folder.glob("*.part")):
                break
        process.send_signal(signal.SIGKILL)
    assert [path.suffix for path in own_folder.glob("*-*")] == [".part"]
    # Neither the lock nor the rest stands in the way.
    assert fill(create_dataset(name="shapes", train=2000, val=1, test=1).train)[1] == set(range(2000))
    assert [path.suffix for path in own_folder.glob("*-*")] == [".cache"]


def test_one_process_fills_and_the_others_wait(own_folder: Path) -> None:
    processes = [filling(200) for _ in range(2)]
    reads = [len(process.communicate()[0].splitlines()) for process in processes]
    assert all(process.returncode == 0 for process in processes)
    assert sorted(count >= 200 for count in reads) == [False, True]
    assert min(reads) == 0  # not even for the room that it would take, which the other is taking


def test_too_large_is_said_before_anything_is_written(
    own_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "free_space", lambda: 100_000)
    dataset = create_dataset(name="shapes", size=48, train=10, val=2, test=2)
    with pytest.raises(UserError) as caught:
        cached({"train": dataset.train, "val": dataset.val})
    words = (
        "data.cache=disk needs 110.6 KB for train and val",
        "100.0 KB are free in",
        "XDG_CACHE_HOME",
    )
    for word in words:
        assert word in str(caught.value)
    assert not list(own_folder.glob("*-*"))


def test_larger_than_it_looked(monkeypatch: pytest.MonkeyPatch, own_folder: Path) -> None:
    left: Iterator[int] = iter([10**7, *[10**6] * 9])
    monkeypatch.setattr(cache, "free_space", lambda: next(left))
    with pytest.raises(
        UserError, match=r"uses 4.2 MB for 256 of 300 images of train, and only 1.0 MB are left"
    ):
        fill(create_dataset(name="shapes", train=300, val=1, test=1).train)
    assert not list(own_folder.glob("*-*"))


def test_a_folder_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(UserError, match="Set XDG_CACHE_HOME to another folder"):
        fill(create_dataset(name="shapes", train=3, val=1, test=1).train)


def test_a_full_disk(own_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(UserError, match="cannot be written: No space left on device"):
        fill(create_dataset(name="shapes", train=3, val=1, test=1).train)
    assert not list(own_folder.glob("*-*"))


def test_a_broken_file_is_named(tmp_path: Path, own_folder: Path) -> None:
    dataset = create_dataset(**flat(tmp_path))
    broken = tmp_path / "images" / f"{dataset.train.names[2]}.png"
    broken.write_bytes(b"no picture")
    with pytest.raises(UserError, match=broken.name):
        cached({"train": dataset.train})


class Own:
    """A user's own data set; its images differ in size."""

    names = ("a", "b", "c")

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> Any:
        image = np.full((20 + index, 30, 3), index, np.uint8)
        return {"image": image, "mask": image[..., 0], "name": self.names[index]}


@pytest.mark.parametrize("resize", [True, False])
def test_samples_without_a_trace_cannot_be_kept(resize: bool, own_folder: Path) -> None:
    dataset = SegmentationDataset(Classes(("a", "b", "c")), Own(), Own(), Own())
    assert len(batches(dataset, resize=resize)) > 3
    with pytest.raises(UserError, match=r"cannot be used with Own, .*data\.cache=none.*Fingerprint"):
        batches(dataset, "disk", resize=resize)
    assert not own_folder.exists()


def test_own_samples_with_a_trace(tmp_path: Path) -> None:
    class TracedOwn(Own):
        def fingerprint(self) -> Fingerprint:
            return Fingerprint("own", "1")

    own = SegmentationDataset(Classes(("a", "b", "c")), TracedOwn(), TracedOwn(), TracedOwn())
    assert_equal(batches(own, "disk", resize=False), batches(own, resize=False))


def test_an_error_of_the_samples_is_theirs(tmp_path: Path) -> None:
    class Gone(Own):
        def fingerprint(self) -> Fingerprint:
            return Fingerprint("gone", "1")

        def __getitem__(self, index: int) -> Any:
            return super().__getitem__(index) if index < 2 else (tmp_path / "gone.png").read_bytes()

    with pytest.raises(FileNotFoundError, match=r"gone\.png"):
        cached({"train": Gone()})


def test_ram_is_no_kind_of_cache_any_more() -> None:
    for value, near in {"ram": " Choose", "dsik": " Did you mean 'disk'? Choose"}.items():
        with pytest.raises(UserError) as caught:
            read_training_settings(composed(f"data.cache={value}"))
        assert str(caught.value) == f"data.cache={value} is unknown.{near} from: disk, none."


def test_test_images_are_kept_only_where_they_are_those_of_val(tmp_path: Path, own_folder: Path) -> None:
    dataset = shapes(tmp_path)
    batches(dataset, "disk")
    assert len(list(own_folder.glob("*.cache"))) == 2
    batches(SegmentationDataset(dataset.classes, dataset.train, dataset.val, dataset.val), "disk")
    assert len(list(own_folder.glob("*.cache"))) == 2


def test_from_the_cache_is_faster(tmp_path: Path) -> None:
    dataset = create_dataset(name="shapes", size=128, train=20, val=1, test=1)
    train, _ = fill(dataset.train)
    seconds = []
    for samples in (dataset.train, train):
        start = time.process_time()
        for index in range(20):
            samples[index]
        seconds.append(time.process_time() - start)
    assert seconds[1] < seconds[0] / 4
    assert os.environ["XDG_CACHE_HOME"].startswith(str(tmp_path))
