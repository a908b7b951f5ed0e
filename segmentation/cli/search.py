"""A search by Optuna (`sweep=optuna`): its study goes on where it stopped; the best trial is printed as a command."""

import re
import shlex
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segmentation.cli.overrides import as_plain_data, quoted
from segmentation.cli.sweep_plan import Sweep, job_folder
from segmentation.errors import UserError
from segmentation.machine import program
from segmentation.options import flat
from segmentation.reading import read_yaml

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

_ABSENT = "not given"
_OF_A_SWEEP = ("callbacks.pruning.", "resume")
"""Options that relate a run to others: they are not needed to run it again alone."""

_PLAIN = re.compile(r"[A-Za-z_][\w./-]*")
_WORDS = {"null", "true", "false", "nan", "inf"}


class Search:
    """The study of a sweep, which several commands continue."""

    def __init__(self, sweep: Sweep, study: "Study") -> None:
        self._sweep = sweep
        self._study = study

    @classmethod
    def of(cls, sweep: Sweep) -> "Search | None":
        """The sweep's study, new or continued; None for a sweep without a study in a file.

        Raises `UserError` where earlier trials are not comparable with the new ones or no trial is asked for, and
        Hydra's exceptions for a space that cannot be searched.
        """
        settings = sweep.config.hydra.sweeper
        if not settings.get("storage"):
            return None
        if settings.n_trials < 1:
            raise UserError(f"hydra.sweeper.n_trials={settings.n_trials} asks for no trial: give 1 or more.")
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        _note_single_job(sweep)
        # Before the study exists: a space with a mistake must leave no trace in it.
        now = search_space(sweep)
        search = cls(sweep, _open(settings))
        changed = different(search._trials, sweep, now)
        if changed and search._has_results:
            raise UserError(
                f"{sweep.folder} holds a search with other options or another space ({', '.join(changed)}):"
                " their trials do not compare. Give another name=NAME."
            )
        if changed:
            # Optuna forgets no value that was ever proposed, and would refuse any other space.
            optuna.delete_study(study_name=settings.study_name, storage=settings.storage)
            search = cls(sweep, _open(settings))
        search._repeat_unfinished()
        return search

    @property
    def arguments(self) -> list[str]:
        """Overrides for the sweeper: how many trials are missing, and another seed."""
        settings = self._sweep.config.hydra.sweeper
        overrides = [f"hydra.sweeper.n_trials={self.missing}"]
        if settings.sampler.get("seed") is not None:
            # With the same seed the sampler would repeat its first proposals.
            overrides.append(f"hydra.sweeper.sampler.seed={settings.sampler.seed + len(self._study.trials)}")
        return overrides

    @property
    def missing(self) -> int:
        """How many trials are still to be run."""
        return max(0, self._sweep.config.hydra.sweeper.n_trials - self._count("COMPLETE"))

    @property
    def has_values(self) -> bool:
        """Whether any trial has a value."""
        return self._count("COMPLETE") > 0

    @property
    def ended(self) -> str:
        """Message for a search that stopped at an invalid proposal."""
        proposals = "; ".join(" ".join(_proposed(trial)) for trial in self._unfinished)
        return f"The search ended there, at {proposals}: what it found is kept, and the same command goes on."

    def print_best(self) -> None:
        """Prints the folder of the best trial, and the command that runs it again."""
        if not self.has_values:
            print("no trial came to a value", flush=True)  # noqa: T201
            return
        best = self._study.best_trial
        print(  # noqa: T201
            f"best of {len(self._trials)} trials: {best.value:.4f}, in {self._folder(best)}; to run it again:\n"
            f"  {self._again(best)}",
            flush=True,
        )

    def _again(self, trial: "FrozenTrial") -> str:
        """The command of a trial's run, with the values of the sweep's own file."""
        shared = [str(each.input_line) for key, each in self._sweep.shared.items() if key != "sweep"]
        overrides = [*shared, *_proposed(trial)]
        command = self._sweep.command
        more = more_overrides(self._folder(trial), as_plain_data(command.compose(overrides)))
        return shlex.join([*program(), *command.config_flags, *overrides, *more])

    @property
    def _trials(self) -> "list[FrozenTrial]":
        return self._study.get_trials(deepcopy=False)

    @property
    def _unfinished(self) -> "list[FrozenTrial]":
        return [trial for trial in self._trials if trial.state.name == "RUNNING"]

    def _count(self, state: str) -> int:
        return sum(trial.state.name == state for trial in self._trials)

    def _folder(self, trial: "FrozenTrial") -> Path:
        shared = [f"{key}={each.get_value_element_as_str()}" for key, each in self._sweep.shared.items()]
        return self._sweep.folder / job_folder([*shared, *_proposed(trial)], list(self._sweep.shared))

    @property
    def _has_results(self) -> bool:
        return any(
            trial.state.name == "COMPLETE"
            or (trial.params and (self._folder(trial) / "checkpoints").is_dir())
            for trial in self._trials
        )

    def _repeat_unfinished(self) -> None:
        from optuna.exceptions import ExperimentalWarning
        from optuna.trial import TrialState

        for trial in self._unfinished:
            self._study.tell(trial.number, state=TrialState.FAIL)
            # The folder exists once a config could be composed: any other trial would fail again.
            if trial.params and self._folder(trial).is_dir():
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", ExperimentalWarning)
                    # The same values give the same folder, where the run goes on.
                    self._study.enqueue_trial(trial.params)


def _open(settings: Any) -> "Study":
    import optuna

    direction = settings.direction
    return optuna.create_study(
        storage=settings.storage,
        study_name=settings.study_name,
        direction=direction if isinstance(direction, str) else direction.name,
        load_if_exists=True,
    )


def _note_single_job(sweep: Sweep) -> None:
    launcher = sweep.config.hydra.runtime.choices["hydra/launcher"]
    if launcher != "basic" and sweep.config.hydra.sweeper.n_jobs == 1:
        sys.stderr.write(
            f"note: {launcher} gets one trial at a time; hydra.sweeper.n_jobs=2 or more run side by side.\n"
        )


def _proposed(trial: "FrozenTrial") -> list[str]:
    return [f"{key}={value}" for key, value in trial.params.items()]


def search_space(sweep: Sweep) -> dict[str, str]:
    """The searched options with their distributions: `Categorical(choices=('focal', 'lovasz'))`.

    Raises Hydra's exceptions for what the sweeper cannot search.
    """
    # Parsed by the sweeper's own function, so that the two cannot differ.
    from hydra_plugins.hydra_optuna_sweeper._impl import create_optuna_distribution_from_override as read

    return {key: _shown(read(override)) for key, override in sweep.swept.items()}


def different(trials: "Sequence[FrozenTrial]", sweep: Sweep, now: dict[str, str]) -> list[str]:
    """The options and distributions in which the trials differ from the sweep, as `seed=1, now 2`."""
    begun = [trial for trial in trials if trial.params or trial.user_attrs]
    if not begun:
        return []
    # A trial that was cut off may lack some.
    trial = min(begun, key=lambda trial: not trial.state.is_finished())
    # With each trial the sweeper keeps what all of them share.
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


def more_overrides(run: Path, composed: Mapping[str, Any]) -> list[str]:
    """Extra overrides with which `composed` becomes the config of the run folder `run`; none where it has no config."""
    try:
        kept = read_yaml(run / "config.yaml")
    except (OSError, UserError):
        return []
    if not isinstance(kept, dict):
        return []
    before, now = flat(kept), flat(composed)
    planned = {"planned", "given", *(kept.get("planned") or ())}  # planned again from the same data
    keys = [key for key in sorted((before.keys() | now.keys()) - planned) if not key.startswith(_OF_A_SWEEP)]
    changed = [
        f"{key}={in_grammar(before[key])}"
        for key in keys
        if key in before and key in now and before[key] != now[key]
    ]
    added = [f"+{key}={in_grammar(before[key])}" for key in keys if key not in now]
    return [*changed, *added, *(f"~{key}" for key in keys if key not in before)]


def in_grammar(value: Any) -> str:
    """A value in Hydra's grammar: numbers, words, null, lists and mappings."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        return value if _PLAIN.fullmatch(value) and value.lower() not in _WORDS else quoted(value)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{in_grammar(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(in_grammar, value)) + "]"
    return str(value)
