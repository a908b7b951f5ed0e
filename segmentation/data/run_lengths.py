"""Run lengths of regions: the lengths of pixels outside and inside in turn, as COCO and Label Studio write them."""

import numpy as np

from segmentation.errors import UserError

_MOST = 2**30  # values of a brush
_LONGEST = 6  # characters of a number in COCO's string: 30 bits


def bitmap_runs(bitmap: np.ndarray) -> np.ndarray:
    """The runs of a bool array, by rows."""
    flat = bitmap.ravel()
    changes = np.flatnonzero(np.diff(flat, prepend=False))
    return np.diff(changes, prepend=0, append=len(flat)).astype(np.int64)


def coco_runs(text: str) -> np.ndarray:
    """The runs in COCO's compressed string (`rleFrString` in pycocotools' maskApi.c). Raises `UserError`.

    Each number has the characters '0' and up for 5 bits, lowest first, and one more for "goes on"; from the fourth on,
    it is the difference to the last but one.
    """
    codes = np.frombuffer(text.encode("ascii", errors="replace"), np.uint8).astype(np.int64) - 48
    ends = np.flatnonzero(codes & 32 == 0)
    if not len(ends) or codes.min() < 0 or codes.max() > 63 or ends[-1] != len(codes) - 1:
        raise UserError("counts is no run-length string")
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > _LONGEST:
        raise UserError("counts holds a number that is too large")
    place = np.arange(len(codes)) - np.repeat(starts, lengths)
    numbers = np.add.reduceat((codes & 31) << 5 * place, starts)
    numbers -= np.where(codes[ends] & 16, 1 << 5 * lengths, 0)
    numbers[1::2] = numbers[1::2].cumsum()
    numbers[2::2] = numbers[2::2].cumsum()
    return numbers


def check_runs(runs: np.ndarray, pixels: int) -> np.ndarray:
    """The runs of a region in a box of so many pixels. Raises `UserError` for runs that do not fill it."""
    if not len(runs) or runs.min() < 0 or runs.max() > pixels or runs.sum() != pixels:
        raise UserError(f"the run lengths are those of {int(runs.sum())} pixels, not of {pixels}")
    return runs


def brush_values(packed: bytes, count: int) -> np.ndarray:
    """The uint8 values (count,) that Label Studio's brush packs, of which the mask is the fourth of each pixel (RGBA).

    The format is that of the JavaScript package @thi.ng/rle-pack, a stream of bits: the number of values (32), the bits
    of a value less 1 (5), four choices of the bits of a length less 1 (4 each); then runs of a bit "one value
    repeated", the choice (2), the length less 1, and the value or values. Raises `UserError` for anything else.
    """
    if count > _MOST:
        raise UserError(f"rle is a brush of {count} values, more than {_MOST}")
    bits = np.unpackbits(np.frombuffer(packed, np.uint8))
    text = bits.astype(np.uint8) + ord("0")
    digits = text.tobytes().decode()
    if len(digits) < 53 or int(digits[:32], 2) != count or int(digits[32:37], 2) != 7:
        raise UserError(f"rle is no brush of {count} values")
    sizes = [int(digits[at : at + 4], 2) + 1 for at in range(37, 53, 4)]
    values = np.zeros(count, np.uint8)
    at, done = 53, 0
    while done < count:
        size = sizes[int(digits[at + 1 : at + 3] or "0", 2)]
        length = int(digits[at + 3 : at + 3 + size] or "0", 2) + 1
        repeated = digits[at : at + 1] == "1"
        at += 3 + size
        read = 8 if repeated else 8 * length
        if at + read > len(digits) or done + length > count:
            raise UserError("rle ends too early")
        values[done : done + length] = np.packbits(bits[at : at + read])
        at, done = at + read, done + length
    return values
