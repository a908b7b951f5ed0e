"""Video files and cameras, opened. A stranger's file can open nothing but itself."""

import sys
from pathlib import Path

import av

from segmentation.errors import UserError

FORMATS = (
    "asf,avi,dv,flv,gif,h264,hevc,ivf,matroska,webm,mjpeg,mov,mp4,mpeg,mpegts,mpegvideo,mxf,obu,ogg,rm,swf"
)
"""The containers that are read: those that hold their own pixels. Playlists (hls, concat, dash) and FFmpeg's
script-like inputs (lavfi) would let a stranger's file open other files and addresses."""


def open_media(path: Path) -> av.container.InputContainer:
    """The container of a file, which can open nothing but itself.

    Raises `UserError` where there is no such file, or it is empty, damaged or no video.
    """
    if not path.is_file():
        raise UserError(f"{path} cannot be read: there is no such file.")
    try:
        # Named as a file, lest FFmpeg takes a colon in a name for a protocol.
        container = av.open(
            f"file:{path}", "r", options={"protocol_whitelist": "file", "format_whitelist": FORMATS}
        )
    except av.FFmpegError as error:
        raise _unreadable(path) from error
    if not container.streams:
        container.close()
        raise _unreadable(path)
    return container


def open_camera(number: int) -> av.container.InputContainer:
    """The camera `/dev/video<number>`. Raises `UserError` where there is none or it is in use."""
    if sys.platform != "linux":
        raise UserError("Cameras are read on Linux only: record a file, and give its path.")
    device = f"/dev/video{number}"
    try:
        return av.open(device, "r", format="v4l2")
    except (av.FFmpegError, OSError, ValueError) as error:
        cause = getattr(error, "strerror", None) or str(error)
        there = ", ".join(sorted(str(path) for path in Path("/dev").glob("video*"))) or "none"
        raise UserError(
            f"Camera {number} ({device}) cannot be opened: {cause}. Cameras here: {there}."
        ) from error


def _unreadable(path: Path) -> UserError:
    empty = path.stat().st_size == 0
    cause = "it is empty (0 bytes)" if empty else "it is damaged, cut off or no video"
    return UserError(f"{path} cannot be read: {cause}. Repair it, or convert it to MP4.")
