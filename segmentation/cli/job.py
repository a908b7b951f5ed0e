"""What a command is made of."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Job = Callable[[Mapping[str, Any], Path], float]
"""Gets its config as plain data and the folder of its run; the result is what a search makes large."""

Gather = Callable[[Path], str]
"""Gets the folder that holds all results, the run's own or the sweep's; its text is for the end."""
