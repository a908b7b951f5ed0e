"""A search by Optuna: a study in a file that goes on where it stopped, and the best of it as a command."""

import warnings
from typing import TYPE_CHECKING

from segmentation.cli.folders import job_folder
from segmentation.cli.sweep import Sweep, typed
from segmentation.errors import UserError

if TYPE_CHECKING:
    from optuna import Study

_ABSENT = "not given"


class Search:
    """The study of a sweep, between one command and the next."""

    def __init__(self, sweep: Sweep, study: "Study") -> None:
        self._sweep = sweep
        self._study = study

    @classmethod
    def of(cls, sweep: Sweep) -> "Search | None":
        """The sweep's study, new or taken up; None for a sweep that is no search or keeps none.

        Raises `UserError` where its earlier trials do not compare with those that would follow.
        """
        settings = sweep.config.hydra.sweeper
        if not settings.get("storage"):
            return None
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        direction = settings.direction
        study = optuna.create_study(
            storage=settings.storage,
            study_name=settings.study_name,
            direction=direction if isinstance(direction, str) else direction.name,
            load_if_exists=True,
        )
        search = cls(sweep, study)
        search._refuse_others()
        search._take_up()
        return search

    @property
    def arguments(self) -> list[str]:
        """What the sweeper is to be told: how many trials are missing, and where its random numbers go on."""
        settings = self._sweep.config.hydra.sweeper
        told = [f"hydra.sweeper.n_trials={max(0, settings.n_trials - self._completed)}"]
        if settings.sampler.get("seed") is not None:
            # From the same seed the sampler would propose what it proposed at the start.
            told.append(f"hydra.sweeper.sampler.seed={settings.sampler.seed + len(self._study.trials)}")
        return told

    @property
    def fruitful(self) -> bool:
        """Whether any trial came to a value."""
        return self._completed > 0

    def tell(self) -> None:
        """Prints the best trial, as the command that runs it again and the folder where it is."""
        if not self.fruitful:
            return
        best = self._study.best_trial
        found = [f"{key}={value}" for key, value in best.params.items()]
        shared = [str(each.input_line) for key, each in self._sweep.shared.items() if key != "sweep"]
        folder = self._sweep.folder / job_folder(found, ())
        print(  # noqa: T201
            f"best of {len(self._study.trials)} trials: {best.value:.4f}, in {folder}; to run it again:\n"
            f"  {typed([*shared, *found])}",
            flush=True,
        )

    @property
    def _completed(self) -> int:
        from optuna.trial import TrialState

        return len(self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)))

    def _take_up(self) -> None:
        from optuna.exceptions import ExperimentalWarning
        from optuna.trial import TrialState

        for trial in self._study.get_trials(states=(TrialState.RUNNING,)):
            self._study.tell(trial.number, state=TrialState.FAIL)
            if trial.params:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", ExperimentalWarning)
                    # The same values lead to the same folder, where its run goes on.
                    self._study.enqueue_trial(trial.params)

    def _refuse_others(self) -> None:
        trials = self._study.get_trials(deepcopy=False)
        if not trials:
            return
        settled = {key: override.get_value_element_as_str() for key, override in self._sweep.shared.items()}
        # The sweeper keeps what all trials share with each.
        earlier = {key.lstrip("+~"): value for key, value in trials[-1].user_attrs.items()}
        changed = sorted(
            key for key in earlier.keys() | settled.keys() if earlier.get(key) != settled.get(key)
        )
        if earlier and changed:
            listed = ", ".join(
                f"{key}={earlier.get(key, _ABSENT)}, now {settled.get(key, _ABSENT)}" for key in changed
            )
            raise UserError(
                f"{self._sweep.folder} holds a search with other options ({listed}): their trials do not"
                " compare. Give another name=NAME."
            )
