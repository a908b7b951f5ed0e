"""A page in the browser that shows what checkpoints say of a picture or a video. `app.py` calls `app`."""

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from segmentation.config import AppSettings
from segmentation.errors import UserError
from segmentation.library_warnings import library_warnings_hidden

log = logging.getLogger(__name__)

_PRIVATE = {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "1"}
"""Variables by which gradio calls nobody."""


@library_warnings_hidden()
def app(settings: AppSettings) -> float:
    """Serves the page until the process is interrupted. Uploads and results lie in a folder that is gone then.

    Raises `UserError` for a checkpoint that cannot be read, a port that is in use, and where gradio is missing.
    """
    settings.require_checkpoints()
    port = _free(settings.host, settings.port)
    with TemporaryDirectory(prefix="segmentation-app-") as name:
        # gradio reads them when it is imported.
        os.environ.update(_PRIVATE, GRADIO_TEMP_DIR=name)
        try:
            from segmentation.app.page import build_page, serve
        except ModuleNotFoundError as error:
            if error.name != "gradio":
                raise
            raise UserError("The app needs gradio: pip install '.[app]'.") from error
        from segmentation.app.answers import load_models

        page = build_page(load_models(settings), settings, Path(name))
        with serve(page, settings, port) as address, _ended_quietly():
            log.info("%s (Ctrl-C ends it)", address)
            page.block_thread()
    return 0.0


def _free(host: str, port: int) -> int:
    """The port, or a free one for 0. Raises `UserError` where there is none."""
    try:
        with socket.create_server((host, port)) as server:
            found: int = server.getsockname()[1]
            return found
    except OSError as error:
        raise UserError(
            f"host={host} port={port} cannot be listened at ({error.strerror}): give another, or port=0."
        ) from error


@contextmanager
def _ended_quietly() -> Iterator[None]:
    """Ctrl-C is how the page ends."""
    try:
        yield
    except KeyboardInterrupt:
        log.info("ended")
