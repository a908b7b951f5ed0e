"""Images and outlines at addresses, from a server of this machine: one with ranges, one without, one that hangs."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_earth import box, city, write_outlines

from segmentation.data import open_dataset, remote
from segmentation.data.geo.vectors import read_outlines
from segmentation.errors import UserError


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A folder with a city, and the server's address."""
    folder = city(tmp_path_factory.mktemp("served"))
    script = Path(__file__).parents[2] / "served_files.py"
    with subprocess.Popen(
        [sys.executable, str(script), str(folder)], stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        yield folder, f"http://127.0.0.1:{server.stdout.readline().strip()}"
        server.kill()


def opened(images: str, labels: str, **options: Any) -> Any:
    return open_dataset(3, None, name="geotiff", images=images, labels=labels, block=128, buffer=0, **options)


def test_images_and_outlines_at_addresses_are_those_of_the_files(served: tuple[Path, str]) -> None:
    folder, address = served
    write_outlines(folder / "seen.gpkg", [box(0, 0, 512, 300)])
    far, near = (
        opened(f"{images}/image.tif", f"{others}/roofs.gpkg", extent=f"{others}/seen.gpkg")
        for images, others in ((f"{address}/ranges", f"{address}/whole"), (folder, folder))
    )
    assert len(far.train) == len(near.train)
    for key in ("image", "mask"):
        assert np.array_equal(far.train[0][key], near.train[0][key])


@pytest.mark.parametrize("kind", ["ranges", "whole"])
@pytest.mark.parametrize("ending", ["gpkg", "geojson", "shp", "fgb", "SHP"])
def test_outlines_of_each_format(kind: str, ending: str, served: tuple[Path, str]) -> None:
    folder, address = served
    shapes = [box(0, 0, 9, 9), box(20, 20, 40, 50)]
    path = write_outlines(folder / f"o_{ending}.{ending.lower()}", shapes, kind=["a", "b"])
    if ending == "SHP":
        for each in folder.glob("o_SHP.*"):
            each.rename(each.with_suffix(each.suffix.upper()))
        path = path.with_suffix(".SHP")
    far, near = (read_outlines([name], attribute="kind") for name in (f"{address}/{kind}/{path.name}", path))
    assert [each.wkt for each in far.polygons] == [each.wkt for each in near.polygons]
    assert (far.names, far.crs) == (near.names, near.crs)


@pytest.mark.parametrize(
    ("images", "labels", "words"),
    [
        ("whole/image.tif", "whole/roofs.gpkg", r"image\.tif cannot be read: .*range requests"),
        ("hangs/image.tif", "whole/roofs.gpkg", r"image\.tif cannot be read: .*answer within 1 s"),
        ("ranges/image.tif", "hangs/roofs.gpkg", r"roofs\.gpkg cannot be fetched: "),
        ("ranges/image.tif", "whole/none.shp", r"none\.shp cannot be fetched: "),
        ("ranges/image.tif", "whole/image.tif.json", r"image\.tif\.json cannot be fetched"),
        ("ranges/image.tif", "ranges/image.gpkg", r"http://[^ ]*image\.gpkg is no GeoPackage, GeoJSON"),
    ],
)
def test_what_cannot_be_had_is_one_line(
    images: str, labels: str, words: str, served: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, address = served
    (folder / "image.gpkg").write_bytes((folder / "image.tif").read_bytes())
    monkeypatch.setattr(remote, "SECONDS", 1)
    with pytest.raises(UserError, match=words) as caught:
        opened(f"{address}/{images}", f"{address}/{labels}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["file:///a.gpkg", "/vsicurl/http://a/b.gpkg", "simplecache::http://a/b.gpkg"]
)
def test_other_addresses_are_refused(name: str) -> None:
    with pytest.raises(UserError, match="no address that is read: http, https"):
        read_outlines([name])
