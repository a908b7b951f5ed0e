"""Tables of addresses: fetched when they are read, kept, and refused where they could reach further."""

import io
from pathlib import Path

import fsspec
import numpy as np
import pytest
from made_data import image, mask
from PIL import Image

from segmentation.data import create_dataset
from segmentation.errors import UserError


def put(address: str, values: np.ndarray) -> None:
    stream = io.BytesIO()
    Image.fromarray(values).save(stream, "PNG")
    with fsspec.open(address, "wb") as file:
        file.write(stream.getvalue())


def table(root: Path, rows: list[str]) -> dict[str, str]:
    root.mkdir(exist_ok=True)
    (root / "a.csv").write_text("image,mask\n" + "".join(f"{row}\n" for row in rows))
    return {"name": "csv", "root": str(root)}


def test_files_are_fetched_when_they_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    rows = []
    for number in range(6):
        put(f"memory://bucket/set/im/{number}.png", image())
        put(f"memory://bucket/set/gt/{number}.png", mask(0, 255))
        rows.append(f"memory://bucket/set/im/{number}.png,memory://bucket/set/gt/{number}.png")
    dataset = create_dataset(**table(tmp_path / "root", rows))
    assert sorted(name for split in dataset.names().values() for name in split) == [str(n) for n in range(6)]
    kept = tmp_path / "cache" / "segmentation" / "remote"
    assert len(list(kept.iterdir())) < 12
    for samples in dataset.splits().values():
        for index in range(len(samples)):
            assert np.array_equal(samples[index]["mask"], mask(0, 1))
    assert len(list(kept.iterdir())) == 12
    monkeypatch.setattr(fsspec, "open", None)  # nothing is fetched twice
    assert np.array_equal(dataset.train[0]["image"], image())


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("file:///etc/a.png,file:///etc/b.png", "no address that is read"),
        ("ssh://host/a.png,ssh://host/b.png", "no address that is read"),
        ("simplecache::memory://a.png,memory://b.png", "no address that is read"),
        ("memory://x/../../a.png,memory://x/a.png", "has '..' in it"),
        ("memory://x/a,memory://x/b.png", "does not end in the name of a file"),
        ("memory://x/a.png,b.png", "is no picture in dataset.root"),
        ("memory://nowhere/a.png,memory://nowhere/b.png", "cannot be fetched"),
    ],
)
def test_what_is_not_fetched_is_one_line(
    row: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    options = table(tmp_path / "root", [row, row.replace("a", "c"), row.replace("a", "d")])
    with pytest.raises(UserError, match=words) as caught:
        create_dataset(**options)
    assert "\n" not in str(caught.value)
