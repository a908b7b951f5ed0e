"""The options of a leaderboard: `conf/leaderboard.yaml` says what each is for."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from segmentation.options import call


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A composed config of a leaderboard."""

    runs: str | list[str]
    metric: str
    latency: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    benchmarks: str | None
    output: str | None

    @property
    def folders(self) -> list[Path]:
        """Where the runs are."""
        given = [self.runs] if isinstance(self.runs, str) else self.runs
        return [Path(folder).expanduser() for folder in given]

    @property
    def target(self) -> Path:
        """Where the results go."""
        return Path(self.output).expanduser() if self.output else self.folders[0]


def read_settings(config: Mapping[str, Any]) -> Settings:
    """The config with its types checked.

    Raises `UserError` for an option that does not exist, is missing, or has a value that it cannot have.
    """
    return call("", Settings, **config)
