"""Models on the Hugging Face hub, and folders as they lie there: weights, description and model card.

A folder holds `model.safetensors` (the segmenter's tensors by name), `config.json` (what a checkpoint says of itself),
`README.md`, and `certificate.json` of the export. The formats are inert: loading them runs no code. Only the first two
are fetched.
"""

import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segmentation.errors import UserError, one_line
from segmentation.machine import variable
from segmentation.reading import read_json
from segmentation.writing import refuse_links, replaced, write_json, write_text

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS, DESCRIPTION, CARD = "model.safetensors", "config.json", "README.md"
CERTIFICATE = "certificate.json"
FILES = (WEIGHTS, DESCRIPTION, CARD, CERTIFICATE)
"""What is written and uploaded."""

_HEADER = "segmentation"  # where a file of weights that stands alone has its description
_SCHEME = "hub:"
_NAME = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?", re.ASCII)


def is_named(given: str) -> bool:
    """Whether an option names a model on the hub: `hub:user/name`, or `hub:user/name@revision`."""
    return given.startswith(_SCHEME)


@cache
def fetch(given: str) -> Path:
    """The file of weights of `hub:user/name`, in the hub's cache with its description beside it.

    Raises `UserError` for another form of name, and where it cannot be fetched.
    """
    name, _, revision = check_name(given.removeprefix(_SCHEME)).partition("@")
    try:
        folder = _library().snapshot_download(
            name,
            revision=revision or None,
            allow_patterns=[WEIGHTS, DESCRIPTION],
            library_name="segmentation",
        )
    except Exception as error:  # of the hub's own kinds, of its network library, of the disk
        raise UserError(
            f"{given} cannot be fetched ({_cause(error)}). Is there such a model, and a network? For a private one"
            " log in first: hf auth login."
        ) from error
    path = Path(folder) / WEIGHTS
    if not (path.is_file() and path.with_name(DESCRIPTION).is_file()):
        raise UserError(f"{given} is no model of this project: it lacks {WEIGHTS} or {DESCRIPTION}.")
    return path


def upload(folder: Path, name: str, *, private: bool) -> str:
    """Makes the folder that of the model `user/name`, which is created if there is none; returns its address.

    Raises `UserError` for another form of name, and where it cannot be uploaded.
    """
    api = _library().HfApi()
    try:
        api.create_repo(check_name(name), private=private, exist_ok=True)
        api.upload_folder(
            repo_id=name,
            folder_path=folder,
            allow_patterns=[*FILES],
            commit_message="Upload the model",
        )
    except Exception as error:
        raise UserError(
            f"{folder} was written, but not uploaded to {name} ({_cause(error)}). Log in with hf auth login, or upload"
            " the folder by hand."
        ) from error
    return f"https://huggingface.co/{name}"


def write_folder(
    folder: Path, tensors: Mapping[str, "Tensor"], description: Mapping[str, Any], card: str
) -> None:
    """Writes the three files; the weights come last, so that a folder which has them is whole."""
    files = [folder / name for name in (WEIGHTS, DESCRIPTION, CARD)]
    refuse_links((folder, *files))
    folder.mkdir(parents=True, exist_ok=True)
    write_json(files[1], description)
    write_text(files[2], card)
    with replaced(files[0]) as fresh:
        own = {name: value.contiguous().clone() for name, value in tensors.items()}
        _safetensors().torch.save_file(own, fresh, {"format": "pt"})


def read_weights(path: Path) -> dict[str, Any]:
    """A file of weights as the contents of a checkpoint, with its description if it lies beside or in it and is ours.

    Raises `UserError` for damaged files.
    """
    safetensors = _safetensors()
    try:
        tensors = safetensors.torch.load_file(path)
        with safetensors.safe_open(path, "pt") as opened:
            header = (opened.metadata() or {}).get(_HEADER)
    except (safetensors.SafetensorError, OSError, ValueError, KeyError, RuntimeError) as error:
        raise UserError(
            f"{path} is damaged or holds no tensors: it was not loaded. Fetch it again."
        ) from error
    description = path.with_name(DESCRIPTION)
    about = None
    if header is not None:  # of a file that stands alone: what lies beside it may be another's
        about = _plain(header)
    elif description.is_file():
        about = read_json(description)
    if not isinstance(about, dict) or not {"model", "classes", "input"} <= about.keys():
        return {"state_dict": tensors}
    epoch = about.pop("epoch", None)
    return {
        "segmentation": about,
        "state_dict": {f"model.{name}": value for name, value in tensors.items()},
        **({} if epoch is None else {"epoch": epoch}),
    }


def described(tensors: Mapping[str, "Tensor"], description: Mapping[str, Any]) -> bytes:
    """A file of weights that holds its description, so that it needs none beside it."""
    own = {name: value.contiguous().clone() for name, value in tensors.items()}
    header = {"format": "pt", _HEADER: json.dumps(description, ensure_ascii=False)}
    content: bytes = _safetensors().torch.save(own, header)
    return content


def _plain(header: str) -> Any:
    try:
        return json.loads(header)
    except (ValueError, RecursionError):
        return None


def check_name(name: str) -> str:
    """The name, if a model on the hub may have it. Raises `UserError` for another."""
    if not _NAME.fullmatch(name) or ".." in name:
        raise UserError(f"{name} is no name of a model on the hub: give user/name.")
    return name


def _library() -> Any:
    try:
        # Read when it is imported: it would tell its maker about its use.
        with variable("HF_HUB_DISABLE_TELEMETRY", "1"), variable("HF_HUB_DISABLE_PROGRESS_BARS", "1"):
            import huggingface_hub
    except ModuleNotFoundError as error:
        raise UserError("Models on the hub need huggingface_hub: pip install '.[hub]'.") from error
    return huggingface_hub


def _safetensors() -> Any:
    try:
        import safetensors.torch
    except ModuleNotFoundError as error:
        raise UserError("Files of safetensors need their library: pip install '.[hub]'.") from error
    return safetensors


def _cause(error: Exception) -> str:
    return one_line(next(iter(str(error).strip().splitlines()), "") or type(error).__name__)[:200]
