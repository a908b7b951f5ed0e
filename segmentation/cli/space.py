"""What a search looks through, and whether its trials so far looked through the same."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from segmentation.cli.sweep import Sweep

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

_ABSENT = "not given"


def space(sweep: Sweep) -> dict[str, str]:
    """The options that are searched, with where: `Categorical(choices=('focal', 'lovasz'))`.

    Raises Hydra's exceptions for what the sweeper cannot search.
    """
    # The sweeper's own reading of it, so that the two cannot differ.
    from hydra_plugins.hydra_optuna_sweeper._impl import create_optuna_distribution_from_override as read

    return {key: _shown(read(override)) for key, override in sweep.swept.items()}


def different(trials: "Sequence[FrozenTrial]", sweep: Sweep, now: dict[str, str]) -> list[str]:
    """What the trials' options or space differ in from the sweep's, as `seed=1, now 2`."""
    begun = [trial for trial in trials if trial.params or trial.user_attrs]
    if not begun:
        return []
    # One that was cut off may lack some.
    trial = min(begun, key=lambda trial: not trial.state.is_finished())
    # The sweeper keeps what all trials share with each.
    before = {key.lstrip("+~"): str(value) for key, value in trial.user_attrs.items()}
    before |= {key.lstrip("+~"): _shown(each) for key, each in trial.distributions.items()}
    after = {key: str(override.get_value_element_as_str()) for key, override in sweep.shared.items()} | now
    return [
        f"{key}={before.get(key, _ABSENT)}, now {after.get(key, _ABSENT)}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    ]


def _shown(distribution: Any) -> str:
    return str(distribution).replace("Distribution(", "(", 1)
