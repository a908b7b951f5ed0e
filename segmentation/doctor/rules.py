"""What the numbers of a pass over the data say: scans -> findings."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from segmentation.data.dataset import FileDataset, MaskFiles
from segmentation.data.files import first_of
from segmentation.data.findings import Finding, absent_classes, label_findings, turned_images
from segmentation.data.masks import LabelMask
from segmentation.data.survey import Survey
from segmentation.doctor.duplicates import equal_keys, similar_pairs
from segmentation.doctor.scan import MEASURED, Scan
from segmentation.planner import shrinking
from segmentation.types import Classes

PICTURES = 6
"""Samples of a finding that a report may show."""

_FAULT_CURES = {
    "unreadable": ("repair the file, or delete it with its partner",),
    "size-mismatch": ("give both the same size, and no EXIF orientation to one of them alone",),
    "lossy-mask": ("save the masks as PNG",),
    "mask-colours": ("dataset.names={NAME: [R, G, B], ...}", "dataset.ignore=[[R, G, B]]"),
    "mask-values": ("save all masks with the same values", "dataset.threshold=127"),
}
_MOST_IGNORED = 32  # values that a cure lists
_SPARSE = 0.2  # share of ignored pixels from which labels are sparse
_RARELY_FOREGROUND, _MOSTLY_FOREGROUND = (
    0.2,
    0.8,
)  # shares of pixels, of most masks and of one that is inverted
_FEW = 0.05  # share of the samples up to which they are outliers
_TIMES_AREA, _TIMES_ASPECT = 4.0, 2.5  # by which outliers differ from the median
_FAR_LARGER = 2.0  # times the planned size
_USUAL_STRIDE = 16  # of output_stride=auto

Where = tuple[Scan, int]


def find(scans: Sequence[Scan], seen: Survey | None, config: Mapping[str, Any]) -> Iterator[Finding]:
    """All findings in the scans; `config` is a training's, with what is planned from `seen`."""
    yield from _faults(scans)
    yield from _labels(scans)
    yield from _palettes(scans)
    yield from _swapped(scans)
    yield from _packed(scans)
    yield from _masks(scans)
    yield from _duplicates(scans)
    yield from _similar(scans)
    yield from _odd_sizes(scans)
    if seen is not None:
        yield from _sizes(scans, seen, config)


def has_background(classes: Classes) -> bool:
    """Whether the first class is what is left beside the objects."""
    return 0 not in classes.foreground or classes.names[0].lower() in ("unlabelled", "unlabeled", "other")


def counted(number: int, what: str) -> str:
    """`1 file`, `2 files`."""
    return f"{number} {what}" + ("" if number == 1 else "es" if what.endswith("s") else "s")


def _finding(
    kind: str,
    what: str,
    text: str,
    where: Sequence[Where],
    file: Callable[[Scan, int], str],
    cure: tuple[str, ...] = (),
) -> Finding:
    """One finding for samples of all splits; `what` they are, masks or images, and `text` what is wrong with them."""
    splits = Counter(scan.split for scan, _ in where)
    totals = {scan.split: len(scan.samples) for scan, _ in where}
    each = ", ".join(f"{count} of {totals[split]} {split}" for split, count in splits.items())
    return Finding(
        kind,
        f"{each} {what} {text}",
        cure,
        [file(scan, index) for scan, index in where],
        [(scan.split, index) for scan, index in where[:PICTURES]],
    )


def _flagged(scans: Iterable[Scan], flags: Callable[[Scan], Any]) -> list[Where]:
    """The readable samples for which `flags` (N,) is true."""
    return [(scan, int(index)) for scan in scans for index in np.flatnonzero(flags(scan) & scan.readable)]


def _faults(scans: Sequence[Scan]) -> Iterator[Finding]:
    for kind in dict.fromkeys(kind for scan in scans for kind in scan.faults):
        having = [(scan, scan.faults[kind]) for scan in scans if kind in scan.faults]
        total = sum(len(faults.indices) for _, faults in having)
        values = sorted({value for _, faults in having for value in faults.values})
        message = having[0][1].messages[0]
        more = f" {counted(total - 1, 'more file')} alike." if total > 1 else ""
        yield Finding(
            kind,
            message.rstrip(".") + "." + more,
            _fault_cure(kind, values, scans),
            [file for _, faults in having for file in faults.files],
            [(scan.split, index) for scan, faults in having for index in faults.indices][:PICTURES],
        )


def _fault_cure(kind: str, values: list[int], scans: Sequence[Scan]) -> tuple[str, ...]:
    classes = scans[0].classes
    if kind == "bands" and values:
        return (f"data.channels={values[0]}",)
    if kind != "label-range":
        return _FAULT_CURES.get(kind, _FAULT_CURES["unreadable"])
    zeros = any(scan.counts[:, 0].any() for scan in scans)
    if values == [len(classes)] and not zeros:
        listed = ", ".join(f"{label}: {name}" for label, name in enumerate(classes.names, 1))
        return f"dataset.labels={{{listed}}}", "if a mask holds 0, too: one more name in dataset.names"
    if len(values) > _MOST_IGNORED:
        return ("save masks that hold labels: so many values are those of a photo, of a depth, or blurred",)
    return (
        f"dataset.ignore=[{', '.join(map(str, values))}]",
        "name the values: dataset.labels={VALUE: NAME, ...}",
    )


def _labels(scans: Sequence[Scan]) -> Iterator[Finding]:
    occurring = {label for scan in scans for label in np.flatnonzero(scan.counts.any(axis=0)).tolist()}
    for scan in scans:
        masks, classes = int(scan.readable.sum()), scan.classes
        if not masks:
            continue
        present = np.flatnonzero(scan.counts.any(axis=0)).tolist()
        labels = {255 if label == len(classes) else label for label in present}
        wrong = label_findings(scan.split, labels, masks, classes)
        yield from wrong
        absent = set(range(len(classes))) - labels
        if wrong or not absent:
            continue
        cure: tuple[str, ...] = (
            "leave the class out of dataset.names",
            "dataset.merge={NEW: [CLASS, CLASS]}",
        )
        if absent & occurring:
            cure = ("dataset.stratify=classes where no folders divide the images", "move images of it there")
        elif classes.binary:
            cure = ("correct the masks: one of two classes cannot be learned alone",)
        for found in absent_classes(scan.split, absent, f"The {masks} {scan.split} masks", classes):
            yield Finding(found.id, found.text, found.cure or cure)
    train = scans[0]
    ignored = train.counts[:, -1].sum(dtype=np.int64) / max(1, train.counts.sum(dtype=np.int64))
    labelled = train.counts[:, :-1].any()
    if has_background(train.classes) and labelled and not train.counts[:, 0].any() and ignored > _SPARSE:
        yield Finding(
            "no-background",
            f"{ignored:.0%} of the train pixels are ignored, and no other is {train.classes.names[0]}: nothing "
            "teaches a model what is not an object",
            ("dataset.unlabelled=background", "label some background in each mask"),
        )


def _masks(scans: Sequence[Scan]) -> Iterator[Finding]:
    ignored = _flagged(scans, lambda scan: ~scan.counts[:, :-1].any(axis=1))
    if ignored:
        text = "are ignored as a whole, and teach nothing"
        yield _finding("ignored-mask", "masks", text, ignored, Scan.mask, ("delete them, or label them",))
    if has_background(scans[0].classes):
        empty = _flagged(scans, lambda scan: (scan.counts[:, 0] > 0) & ~scan.counts[:, 1:].any(axis=1))
        if empty:
            text = f"hold {scans[0].classes.names[0]} alone: right if nothing is to be found there"
            yield _finding("empty-mask", "masks", text, empty, Scan.mask, ("data.sampler=balanced",))
    lossy = _flagged(scans, lambda scan: scan.lossy)
    if lossy:
        text = "are JPEGs: their edges are guessed"
        yield _finding(
            "soft-mask", "masks", text, lossy, Scan.mask, ("dataset.threshold=127", "save them as PNG")
        )
    for scan in scans:
        turned = np.flatnonzero(scan.turned & scan.readable).tolist()
        names = [scan.samples.names[index] for index in turned]
        for found in turned_images(scan.split, names, len(scan.samples), len(scan.samples)):
            files = [scan.image(index) for index in turned]
            shown = [(scan.split, index) for index in turned[:PICTURES]]
            cure = ("turn the masks, or remove the orientation: exiftool -Orientation= FILE",)
            yield Finding(found.id, found.text, cure, files, shown)


def _palettes(scans: Sequence[Scan]) -> Iterator[Finding]:
    """Masks whose palette gives an id another colour than most masks do."""
    colours: dict[int, Counter[bytes]] = {}
    used = [
        (scan, index, label, scan.palette_list[scan.palettes[index]][3 * label : 3 * label + 3])
        for scan in scans
        for index in np.flatnonzero(scan.palettes >= 0).tolist()
        for label in np.flatnonzero(scan.counts[index, :-1]).tolist()
    ]
    for _, _, label, colour in used:
        colours.setdefault(label, Counter())[colour] += 1
    usual = {label: each.most_common(1)[0][0] for label, each in colours.items()}
    odd = {
        (scan.split, index): (scan, index) for scan, index, label, colour in used if colour != usual[label]
    }
    if odd:
        text = "have a palette in which an id has another colour than in most masks: another class?"
        cure = ("dataset.names={NAME: [R, G, B], ...}", "export them again with one list of classes")
        yield _finding("changing-ids", "masks", text, list(odd.values()), Scan.mask, cure)


def _swapped(scans: Sequence[Scan]) -> Iterator[Finding]:
    """Binary masks of which foreground and background seem to have changed places."""
    if not scans[0].classes.binary:
        return

    def shares(scan: Scan) -> np.ndarray:
        return scan.counts[:, 1] / np.maximum(1, scan.counts[:, :2].sum(axis=1))

    every = np.concatenate([shares(scan)[scan.readable] for scan in scans])
    if not len(every) or np.median(every) > _RARELY_FOREGROUND:
        return
    odd = _flagged(scans, lambda scan: shares(scan) > _MOSTLY_FOREGROUND)
    if odd and len(odd) <= max(1, _FEW * len(every)):
        text = "are nearly all foreground, of which most masks hold little: inverted?"
        yield _finding("changing-ids", "masks", text, odd, Scan.mask, ("exchange 0 and 255 in them",))


def _packed(scans: Sequence[Scan]) -> Iterator[Finding]:
    """Masks of 0/255 among masks of ids, where no other mask holds 255."""
    samples = scans[0].samples
    if scans[0].classes.binary or not isinstance(samples, FileDataset):
        return
    labels = samples.labels
    if (
        not isinstance(labels, MaskFiles)
        or not isinstance(labels.decoder, LabelMask)
        or labels.decoder.values.ignore
    ):
        return

    def of_0_and_255(scan: Scan) -> np.ndarray:
        found: np.ndarray = (scan.counts[:, -1] > 0) & (scan.counts[:, 0] > 0)
        return found & ~scan.counts[:, 1:-1].any(axis=1)

    odd = _flagged(scans, of_0_and_255)
    others = any(((scan.counts[:, -1] > 0) & ~of_0_and_255(scan)).any() for scan in scans)
    total = sum(int(scan.readable.sum()) for scan in scans)
    if odd and not others and len(odd) < total:
        text = "hold only 0 and 255, which is ignored, and no other mask holds 255: 255 for 1?"
        yield _finding(
            "changing-ids", "masks", text, odd, Scan.mask, ("save them with the ids of the other masks",)
        )


def _joined(scans: Sequence[Scan], rows: Callable[[Scan], np.ndarray]) -> np.ndarray:
    return np.concatenate([rows(scan) for scan in scans])


class _Places:
    """The place of each sample, counted through all splits."""

    def __init__(self, scans: Sequence[Scan]) -> None:
        self._scans = scans
        self._ends = list(accumulate(len(scan.samples) for scan in scans))

    def __getitem__(self, index: int) -> Where:
        number = bisect_right(self._ends, index)
        return self._scans[number], int(index) - (self._ends[number - 1] if number else 0)


def _duplicates(scans: Sequence[Scan]) -> Iterator[Finding]:
    places, masks = _Places(scans), _joined(scans, lambda scan: scan.mask_keys)
    parts = np.repeat(np.arange(len(scans)), [len(scan.samples) for scan in scans])
    across: list[list[Where]] = []
    other: list[list[Where]] = []
    within: list[list[Where]] = []
    for group in equal_keys(_joined(scans, lambda scan: scan.image_keys)):
        members = [places[index] for index in group]
        splits = {scan.split for scan, _ in members}
        differ = len(set(masks[group].tolist())) > 1
        if len(splits) > 1:
            across.append([places[index] for index in _one_of_each(group, parts)])
        if differ:
            other.append([places[index] for index in _one_of_each(group, masks)])
        if not differ and len(members) > len(splits):
            within.append(members)
    if across:
        yield _together("duplicate-across-splits", across, "are in several splits", ("delete one of each",))
    if other:
        text = "have different masks for the same picture: one is wrong"
        yield _together("duplicate-other-mask", other, text, ("delete the wrong one of each",))
    if within:
        yield _together("duplicate", within, "are in a split more than once", ("delete one of each",))


def _one_of_each(group: np.ndarray, kinds: np.ndarray) -> np.ndarray:
    """The indices of a group, with the first of each kind before the others, for the text and the pictures."""
    first = np.sort(np.unique(kinds[group], return_index=True)[1])
    return np.concatenate([group[first], np.delete(group, first)])


def _similar(scans: Sequence[Scan]) -> Iterator[Finding]:
    places, keys = _Places(scans), _joined(scans, lambda scan: scan.image_keys)
    parts = np.repeat(np.arange(len(scans)), [len(scan.samples) for scan in scans])
    pairs = similar_pairs(
        _joined(scans, lambda scan: scan.looks), _joined(scans, lambda scan: scan.thumbnails), parts
    )
    pairs = pairs[keys[pairs[:, 0]] != keys[pairs[:, 1]]]
    crossing = parts[pairs[:, 0]] != parts[pairs[:, 1]]
    across, within = (
        [[places[one], places[other]] for one, other in pairs[these]] for these in (crossing, ~crossing)
    )
    if across:
        text = "are nearly the same, and in different splits: scores would be too good"
        cure = (
            "dataset.group='REGEX' that matches the same in the names of each series",
            "dataset.group='{parent}' where each series has a folder",
            "dataset.split=PATH of a split.csv that keeps them together",
        )
        yield _together("near-duplicate-across-splits", across, text, cure)
    if within:
        yield _together(
            "near-duplicate", within, "are nearly the same", ("none needed, though they teach little",)
        )


def _together(kind: str, groups: list[list[Where]], text: str, cure: tuple[str, ...]) -> Finding:
    """A finding of images that belong together."""
    sign = " ~ " if kind.startswith("near") else " = "
    first = " and ".join(f"{scan.samples.names[index]} ({scan.split})" for scan, index in groups[0][:3])
    what = "pair" if kind.startswith("near") else "group"
    return Finding(
        kind,
        f"{counted(len(groups), what)} of images {text}: {first}" + (", ..." if len(groups) > 1 else ""),
        cure,
        [sign.join(scan.image(index) for scan, index in members) for members in groups],
        [(scan.split, index) for members in groups for scan, index in members[:2]][:PICTURES],
    )


def _odd_sizes(scans: Sequence[Scan]) -> Iterator[Finding]:
    sizes = _joined(scans, lambda scan: scan.sizes[scan.readable])
    if not len(sizes):
        return
    height, width = np.median(sizes, axis=0)

    def is_odd(scan: Scan) -> Any:
        heights, widths = np.maximum(scan.sizes, 1).T.astype(float)
        area = np.abs(np.log(heights * widths / (height * width)))
        aspect = np.abs(np.log(heights / widths * (width / height)))
        return (area > np.log(_TIMES_AREA)) | (aspect > np.log(_TIMES_ASPECT))

    odd = _flagged(scans, is_odd)
    if odd and len(odd) <= max(1, _FEW * len(sizes)):
        text = f"are of quite another size than the usual {width:.0f}x{height:.0f}"
        yield _finding("odd-size", "images", text, odd, Scan.image, ("look whether they belong to the data",))


def _sizes(scans: Sequence[Scan], seen: Survey, config: Mapping[str, Any]) -> Iterator[Finding]:
    """What the planned size and stride lose."""
    smaller = shrinking(config, seen)
    if config["data"]["resize"]:
        size = np.array(config["data"]["size"])
        large = _flagged(scans, lambda scan: (scan.sizes > _FAR_LARGER * size).any(axis=1))
        if len(large) > max(1, _FEW * sum(len(scan.samples) for scan in scans)):  # else it is of an odd size
            width, height = size[::-1].tolist()
            text = f"are more than twice as large as {width}x{height}, to which they are resized"
            cure = ("data.resize=false", "data.size=[HEIGHT,WIDTH]")
            yield _finding("large-images", "images", text, large, Scan.image, cure)
    stride = config["output_stride"]
    cell = stride if isinstance(stride, int) else _USUAL_STRIDE
    small = {
        name: usual / smaller
        for label, name in enumerate(scans[0].classes.names)
        if (usual := scans[0].usual_object(label)) is not None and usual / smaller < cell
    }
    if small:
        listed = first_of([f"{name} ({size:.0f} pixels)" for name, size in small.items()], 8)
        looked = f"{min(MEASURED, len(scans[0].samples))} train masks"
        finer = (("output_stride=8",) if cell > 8 else ()) + (("data.resize=false",) if smaller > 1 else ())
        yield Finding(
            "small-objects",
            f"Half of what {looked} show of a class is in objects smaller than a cell of {cell} pixels of the feature "
            f"map: {listed}",
            finer or ("data.size=[HEIGHT,WIDTH] larger than the images enlarges them",),
        )
