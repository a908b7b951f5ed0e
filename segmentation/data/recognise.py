"""Folders as other tools leave them: messages call by name what is not read."""

from pathlib import Path

_COCO = "COCO's JSON, which is not read: save its polygons as masks"
_YOLO = "YOLO's text files, which are not read: save their polygons as masks"
_CITYSCAPES = "Cityscapes' layout, which is not read: sort its files into {train,val}/{images,masks}"
# The first pattern that a folder holds says what it is.
_SIGNS = {
    "JPEGImages": "PASCAL VOC's layout: use dataset=voc",
    "train_images": "a layout of PASCAL VOC: use dataset=voc",
    "gtFine": _CITYSCAPES,
    "leftImg8bit": _CITYSCAPES,
    "annotations.xml": "CVAT's XML, which is not read: export as 'Segmentation mask'",
    "*annotations*.json": _COCO,
    "annotations/*.json": _COCO,
    "*/_annotations.coco.json": _COCO,
    "labels/*.txt": _YOLO,
    "labels/*/*.txt": _YOLO,
    "ann_dir": "img_dir/ and ann_dir/: sort them into {train,val}/{images,masks}",
    "trainannot": "train/ and trainannot/: name them train/images and train/masks, and the others alike",
    "train_labels": "train/ and train_labels/: name them train/images and train/masks, and the others alike",
    "label": "image/ and label/: name them images and masks",
}
_LABELME = "labelme's JSON, which is not read: save its polygons as masks with labelme2voc"
_PICTURES = ("jpg", "jpeg", "png")


def recognised(folder: Path) -> str:
    """For messages: what a folder looks like; "" for an unknown layout."""
    found = next((meaning for sign, meaning in _SIGNS.items() if any(folder.glob(sign))), "")
    return found or (_LABELME if _is_labelme(folder) else "")


def _is_labelme(folder: Path) -> bool:
    """Whether a JSON file lies beside the picture of its name."""
    file = next(folder.glob("*.json"), None)
    return file is not None and any(file.with_suffix(f".{ending}").exists() for ending in _PICTURES)
