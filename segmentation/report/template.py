"""A template, filled: a page that shows everything and asks no network for anything.

Names of classes, runs and files may hold anything: templates escape whatever they insert, and the page's own security
policy lets no script run but the one written here.
"""

import base64
import hashlib
from datetime import date
from pathlib import Path
from typing import Any

from segmentation import __version__

_SHARED = Path(__file__).parent / "templates"


def fill(template: str, *, script: str, folder: Path = _SHARED, **values: Any) -> str:
    """`template`.html.j2 of `folder` with its script and the style of all pages."""
    # Imported here: only the end of a command needs it.
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    code = (folder / script).read_text(encoding="utf-8")
    environment = Environment(
        loader=FileSystemLoader([folder, _SHARED]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    return environment.get_template(f"{template}.html.j2").render(
        **values,
        style=Markup((_SHARED / "report.css").read_text(encoding="utf-8")),
        script=Markup(code),
        script_hash=base64.b64encode(hashlib.sha256(code.encode()).digest()).decode(),
        version=__version__,
        date=date.today().isoformat(),
    )
