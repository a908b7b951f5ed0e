"""The options of a benchmark, with their types and ranges: `conf/benchmark.yaml` says what each is for."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from segmentation.classes import Classes
from segmentation.options import call
from segmentation.settings import ImageSettings, ModelSettings


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How long one measurement goes on."""

    warmup: Annotated[int, Field(ge=0)]
    seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    steps: Annotated[int, Field(ge=1)]


@dataclass(frozen=True, kw_only=True)
class BenchmarkSettings(ModelSettings):
    """A composed config of a benchmark."""

    outputs: Annotated[int, Field(ge=1, le=255)]
    runs: str | list[str] | None
    measure: Budget

    @property
    def classes(self) -> Classes:
        """Nameless ones, as many as there are outputs; one output is binary data."""
        count = max(self.outputs, 2)
        return Classes(tuple(f"class {index}" for index in range(count)), binary=self.outputs == 1)


def read_settings(config: Mapping[str, Any]) -> BenchmarkSettings:
    """The config with its types checked.

    Raises `UserError` for an option that does not exist, is missing, or has a value that it cannot have.
    """
    sections = dict(config)
    for name, part in (("data", ImageSettings), ("measure", Budget)):
        if isinstance(sections.get(name), dict):
            sections[name] = call(name, part, **sections[name])
    return call("", BenchmarkSettings, **sections)
