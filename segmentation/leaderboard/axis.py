"""An axis of a picture: where a value lies, and which values are written beside it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

_STEPS = (1, 2, 5)


@dataclass(frozen=True)
class Axis:
    """From values to places; `ticks` are values at round numbers."""

    low: float
    high: float
    logarithmic: bool

    @classmethod
    def around(cls, values: Sequence[float], *, logarithmic: bool) -> "Axis":
        """All values inside, with some air."""
        low, high = min(values), max(values)
        if logarithmic:
            air = max(1.3, (high / low) ** 0.12)
            return cls(low / air, high * air, True)
        air = 0.14 * (high - low) or 0.05 * abs(high) or 0.05
        return cls(low - air, high + air, False)

    def share(self, value: float) -> float:
        """0 at the low end, 1 at the high end."""
        if self.logarithmic:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self) -> list[float]:
        """Round numbers between the ends, at least two where there are any."""
        if self.logarithmic and self.high / self.low > 4:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            values = [step * 10.0**power for power in powers for step in _STEPS]
        else:
            rough = (self.high - self.low) / 4
            power = 10.0 ** math.floor(math.log10(rough))
            width = next(step * power for step in (*_STEPS, 10) if step * power >= rough)
            values = [
                width * place for place in range(math.ceil(self.low / width), int(self.high / width) + 1)
            ]
        return [value for value in values if self.low <= value <= self.high]
