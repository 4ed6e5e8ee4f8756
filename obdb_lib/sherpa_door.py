"""The only door to ``sherpa``: nothing else imports it.

parameter-sherpa 1.0.6 (GPL-3.0) is used unmodified; ``study_class`` mends in a subclass what no longer works with
current pandas, and keeps its dashboard off every interface but the loopback.
"""

from __future__ import annotations

import functools
import importlib
import logging
import multiprocessing
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pandas as pd

from obdb_lib import dashboard
from obdb_lib.errors import TrainingError

logger = logging.getLogger(__name__)

FORK = multiprocessing.get_context("fork")
CHATTY = ("GP", "paramz", "sherpa", "werkzeug")
"""Loggers of Sherpa's packages that tell every step of their own at INFO."""


@contextmanager
def _quiet_logging() -> Iterator[None]:
    """Undo the handlers and level that ``logging.basicConfig`` in an imported package sets."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pkg_resources is deprecated; GPyOpt cannot do without
            yield
    finally:
        for handler in [h for h in root.handlers if h not in handlers]:
            root.removeHandler(handler)
        root.setLevel(level)


@functools.cache
def load_sherpa() -> Any:
    """The sherpa package, imported without its side effects on logging."""
    with _quiet_logging():
        sherpa = importlib.import_module("sherpa")
        importlib.import_module("sherpa.algorithms.bayesian_optimization")
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
    return sherpa


@functools.cache
def study_class() -> Any:
    """``sherpa.Study`` with the parts replaced that current pandas broke, and a dashboard for this machine only."""
    sherpa = load_sherpa()

    class LabStudy(sherpa.Study):  # type: ignore[misc,name-defined]  # sherpa has no types
        results: pd.DataFrame
        dashboard_port: int

        def add_observation(
            self, trial: Any, objective: float, iteration: int = 1, context: dict[str, float] | None = None
        ) -> None:
            results = self.results
            if len(results) and ((results["Trial-ID"] == trial.id) & (results["Iteration"] == iteration)).any():
                raise TrainingError(f"trial {trial.id} already has an observation at iteration {iteration}")
            values = {name: trial.parameters[name] for name in sorted(trial.parameters)}
            self._append(
                {
                    "Trial-ID": trial.id,
                    "Status": "INTERMEDIATE",
                    "Iteration": iteration,
                    **values,
                    "Objective": objective,
                    **(context or {}),
                }
            )

        def finalize(self, trial: Any, status: str = "COMPLETED") -> None:
            rows = self.results[self.results["Trial-ID"] == trial.id] if len(self.results) else self.results
            if not len(rows):
                raise TrainingError(f"trial {trial.id} has no observation")
            known = rows.dropna(subset=["Objective"])
            if len(known):
                chosen: pd.Series = known.sort_values("Objective", ascending=self.lower_is_better, kind="stable").iloc[
                    0
                ]
            else:
                status, chosen = "FAILED", rows.iloc[0]
            values = {str(name): value for name, value in chosen.items()}
            self._append({**values, "Status": status, "Iteration": rows["Iteration"].max()})

        def get_best_result(self) -> dict[str, Any]:
            known = self.results.dropna(subset=["Objective"]) if len(self.results) else self.results
            if not len(known):
                return {}
            best = known.sort_values("Objective", ascending=self.lower_is_better, kind="stable").iloc[0].to_dict()
            best.pop("Status")
            return {str(name): value for name, value in best.items()}

        def _append(self, row: dict[str, Any]) -> None:
            one = pd.DataFrame([row])
            self.results = pd.concat([self.results, one], ignore_index=True) if len(self.results) else one
            if self.dashboard_process:
                self._results_channel.df = self.results

        def _run_web_server(self, port: int) -> Any:
            with _quiet_logging():
                app = importlib.import_module("sherpa.app.app").app
            app.parameter_types = {
                p.name: "int" if isinstance(p, sherpa.Discrete) else "float" for p in self.parameters
            }
            app.set_results_channel(self._results_channel)
            app.set_stopping_channel(self._stopping_channel)
            self.dashboard_port = dashboard.free_port(port)
            if self.dashboard_port != port:
                logger.warning("port %d is taken; the dashboard takes %d", port, self.dashboard_port)
            # fork, as Sherpa does: the channels are inherited and the pages need no second import of everything
            process = FORK.Process(target=dashboard.serve, args=(app, self.dashboard_port), daemon=True)
            process.start()
            logger.info("Sherpa's dashboard: http://%s:%d", dashboard.LOOPBACK, self.dashboard_port)
            return process

        def close(self) -> None:
            """Stop the dashboard, if there is one."""
            if self.dashboard_process:
                self.dashboard_process.terminate()
                self.dashboard_process.join()
                self._mgr.shutdown()

        @staticmethod
        def load_dashboard(path: str) -> Any:
            raise TrainingError(
                f"{path}: Sherpa's stored studies are pickles, which could run code when loaded, so they are refused; "
                "searches of this lab are continued from their JSON record"
            )

    return LabStudy
