"""The data set `geotiff`: its classes, samples, splits and notes, and what it refuses."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio.features
import shapely
from made_earth import box, on_ground, photo, place, roofs, write_outlines, write_raster
from shapely import affinity

from segmentation.data import SegmentationDataset, open_dataset
from segmentation.data.checks import check_samples
from segmentation.data.geo import evaluation_options
from segmentation.errors import UserError

SIZE = (512, 512)


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """image.tif of four bands of 16 bits, roofs.gpkg, and the same as labels.tif."""
    folder = tmp_path_factory.mktemp("city")
    polygons = roofs(*SIZE)
    write_raster(folder / "image.tif", photo(polygons, *SIZE))
    write_outlines(
        folder / "roofs.gpkg", polygons, kind=["flat" if i % 3 else "steep" for i in range(len(polygons))]
    )
    mask = rasterio.features.rasterize(polygons, SIZE, transform=place(), dtype="uint8")
    write_raster(folder / "labels.tif", mask[None])
    write_raster(folder / "blank.tif", np.zeros((4, 64, 64), np.uint16), nodata=0)
    write_raster(folder / "rgbn.tif", np.ones((4, *SIZE), np.uint8))
    write_raster(folder / "far.tif", np.ones((4, 64, 64), np.uint16), place(column=200_000))
    write_outlines(folder / "far.gpkg", [affinity.translate(box(0, 0, 9, 9), 1e5)])
    return folder


def opened(folder: Path, channels: int = 4, **options: Any) -> SegmentationDataset:
    given = {"images": "image.tif", "labels": "roofs.gpkg", "block": 128, "buffer": 0} | options
    return open_dataset(channels, name="geotiff", root=folder, **given)


def whole_mask(dataset: SegmentationDataset) -> np.ndarray:
    """The masks of all areas in their places, which are the same without the images; 99 where there is none."""
    mask = np.full(SIZE, 99, np.uint8)
    for samples in {id(each): each for each in dataset.splits().values()}.values():
        for index, area in enumerate(samples.areas):  # type: ignore[attr-defined]
            mask[area.top : area.bottom, area.left : area.right] = samples[index]["mask"]
            assert np.array_equal(samples.mask(index), samples[index]["mask"])  # type: ignore[attr-defined]
    return mask


def test_outlines_and_rasters_are_the_same_labels(city: Path) -> None:
    outlines, raster = opened(city), opened(city, labels="labels.tif")
    assert outlines.classes == raster.classes
    assert outlines.classes.binary
    masks = whole_mask(outlines), whole_mask(raster)
    assert np.array_equal(*masks)
    assert set(np.unique(masks[0])) == {0, 1}


@pytest.mark.parametrize("value", [1, 255])
@pytest.mark.parametrize("nodata", [None, 0])
def test_two_values_are_background_and_foreground(
    value: int, nodata: int | None, city: Path, tmp_path: Path
) -> None:
    """GIS programs often call the background of a mask no data."""
    with rasterio.open(city / "labels.tif") as file:
        values = file.read() * np.uint8(value)
    path = write_raster(tmp_path / "labels.tif", values, nodata=nodata)
    assert np.array_equal(whole_mask(opened(city, labels=str(path))), values[0] > 0)


def test_a_label_of_any_file_counts_before_what_another_calls_no_data(city: Path, tmp_path: Path) -> None:
    with rasterio.open(city / "labels.tif") as file:
        values = file.read()
    for name, columns in (("a", slice(256, None)), ("b", slice(0, 256))):
        half = values.copy()
        half[:, :, columns] = 0
        write_raster(tmp_path / f"{name}.tif", half, nodata=0)
    assert np.array_equal(whole_mask(opened(city, labels=str(tmp_path / "*.tif"))), values[0])


def test_a_split_may_hold_only_background_and_ignored_pixels(city: Path, tmp_path: Path) -> None:
    write_raster(tmp_path / "val.tif", photo([], *SIZE), place(column=2000))
    extent = write_outlines(tmp_path / "extent.gpkg", [box(0, 0, *SIZE), box(0, 2000, 200, 2200)])
    there = [box(400, column, 440, column + 40) for column in (400, 450, 2400)]
    labels = write_outlines(tmp_path / "labels.gpkg", there, kind=["flat", "steep", "flat"])
    dataset = opened(
        city,
        labels=str(labels),
        attribute="kind",
        val_images=str(tmp_path / "val.tif"),
        extent=str(extent),
    )
    masks = [dataset.val[index]["mask"] for index in range(len(dataset.val))]
    assert set(np.unique(np.concatenate(masks))) == {0, 255}
    check_samples(dataset)


def test_an_attribute_gives_the_classes(city: Path) -> None:
    dataset = opened(city, attribute="kind")
    assert dataset.classes.names == ("background", "flat", "steep")
    one = opened(city, attribute="kind", names=["steep"])
    assert one.classes.names == ("background", "steep")
    assert np.array_equal(whole_mask(one) == 1, whole_mask(dataset) == 2)
    merged = opened(city, attribute="kind", merge={"roof": ["flat", "steep"]})
    assert np.array_equal(whole_mask(merged), whole_mask(opened(city)))


def test_a_third_value_of_rasters_may_be_ignored(city: Path, tmp_path: Path) -> None:
    values = np.zeros((1, *SIZE), np.uint8)
    values[0, ::2], values[0, ::3] = 1, 2
    dataset = opened(city, labels=str(write_raster(tmp_path / "labels.tif", values)), ignore=[2])
    assert np.array_equal(whole_mask(dataset), np.array([0, 1, 255])[values[0]])


def test_the_name_of_outlines_may_be_in_a_file(city: Path, tmp_path: Path) -> None:
    (tmp_path / "classes.yaml").write_text("names: [building]")
    images, labels = str(city / "image.tif"), str(city / "roofs.gpkg")
    assert opened(tmp_path, images=images, labels=labels).classes.names == ("background", "building")


def test_values_of_rasters_are_named(city: Path, tmp_path: Path) -> None:
    values = np.zeros((1, *SIZE), np.uint8)
    values[0, ::2], values[0, ::3] = 7, 9
    path = write_raster(tmp_path / "labels.tif", values)
    with pytest.raises(UserError, match=r"hold 0, 7, 9: .*dataset\.names="):
        opened(city, labels=str(path))
    dataset = opened(city, labels=str(path), names={0: "ground", 7: "roof", 9: "ignore"})
    assert dataset.classes.names == ("ground", "roof")
    assert np.array_equal(np.unique(whole_mask(dataset)), [0, 1, 255])


def test_a_palette_only_colours_label_rasters(city: Path, tmp_path: Path) -> None:
    mask = rasterio.features.rasterize(roofs(*SIZE), SIZE, transform=place(), dtype="uint8")
    path = write_raster(tmp_path / "coloured.tif", mask[None], photometric="PALETTE")
    with rasterio.open(path, "r+") as file:
        file.write_colormap(1, {0: (0, 0, 0, 255), 1: (255, 0, 0, 255)})
    assert np.array_equal(whole_mask(opened(city, labels=str(path))), whole_mask(opened(city)))


def test_a_pattern_begins_in_a_root_with_brackets(city: Path, tmp_path: Path) -> None:
    folder = tmp_path / "[1] city"
    folder.mkdir()
    for name in ("image.tif", "roofs.gpkg"):
        (folder / name).symlink_to(city / name)
    assert len(opened(folder, images="im*.tif", labels="**/r*.gpkg").train)


def test_a_checkpoint_opens_no_address_that_is_not_typed() -> None:
    trained = {"name": "geotiff", "images": "a/*.tif", "labels": ["/vsicurl/http://127.0.0.1:9/a.tif"]}
    with pytest.raises(UserError, match=r"trained on /vsicurl/.*: no address is opened that is not typed"):
        evaluation_options(trained, {})
    typed = {"images": "b.tif", "labels": "https://127.0.0.1:9/b.tif"}
    assert evaluation_options(trained, typed) == {"name": "geotiff", "split": "whole", **typed}


@pytest.mark.parametrize("bands", [None, [4, 1, 2]])
def test_bands_are_chosen_and_ordered(bands: list[int] | None, city: Path) -> None:
    dataset = opened(city, 3 if bands else 4, bands=bands)
    everything = opened(city)
    sample, other = dataset.train[0]["image"], everything.train[0]["image"]
    assert np.array_equal(sample, other[..., np.array(bands or [1, 2, 3, 4]) - 1])


def test_a_window_is_a_part_of_its_area(city: Path) -> None:
    train: Any = opened(city).train
    whole, part = train[2], train.window(2, slice(10, 70), slice(0, 33))
    for key in ("image", "mask"):
        assert np.array_equal(part[key], whole[key][10:70, :33])
    assert np.array_equal(train.mask(2), whole["mask"])


def test_pixels_without_data_and_outside_the_extent_are_ignored(city: Path, tmp_path: Path) -> None:
    with rasterio.open(city / "image.tif") as file:
        values = file.read()
    values[:, :, 256:] = 65535
    path = write_raster(tmp_path / "image.tif", values, nodata=65535)
    extent = write_outlines(tmp_path / "extent.geojson", [box(0, 0, 400, 512)], "EPSG:4326")
    dataset = opened(city, images=str(path), extent=str(extent))
    mask, labels = whole_mask(dataset), whole_mask(opened(city))
    ignored = np.ones(SIZE, bool)
    ignored[:400, :256] = False
    seen = mask != 99
    assert np.array_equal((mask == 255)[seen], ignored[seen])
    assert np.array_equal(mask[~ignored], labels[~ignored])
    # The areas without any label are no samples, and half-labelled ones are drawn half as often.
    assert not seen[:, 256:].any()
    assert dataset.often is None or set(dataset.often.tolist()) <= {0.125, 1.0}
    # No-data values spoil neither the range nor the pixels.
    assert dataset.pixel_range is not None
    assert max(dataset.pixel_range.high) < 2048
    assert seen[:400, :256].all()


def test_the_range_of_values_is_the_training_areas(city: Path) -> None:
    dataset = opened(city)
    assert dataset.pixel_range is not None
    assert len(dataset.pixel_range.low) == 4
    assert dataset.train[0]["image"].dtype == np.uint8
    assert 20 < dataset.train[0]["image"].mean() < 235


@pytest.mark.parametrize("split", ["file", "folder"])
def test_files_and_folders_are_divided_whole(split: str, city: Path, tmp_path: Path) -> None:
    for index in range(4):
        folder = tmp_path / ("abcd"[index] if split == "folder" else "all")
        with rasterio.open(city / "image.tif") as file:
            part = file.read(window=((0, 512), (index * 128, index * 128 + 128)))
        write_raster(folder / f"{index}.tif", part, place(0, index * 128))
    dataset = opened(city, images=str(tmp_path / "*" / "*.tif"), split=split)
    places = {part: {name.rsplit("/", 1)[0] for name in names} for part, names in dataset.names().items()}
    assert sum(map(len, places.values())) == 4
    assert len(set().union(*places.values())) == 4
    assert [len(samples) for samples in dataset.splits().values()] == [8, 4, 4]


@pytest.mark.parametrize("path", ["{folder}/labels.tif", "sub/link.tif"])
def test_a_label_raster_is_no_image_however_its_path_is_written(
    path: str, city: Path, tmp_path: Path
) -> None:
    for name in ("image.tif", "labels.tif"):
        (tmp_path / name).symlink_to(city / name)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "link.tif").symlink_to(tmp_path / "labels.tif")
    dataset = opened(tmp_path, images="*.tif", labels=path.format(folder=tmp_path))
    assert {name.rpartition("/")[0] for name in dataset.train.names} == {f"{tmp_path.name}/image"}


def test_chips_smaller_than_what_buffers_leave_are_kept(tmp_path: Path) -> None:
    for index, side in enumerate((60, 60, 60, 200)):
        chip = photo([], side, side)
        write_raster(tmp_path / f"{index}.tif", chip, place(column=1000 * index))
    outlines = [box(10, 1000 * index + 10, 40, 1000 * index + 40) for index in range(4)]
    labels = write_outlines(tmp_path / "roofs.gpkg", outlines)
    dataset = opened(tmp_path, images="*.tif", labels=str(labels), split="file")
    assert sum(map(len, dataset.names().values())) == 3 + 4  # the larger one is two samples each way


def test_other_cities_are_test_and_said_to_be(city: Path, tmp_path: Path) -> None:
    far = [affinity.translate(each, 10_000) for each in roofs(*SIZE, seed=1)]
    write_outlines(tmp_path / "far.gpkg", far)
    there = rasterio.Affine(0.5, 0, 510_000, 0, -0.5, 5_400_000)
    write_raster(tmp_path / "far.tif", photo(roofs(*SIZE, seed=1), *SIZE), there)
    dataset = opened(
        city, test_images=str(tmp_path / "far.tif"), test_labels=str(tmp_path / "far.gpkg"), buffer=0
    )
    assert [len(samples) for samples in dataset.splits().values()] == [13, 3, 16]
    notes = "\n".join(dataset.notes)
    assert re.search(
        r"^test is of another place than train: 9\.\d km apart, 0 pixels and 0 outlines in common\.$",
        notes,
        re.M,
    )
    assert "train 13 areas" in notes


def test_whole_is_everything_for_evaluation(city: Path) -> None:
    dataset = opened(city, split="whole", block=512)
    assert len(dataset.test) == 1
    assert dataset.test[0]["mask"].shape == SIZE


def test_shared_places_are_counted(city: Path) -> None:
    dataset = opened(city, test_images="image.tif", block=256)
    assert any(
        re.match(r"the scores of test are too good, it shares places with train: 0 m", note)
        and re.search(rf"{3 * 256 * 256} pixels and [1-9]\d* outlines", note)
        for note in dataset.notes
    ), dataset.notes


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no image": ({"images": "x*.tif"}, r"dataset\.images=x\*\.tif finds no file"),
    "no label": ({"labels": "x.gpkg"}, r"dataset\.labels=x\.gpkg finds no file"),
    "images are labels": ({"labels": "*.tif", "images": "*.tif"}, "finds the labels only"),
    "bands": ({"channels": 3}, r"image\.tif has 4 bands.*data\.channels=4.*dataset\.bands"),
    "band number": ({"bands": [1, 2, 3, 9]}, r"dataset\.bands=\[1, 2, 3, 9\].*has 4"),
    "band count": ({"bands": [1, 2]}, r"dataset\.bands=\[1, 2\].*data\.channels=4"),
    "attribute of rasters": ({"labels": "labels.tif", "attribute": "kind"}, "are for vectors"),
    "touched rasters": ({"labels": "labels.tif", "all_touched": True}, "are for vectors"),
    "unlabelled of two values": ({"labels": "labels.tif", "unlabelled": "ignore"}, "hold two values"),
    "ignored class": ({"labels": "labels.tif", "ignore": [0]}, r"dataset\.ignore=\[0\]: these pixels are"),
    "values of outlines": ({"names": {1: "roof"}}, "is for values in mask files"),
    "test labels alone": ({"test_labels": "roofs.gpkg"}, "without dataset.test_images"),
    "too few areas": ({"block": 512}, "the number of areas is 1"),
    "infrared as alpha": ({"images": "rgbn.tif"}, r"has 3 bands and alpha.*-colorinterp_4 undefined"),
    "its number": (
        {"images": "rgbn.tif", "bands": [1, 2, 3, 4]},
        r"has 3 bands and alpha.*-colorinterp_4 undefined",
    ),
    "resolution": ({"resolution": 5e-6}, r"dataset\.resolution=5e-06: .*image\.tif have sides of 0\.5"),
    "endless pattern": ({"images": "**/*/" * 9 + "*.tif"}, r"dataset\.images=.* has '\*\*' more than once"),
    "empty path": ({"images": ""}, r"dataset\.images= finds no file"),
    "no data": ({"images": "blank.tif"}, r"blank\.tif: no data: give images with data\.$"),
    "extent elsewhere": ({"extent": "far.gpkg"}, r"no data in dataset\.extent"),
    "a city without extent": (
        {"test_images": "far.tif", "test_labels": "far.gpkg", "extent": "roofs.gpkg"},
        r"far\.tif: no data in dataset\.extent",
    ),
    "whole and test": (
        {"split": "whole", "test_images": "image.tif"},
        r"leave val_images and test_images out",
    ),
    "address": (
        {"images": "https://127.0.0.1:9/a.tif"},
        r"^https://127.0.0.1:9/a\.tif cannot be read: .*address",
    ),
    "outlines elsewhere": (
        {"labels": "https://127.0.0.1:9/a.gpkg"},
        r"^https://127.0.0.1:9/a\.gpkg cannot be fetched: ",
    ),
    "names without attribute": ({"names": ["a", "b"]}, r"give dataset\.attribute"),
    "unknown option": ({"blok": 3}, "no option 'dataset.blok'.*block"),
    "split": ({"split": "aera"}, "dataset.split=aera is unknown.*area"),
}


@pytest.mark.parametrize("case", WRONG)
def test_mistakes_are_told_in_one_line(case: str, city: Path) -> None:
    options, words = WRONG[case]
    with pytest.raises(UserError, match=words) as caught:
        opened(city, **options)
    assert "\n" not in str(caught.value)


def test_labels_of_another_place_are_refused(city: Path, tmp_path: Path) -> None:
    far = shapely.Polygon([(0, 0), (100, 0), (100, 100)])
    path = write_outlines(tmp_path / "far.gpkg", [far])
    with pytest.raises(
        UserError, match=r"No label of .*far\.gpkg.* lies on the images of train, .* 48\.\d+° N, 15\.00° E"
    ):
        opened(city, labels=str(path))


def test_sparse_outlines_leave_the_rest_ignored(city: Path) -> None:
    dataset = opened(city, attribute="kind", unlabelled="ignore")
    assert dataset.classes.names == ("flat", "steep")
    assert set(np.unique(whole_mask(dataset))) == {0, 1, 255}


def test_the_same_options_give_the_same_samples(city: Path) -> None:
    one, other = opened(city, seed=3), opened(city, seed=3)
    assert one.names() == other.names()
    assert one.names() != opened(city, seed=4).names()
    assert one.train.fingerprint() == other.train.fingerprint()  # type: ignore[attr-defined]


def test_an_outline_larger_than_the_image(city: Path, tmp_path: Path) -> None:
    outside, hole = [(0, 0), (900, 0), (900, 900), (0, 900)], [(100, 100), (400, 100), (400, 400)]
    shape = shapely.Polygon(on_ground(outside), [on_ground(hole)])
    mask = whole_mask(opened(city, labels=str(write_outlines(tmp_path / "large.gpkg", [shape]))))
    assert np.array_equal(mask, rasterio.features.rasterize([shape], SIZE, transform=place(), dtype="uint8"))


def test_a_file_in_the_folder_one_is_in(city: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(city)
    dataset = opened(Path())
    assert dataset.train.names[0].startswith("image/")
