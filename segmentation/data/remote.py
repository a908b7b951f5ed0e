"""Files at addresses such as s3://bucket/a.png, read by fsspec: each is fetched when it is first read, then kept.

fsspec comes with Lightning; s3://, gs:// and az:// need their own packages (the extra `remote`). Files are kept in
`remote` of the user's cache folder and are fetched again if they are deleted there.
"""

import hashlib
import importlib
import os
import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segmentation.data.cache import cache_folder
from segmentation.data.files import Listing, composed, decode_name, encode_names
from segmentation.errors import UserError
from segmentation.writing import replacing

PROTOCOLS = ("http", "https", "s3", "gs", "gcs", "az", "abfs", "memory")
"""Others may reach into the machine, such as file://, or run programs, such as ssh://."""

SECONDS = 30
"""How long a server may say nothing before it is given up."""

_ADDRESS = re.compile(r"([a-z0-9]+)://")
_CHUNK = 2**20
_LARGEST = 2**34  # bytes of a file


def is_address(text: str) -> bool:
    """Whether a path is an address."""
    return "://" in text


@dataclass(frozen=True, eq=False)
class RemoteListing(Listing):
    """Files at `addresses`, as encoded names, which become files of `folder` when they are first asked for."""

    addresses: np.ndarray

    def path(self, index: int) -> Path:
        """The local copy. Raises `UserError` where it cannot be fetched."""
        path = super().path(index)
        if not path.exists():
            fetch(decode_name(self.addresses[index]), path)
        return path

    def take(self, indices: np.ndarray) -> "RemoteListing":
        """The files at these indices."""
        return RemoteListing(
            self.folder,
            self.stems[indices],
            self.written[indices],
            self.endings[indices],
            self.addresses[indices],
        )


def check_address(text: str, where: str) -> None:
    """Raises `UserError`, which says `where`, for a protocol not in `PROTOCOLS`, for `..` and without a file name."""
    found = _ADDRESS.match(text)
    if found is None or found[1] not in PROTOCOLS or "::" in text or "\0" in text:
        raise UserError(f"{where}: '{text[:100]}' is no address that is read: {', '.join(PROTOCOLS)}://...")
    if ".." in re.split(r"[/\\]", text):  # the names of answers would lead out of their folder
        raise UserError(f"{where}: '{text[:100]}' has '..' in it: write the address without it.")
    if not re.fullmatch(r"[^/]+\.\w+", posixpath.basename(text)):
        raise UserError(f"{where}: '{text[:100]}' does not end in the name of a file, such as a.png.")


def remote_listing(addresses: Sequence[str]) -> RemoteListing:
    """The files at these addresses, in this order; their names are the paths below what all addresses share."""
    folders = [f"{posixpath.dirname(address)}/" for address in addresses]
    shared = len(posixpath.commonprefix(folders).rpartition("/")[0])
    return RemoteListing(
        cache_folder() / "remote",
        encode_names(composed(address.rpartition(".")[0][shared:].lstrip("/")) for address in addresses),
        encode_names(hashlib.sha256(address.encode()).hexdigest()[:32] for address in addresses),
        encode_names(address.rpartition(".")[2] for address in addresses),
        encode_names(addresses),
    )


def gdal_patience() -> dict[str, str]:
    """GDAL's settings that end waiting for a server, unless the environment has its own."""
    seconds = str(SECONDS)
    wanted = {
        "GDAL_HTTP_CONNECTTIMEOUT": seconds,
        "GDAL_HTTP_LOW_SPEED_TIME": seconds,  # less than the limit, in bytes a second, for so long
        "GDAL_HTTP_LOW_SPEED_LIMIT": "1",
        "GDAL_HTTP_MAX_RETRY": "2",  # where the server says that it is busy
        "GDAL_HTTP_RETRY_DELAY": "1",
    }
    return {name: value for name, value in wanted.items() if name not in os.environ}


def fetch(address: str, path: Path) -> None:
    """Copies what lies at an address to a file. Raises `UserError` where that fails, or the server says nothing."""
    fsspec = importlib.import_module("fsspec")
    options = {}
    if address.startswith("http"):  # by default it waits 5 minutes, also for a file that still comes
        patience = importlib.import_module("aiohttp").ClientTimeout(
            None, sock_connect=SECONDS, sock_read=SECONDS
        )
        options = {"client_kwargs": {"timeout": patience}}
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        with fsspec.open(address, "rb", **options) as source, replacing(path, "wb") as file:
            size = 0
            while part := source.read(_CHUNK):
                size += file.write(part)
                if size > _LARGEST:
                    raise UserError(f"{address} has more than {_LARGEST} bytes: it was not fetched.")
    except UserError:
        raise
    except ImportError as error:
        raise UserError(f"{address} needs one more package ({error}): pip install '.[remote]'.") from error
    except Exception as error:  # file systems raise many kinds
        cause = str(error).partition("\n")[0][:200] or type(error).__name__
        raise UserError(f"{address} cannot be fetched: {cause}.") from error
