"""`input=`: which files are meant, and how their answers are called."""

import glob
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath

from segmentation.data.files import IMAGE_ENDINGS
from segmentation.errors import UserError

VIDEO_ENDINGS = frozenset(
    {"avi", "gif", "m2ts", "m4v", "mkv", "mov", "mp4", "mpeg", "mpg", "mts", "webm", "wmv"}
)
_TIFF_ENDINGS = frozenset({"tif", "tiff"})


@dataclass(frozen=True)
class Source:
    """A file, and its name under the folder that was given: what is kept of its place."""

    path: Path
    name: PurePath

    @property
    def ending(self) -> str:
        """In small letters, without the dot."""
        return self.path.suffix[1:].lower()

    @property
    def is_video(self) -> bool:
        """Whether it moves, by its ending."""
        return self.ending in VIDEO_ENDINGS

    @property
    def is_tiff(self) -> bool:
        """Whether it can be read by window, by its ending."""
        return self.ending in _TIFF_ENDINGS


def find_sources(given: str, output: Path) -> tuple[list[Source], bool]:
    """The files that a path, a folder or a pattern names, sorted, and whether it is one file's own path.

    A folder gives its pictures, those of its sub-folders too; a pattern (* ? [] and ** for any folders) its
    pictures and videos. Hidden files are left out, and so is what lies in `output`, where earlier answers are.
    Raises `UserError` where nothing is found.
    """
    path = Path(given).expanduser()
    if path.is_file():
        return [Source(path, PurePath(path.name))], True
    if path.is_dir():
        found = [Source(file, file.relative_to(path)) for file in _pictures(path)]
        nothing = f"{path} holds no pictures ({' '.join(sorted(IMAGE_ENDINGS))})."
    elif glob.has_magic(given):
        found = list(_matches(str(path)))
        nothing = f"input={given} matches no picture and no video."
    else:
        raise UserError(
            f"There is no file or folder {given}: give a picture, a video, a folder or a pattern."
        )
    own = output.resolve()
    kept = [source for source in found if own == path.resolve() or own not in source.path.resolve().parents]
    if not kept:
        raise UserError(f"{nothing} Give another input.")
    return sorted(kept, key=lambda source: source.name.parts), False


def _pictures(folder: Path) -> Iterator[Path]:
    seen: set[str] = set()
    for parent, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        # A link may lead back up: each folder is entered once.
        folders[:] = [] if real in seen else [name for name in folders if not name.startswith(".")]
        for name in () if real in seen else files:
            if not name.startswith(".") and _ending(name) in IMAGE_ENDINGS:
                yield Path(parent, name)
        seen.add(real)


def _matches(pattern: str) -> Iterator[Source]:
    steps = Path(pattern).parts
    fixed = next(index for index, step in enumerate(steps) if glob.has_magic(step))
    base = Path(*steps[:fixed])
    for name in glob.iglob(pattern, recursive=True):  # noqa: PTH207 - Path.glob would find hidden files
        path = Path(name)
        if _ending(path.name) in IMAGE_ENDINGS | VIDEO_ENDINGS and path.is_file():
            yield Source(path, path.relative_to(base))


def _ending(name: str) -> str:
    return name.rpartition(".")[2].lower()
