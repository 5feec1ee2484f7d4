"""Searching settings: Optuna studies over `rnatracker`'s configs.

Read `space.py` for what may be searched, `study.py` for a study, `objective.py` for a trial, `pruning.py` for when a
trial is dropped, `worker.py` and `tune.py` for the processes. Nothing under `rnatracker/` imports this package.
"""
