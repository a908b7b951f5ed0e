"""Small data sets whose labels are shapes: each builder fills a folder with the same pictures, and gives the options.

The shapes have whole coordinates, so that the masks are known without drawing: see `truth`.
"""

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from made_data import image, save
from PIL import Image

COUNT, HEIGHT, WIDTH = 6, 24, 32
NAMES = ["background", "cat", "dog"]
Box = tuple[int, int, int, int]


def boxes(number: int) -> dict[str, Box]:
    """Left, top, right and bottom; the dog is smaller and lies over the cat."""
    return {"dog": (6, 8, 14 + number, 13), "cat": (2, 3, 20 + number, 15)}


def truth(number: int) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    for label, name in enumerate(("cat", "dog"), 1):
        mask[_slices(boxes(number)[name])] = label
    return mask


def pictures(folder: Path, numbers: Any = range(COUNT)) -> list[Path]:
    return [save(folder / f"p{number}.png", image(HEIGHT, WIDTH)) for number in numbers]


def _slices(box: Box) -> tuple[slice, slice]:
    left, top, right, bottom = box
    return slice(top, bottom), slice(left, right)


def _corners(box: Box) -> list[list[int]]:
    left, top, right, bottom = box
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


def _flat(box: Box) -> list[int]:
    return [value for point in _corners(box) for value in point]


def _inside(box: Box) -> np.ndarray:
    inside = np.zeros((HEIGHT, WIDTH), bool)
    inside[_slices(box)] = True
    return inside


def runs(pixels: np.ndarray) -> list[int]:
    """Lengths of the runs outside and inside in turn."""
    lengths, inside = [0], False
    for pixel in pixels.ravel().tolist():
        if pixel != inside:
            lengths.append(0)
            inside = pixel
        lengths[-1] += 1
    return lengths


def coco_content(numbers: Any = range(COUNT), prefix: str = "") -> dict[str, Any]:
    """Cats are two polygons that touch, dogs run lengths; ids have gaps."""
    annotations: list[dict[str, Any]] = []
    for number in numbers:
        left, top, right, bottom = boxes(number)["cat"]
        rings = [_flat((left, top, 10, bottom)), _flat((10, top, right, bottom))]
        dog = {"size": [HEIGHT, WIDTH], "counts": runs(_inside(boxes(number)["dog"]).T)}
        annotations += [
            {"image_id": 10 + number, "category_id": 17, "iscrowd": 0, "segmentation": rings},
            {"image_id": 10 + number, "category_id": 90, "iscrowd": 0, "segmentation": dog},
        ]
    images = [
        {"id": 10 + number, "file_name": f"{prefix}p{number}.png", "width": WIDTH, "height": HEIGHT}
        for number in numbers
    ]
    # The dog's category comes first in the file: the classes are in the order of their ids.
    categories = [{"id": 90, "name": "dog"}, {"id": 17, "name": "cat"}]
    return {"images": images, "annotations": annotations, "categories": categories}


def write(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def coco(root: Path) -> dict[str, Any]:
    pictures(root / "images")
    write(root / "annotations.json", coco_content())
    return {"name": "coco", "root": str(root)}


def coco_splits(root: Path) -> dict[str, Any]:
    """As COCO is published."""
    for split, numbers in (("train2017", range(4)), ("val2017", range(4, 6))):
        pictures(root / split, numbers)
        write(root / "annotations" / f"instances_{split}.json", coco_content(numbers))
        write(root / "annotations" / f"captions_{split}.json", {})
    return {"name": "coco", "root": str(root)}


def coco_roboflow(root: Path) -> dict[str, Any]:
    """As Roboflow exports it, with a parent of the categories."""
    for split, numbers in (("train", range(3)), ("valid", range(3, 5)), ("test", range(5, 6))):
        pictures(root / split, numbers)
        content = coco_content(numbers)
        content["categories"] = [{"id": 0, "name": "pets", "supercategory": "none"}] + [
            {**category, "supercategory": "pets"} for category in content["categories"]
        ]
        write(root / split / "_annotations.coco.json", content)
    return {"name": "coco", "root": str(root)}


def labelme(root: Path) -> dict[str, Any]:
    """Rectangles, and masks or polygons in turn."""
    for number, picture in enumerate(pictures(root)):
        left, top, right, bottom = boxes(number)["dog"]
        file = io.BytesIO()
        Image.fromarray(np.ones((bottom - top, right - left), bool)).save(file, "png")
        mask = {"mask": base64.b64encode(file.getvalue()).decode(), "shape_type": "mask"}
        polygon = {"shape_type": "polygon"}
        corners = [[left, top], [right - 1, bottom - 1]] if number % 2 else _corners(boxes(number)["dog"])
        cat = {"shape_type": "rectangle", "points": _corners(boxes(number)["cat"])[::2], "label": "cat"}
        dog = {"label": "dog", "points": corners, **(mask if number % 2 else polygon)}
        shapes = [dog, cat, {"label": "dog", "points": [[1, 1]], "shape_type": "point"}]
        write(
            picture.with_suffix(".json"),
            {
                "version": "5.4.1",
                "shapes": shapes,
                "imagePath": picture.name,
                "imageData": "A" * 50,
                "imageHeight": HEIGHT,
                "imageWidth": WIDTH,
            },
        )
    return {"name": "labelme", "root": str(root)}


def cvat(root: Path) -> dict[str, Any]:
    """Boxes, and masks or polygons in turn; the order is that of z_order, and the dog has the higher one."""
    pictures(root / "images")
    lines = []
    for number in range(COUNT):
        left, top, right, bottom = boxes(number)["cat"]
        cat = f'<box label="cat" xtl="{left}" ytl="{top}" xbr="{right}.0" ybr="{bottom}" z_order="0"></box>'
        left, top, right, bottom = boxes(number)["dog"]
        points = ";".join(f"{x}.00,{y}.00" for x, y in _corners(boxes(number)["dog"]))
        area = (right - left) * (bottom - top)
        dog = (
            f'<mask label="dog" rle="0, {area}" left="{left}" top="{top}" width="{right - left}" '
            f'height="{bottom - top}" z_order="1"></mask>'
            if number % 2
            else f'<polygon label="dog" points="{points}" z_order="1"></polygon>'
        )
        tag = '<tag label="cat" source="manual"></tag>'
        size = f'width="{WIDTH}" height="{HEIGHT}"'
        lines += [f'<image id="{number}" name="p{number}.png" {size}>{dog}{cat}{tag}</image>']
    labels = "".join(f"<label><name>{name}</name><color>#ff0000</color></label>" for name in NAMES[1:])
    write(
        root / "annotations.xml",
        '<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version><meta><task><name>pets</name>'
        f"<labels>{labels}</labels></task></meta>{''.join(lines)}</annotations>",
    )
    return {"name": "cvat", "root": str(root)}


def brush(inside: np.ndarray) -> list[int]:
    """Label Studio's packing of a brush: runs of one value where it repeats, else values one by one."""
    values = np.repeat(inside.ravel() * 255, 4)
    bits = f"{len(values):032b}{7:05b}" + "".join(f"{size - 1:04b}" for size in (3, 4, 8, 16))
    at = 0
    while at < len(values):
        same = int(np.argmin(np.append(values[at:] == values[at], False)))
        if same >= 6:  # with the choice of 16 bits
            bits += f"111{same - 1:016b}{values[at]:08b}"
            at += same
        else:  # with the choice of 3 bits
            count = min(8, len(values) - at)
            bits += f"000{count - 1:03b}" + "".join(f"{value:08b}" for value in values[at : at + count])
            at += count
    bits += "0" * (-len(bits) % 8)
    return [int(bits[start : start + 8], 2) for start in range(0, len(bits), 8)]


def labelstudio(root: Path) -> dict[str, Any]:
    """Rectangles, and brushes or polygons in turn, of pictures with the addresses of uploads and of local files."""
    pictures(root / "media")
    tasks = []
    for number in range(COUNT):
        size = {"original_width": WIDTH, "original_height": HEIGHT, "image_rotation": 0}
        left, top, right, bottom = boxes(number)["cat"]
        cat = {
            "x": 100 * left / WIDTH,
            "y": 100 * top / HEIGHT,
            "width": 100 * (right - left) / WIDTH,
            "height": 100 * (bottom - top) / HEIGHT,
            "rotation": 0,
            "rectanglelabels": ["cat"],
        }
        results: list[dict[str, Any]] = [{"id": "a", "type": "rectanglelabels", "value": cat, **size}]
        if number % 2:
            value = {"format": "rle", "rle": brush(_inside(boxes(number)["dog"])), "brushlabels": ["dog"]}
            results.append({"id": "b", "type": "brushlabels", "value": value, **size})
        else:  # the label apart from the shape
            points = [[100 * x / WIDTH, 100 * y / HEIGHT] for x, y in _corners(boxes(number)["dog"])]
            results.append({"id": "b", "type": "polygon", "value": {"points": points}, **size})
            results.append({"id": "b", "type": "labels", "value": {"labels": ["dog"]}, **size})
        results.append({"id": "c", "type": "choices", "value": {"choices": ["good"]}})
        local = f"/data/local-files/?d={quote(f'media/p{number}.png')}"
        address = local if number < 3 else f"/data/upload/1/0123abcd-p{number}.png"
        annotations = [{"result": [], "was_cancelled": True}, {"result": results}]
        tasks.append({"id": number, "data": {"image": address}, "annotations": annotations})
    write(root / "project.json", [*tasks, {"data": {"image": "unseen.png"}, "annotations": []}])
    return {"name": "labelstudio", "root": str(root)}


def yolo(root: Path) -> dict[str, Any]:
    for split, numbers in (("train", range(3)), ("val", range(3, 5)), ("test", range(5, 6))):
        pictures(root / "images" / split, numbers)
        for number in numbers:
            lines = [
                " ".join(
                    [
                        str(label),
                        *(f"{x / WIDTH:.6f} {y / HEIGHT:.6f}" for x, y in _corners(boxes(number)[name])),
                    ]
                )
                for label, name in enumerate(NAMES[1:])
            ]
            write(root / "labels" / split / f"p{number}.txt", "\n".join(lines) + "\n")
    write(
        root / "data.yaml",
        "path: ../datasets/pets\ntrain: images/train\nval: ../images/val\ntest: images/test\nnames: {0: cat, 1: dog}\n",
    )
    return {"name": "yolo", "root": str(root)}


def yolo_classes_txt(root: Path) -> dict[str, Any]:
    """As Label Studio exports it."""
    yolo(root)
    for kind in ("images", "labels"):
        for path in [*(root / kind).glob("*/*")]:
            path.rename(root / kind / path.name)
    (root / "data.yaml").unlink()
    write(root / "classes.txt", "cat\ndog\n")
    return {"name": "yolo", "root": str(root)}


def labelme_voc(root: Path) -> dict[str, Any]:
    """As labelme2voc writes it: no lists, arrays beside the masks, and outlines drawn into the pictures."""
    for number, picture in enumerate(pictures(root / "JPEGImages")):
        save(root / "SegmentationClass" / picture.name, truth(number), "P")
        save(root / "SegmentationClassVisualization" / picture.name, image(HEIGHT, WIDTH))
        (root / "SegmentationClassNpy").mkdir(exist_ok=True)
        np.save(root / "SegmentationClassNpy" / f"{picture.stem}.npy", truth(number).astype(np.int32))
    write(root / "class_names.txt", "_background_\ncat\ndog\n")
    return {"name": "voc", "root": str(root)}


def cvat_masks(root: Path) -> dict[str, Any]:
    """As CVAT's 'Segmentation mask 1.1': colours of a labelmap, and one list of all images."""
    colours = {"background": (0, 0, 0), "cat": (250, 50, 83), "dog": (61, 245, 61)}
    for number, picture in enumerate(pictures(root / "JPEGImages")):
        save(
            root / "SegmentationClass" / picture.name, np.array([*colours.values()], np.uint8)[truth(number)]
        )
        save(root / "SegmentationObject" / picture.name, image(HEIGHT, WIDTH))
    lines = [f"{name}:{','.join(map(str, colour))}::\n" for name, colour in colours.items()]
    write(root / "labelmap.txt", "# label:color_rgb:parts:actions\n" + "".join(lines))
    write(root / "ImageSets/Segmentation/default.txt", "".join(f"p{number}\n" for number in range(COUNT)))
    return {"name": "voc", "root": str(root)}


def regions(root: Path) -> dict[str, Any]:
    """A file for each object, of which there are none in the last image; the classes are not told apart."""
    for number in range(COUNT):
        pictures(root / f"id{number}" / "images", [number])
        for name, box in boxes(number).items() if number < COUNT - 1 else ():
            save(root / f"id{number}" / "masks" / f"{name}.png", _inside(box) * np.uint8(255))
    (root / f"id{COUNT - 1}" / "masks").mkdir()
    return {"name": "regions", "root": str(root)}


MAKERS: list[Callable[[Path], dict[str, Any]]] = [
    coco,
    coco_splits,
    coco_roboflow,
    labelme,
    cvat,
    labelstudio,
    yolo,
    yolo_classes_txt,
]
"""Those whose annotations name their classes."""
