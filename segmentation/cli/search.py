"""A search by Optuna: a study in a file that goes on where it stopped, and the best of it as a command."""

import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segmentation.cli.command import more_overrides, own_options
from segmentation.cli.sweep import Sweep, job_folder, typed
from segmentation.errors import UserError

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

# MERGED FROM cli/space: What a search looks through, and whether its trials so far looked through the same.

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


class Search:
    """The study of a sweep, between one command and the next."""

    def __init__(self, sweep: Sweep, study: "Study") -> None:
        self._sweep = sweep
        self._study = study

    @classmethod
    def of(cls, sweep: Sweep) -> "Search | None":
        """The sweep's study, new or taken up; None for a sweep that is no search or keeps none.

        Raises `UserError` where its earlier trials do not compare with those that would follow or none is asked
        for, and Hydra's exceptions for a space that cannot be searched.
        """
        settings = sweep.config.hydra.sweeper
        if not settings.get("storage"):
            return None
        if settings.n_trials < 1:
            raise UserError(f"hydra.sweeper.n_trials={settings.n_trials} asks for no trial: give 1 or more.")
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        _say_if_alone(sweep)
        # Before the study is there: a space with a mistake must leave no trace in it.
        now = space(sweep)
        search = cls(sweep, _open(settings))
        changed = different(search._trials, sweep, now)
        if changed and search._has_results:
            raise UserError(
                f"{sweep.folder} holds a search with other options or another space ({', '.join(changed)}):"
                " their trials do not compare. Give another name=NAME."
            )
        if changed:
            # Optuna forgets no value that was ever proposed, and would refuse every other space for ever.
            optuna.delete_study(study_name=settings.study_name, storage=settings.storage)
            search = cls(sweep, _open(settings))
        search._take_up()
        return search

    @property
    def arguments(self) -> list[str]:
        """What the sweeper is to be told: how many trials are missing, and where its random numbers go on."""
        settings = self._sweep.config.hydra.sweeper
        told = [f"hydra.sweeper.n_trials={max(0, settings.n_trials - self._count('COMPLETE'))}"]
        if settings.sampler.get("seed") is not None:
            # From the same seed the sampler would propose what it proposed at the start.
            told.append(f"hydra.sweeper.sampler.seed={settings.sampler.seed + len(self._study.trials)}")
        return told

    @property
    def fruitful(self) -> bool:
        """Whether any trial came to a value."""
        return self._count("COMPLETE") > 0

    @property
    def ended(self) -> str:
        """What became of a search among whose proposals one makes no config."""
        proposals = "; ".join(" ".join(_proposed(trial)) for trial in self._unfinished)
        return f"The search ended there, at {proposals}: what it found is kept, and the same command goes on."

    def tell(self) -> None:
        """Prints the best trial, as the command that runs it again and the folder where it is."""
        if not self.fruitful:
            print("no trial came to a value", flush=True)  # noqa: T201
            return
        best = self._study.best_trial
        print(  # noqa: T201
            f"best of {len(self._trials)} trials: {best.value:.4f}, in {self._folder(best)}; to run it again:\n"
            f"  {self._again(best)}",
            flush=True,
        )

    def _again(self, trial: "FrozenTrial") -> str:
        """The command of a trial's run, with what the sweep's own file settled for it."""
        shared = [str(each.input_line) for key, each in self._sweep.shared.items() if key != "sweep"]
        overrides = [*shared, *_proposed(trial)]
        command = self._sweep.command
        more = more_overrides(self._folder(trial), own_options(command.compose(overrides)))
        return typed([*command.config_flags, *overrides, *more])

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

    def _take_up(self) -> None:
        from optuna.exceptions import ExperimentalWarning
        from optuna.trial import TrialState

        for trial in self._unfinished:
            self._study.tell(trial.number, state=TrialState.FAIL)
            # The folder is there once a config could be composed: what could not would fail for ever.
            if trial.params and self._folder(trial).is_dir():
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", ExperimentalWarning)
                    # The same values lead to the same folder, where its run goes on.
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


def _say_if_alone(sweep: Sweep) -> None:
    launcher = sweep.config.hydra.runtime.choices["hydra/launcher"]
    if launcher != "basic" and sweep.config.hydra.sweeper.n_jobs == 1:
        sys.stderr.write(
            f"note: {launcher} gets one trial at a time; hydra.sweeper.n_jobs=2 or more run side by side.\n"
        )


def _proposed(trial: "FrozenTrial") -> list[str]:
    return [f"{key}={value}" for key, value in trial.params.items()]
