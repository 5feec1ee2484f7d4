"""Searching settings: Optuna studies over `rnatracker`'s configs.

What is searched:  `space.py` the values, `definition.py` what identifies a study and opens it.
A study at work:   `study.py` who gets which trial, `storage.py` where it is kept, `sampling.py` the next settings,
                   `pruning.py` when a trial is pruned.
A trial:           `objective.py` its training and value, `memory.py` whether it fits, `trial_runs.py` its run.
The processes:     `tune.py` the command's, `worker.py` a worker's.
What was found:    `summary.py`, `pictures`, `refit.py` with fresh seeds, `hints.py` what to type next.
Beside these:      `checks.py` for the doctor, `optuna_private.py` what is used of Optuna's inner parts.

Of `rnatracker/`, only the doctor's command, the terminal's tables and the commands of studies import this package.
"""
