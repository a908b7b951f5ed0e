"""Where answers go: under their inputs' own names, over nobody else's file."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Literal, get_args

from segmentation.errors import UserError
from segmentation.inference.sources import Source

Kind = Literal["mask", "overlay", "probability"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Targets = Mapping[Kind, Path]
Existing = Literal["refuse", "skip", "overwrite"]


def plan(
    sources: Sequence[Source],
    kinds: Sequence[Kind],
    output: Path,
    *,
    binary: bool,
    tiled: bool,
    existing: Existing,
) -> dict[Source, Targets]:
    """For each source that is to be done its files in `output`, sub-folders mirrored.

    A mask is called as its picture, the others `NAME_overlay` and `NAME_probability`; pictures that differ in
    their endings alone keep these (`a.jpg.png`, `a.png.png`). Sources whose files all exist are left out for
    "skip". Raises `UserError` for files that exist for "refuse", and for an input that would be overwritten.
    """
    # Systems that do not tell A from a would write one over the other.
    stems = Counter(str(source.name.with_suffix("")).casefold() for source in sources)
    planned: dict[Source, Targets] = {}
    taken: set[str] = set()
    for source in sources:
        shared = stems[str(source.name.with_suffix("")).casefold()] > 1
        name = source.name if shared else source.name.with_suffix("")
        targets: dict[Kind, Path] = {}
        while not targets or any(str(path).casefold() in taken for path in targets.values()):
            targets = _targets(source, name, kinds, output, binary=binary, tiled=tiled)
            name = name.with_name(f"{name.name}_")
        taken |= {str(path).casefold() for path in targets.values()}
        planned[source] = targets
    _refuse_inputs(planned)
    there = {source for source, targets in planned.items() if all(path.exists() for path in targets.values())}
    if existing == "refuse":
        _refuse_existing(planned)
    return {
        source: targets for source, targets in planned.items() if existing != "skip" or source not in there
    }


def _targets(
    source: Source, name: PurePath, kinds: Sequence[Kind], output: Path, *, binary: bool, tiled: bool
) -> dict[Kind, Path]:
    if source.is_video:
        return {"overlay": output / f"{name}.mp4"}
    if tiled and source.is_tiff:
        endings = dict.fromkeys(kinds, ".tif")
    else:
        endings = {kind: ".npz" if kind == "probability" and not binary else ".png" for kind in kinds}
    return {
        kind: output / f"{name}{'' if kind == 'mask' else f'_{kind}'}{ending}"
        for kind, ending in endings.items()
    }


def _refuse_inputs(planned: Mapping[Source, Targets]) -> None:
    inputs = {source.path.resolve(): source.path for source in planned}
    for targets in planned.values():
        for path in targets.values():
            if path.resolve() in inputs:
                raise UserError(f"{path} is an input and would be overwritten: give another output.")


def _refuse_existing(planned: Mapping[Source, Targets]) -> None:
    paths = [path for targets in planned.values() for path in targets.values() if path.exists()]
    if paths:
        more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
        raise UserError(
            f"{paths[0]}{more} exists already: give another output, or existing=skip, or existing=overwrite."
        )
