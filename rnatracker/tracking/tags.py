"""The names of all tags: of runs, of registered versions, of models and of experiments.

Owns nothing but the names. A run's tags are for people unless they say otherwise here.
"""

from __future__ import annotations

from typing import Final

from rnatracker.processes import identity


class Tag:
    """Names of tags. Those of the same name on a run and on a version mean the same."""

    # What a run is, and what it is made of.
    KIND: Final = "rnatracker.kind"
    """`train`, `cross-validation`, `fold`, `study`, `trial`, `baseline`, `blend` or `imported`."""
    BASELINE: Final = "rnatracker.baseline"
    """Of a baseline: which."""
    STUDY: Final = "rnatracker.study"
    TRIAL: Final = "rnatracker.trial"
    FOLD: Final = "rnatracker.fold"
    DATA_DIGEST: Final = "rnatracker.data_digest"
    SPLIT_DIGEST: Final = "rnatracker.split_digest"
    SITES: Final = "rnatracker.sites"
    SEED: Final = "rnatracker.seed"
    DEVICE: Final = "rnatracker.device"
    THREADS: Final = "rnatracker.threads"
    KERNEL: Final = "rnatracker.kernel"
    TENSORBOARD: Final = "rnatracker.tensorboard"
    WEIGHTS: Final = "rnatracker.weights"
    """The file of weights that a run began from."""
    WEIGHTS_DIGEST: Final = "rnatracker.weights_digest"
    TRANSFER: Final = "rnatracker.transfer"
    """The file of weights whose trunk a run began from."""
    TRANSFER_DIGEST: Final = "rnatracker.transfer_digest"
    TRANSFER_RUN: Final = "rnatracker.transfer_run"
    """The id of the run that these weights are of, where that is known."""
    ALSO_DIGESTS: Final = "rnatracker.also_digests"
    """Of a run with further data sets: their digests, with commas between."""
    MODEL_DIGEST: Final = "rnatracker.model_digest"
    """Of a baseline or blend: the digest of the files of its models, which are read only if they still have it."""
    MEMBERS: Final = "rnatracker.members"
    """Of a blend: the runs that it is made of, as JSON."""

    # How it ended.
    MESSAGE: Final = "rnatracker.message"
    """Why a run ended as it did."""
    PRUNED: Final = "pruned"
    PRUNED_FOLD: Final = "pruned.fold"
    PRUNED_EPOCH: Final = "pruned.epoch"
    PRUNED_SAVED_EPOCHS: Final = "pruned.saved_epochs"
    PRUNED_SAVED_SECONDS: Final = "pruned.saved_seconds"

    PAUSED: Final = "paused"
    """Of a trial's run: where and why the study's scheduler has paused it; empty once it is resumed."""
    SCHEDULE: Final = "rnatracker.schedule"
    """Of a trial's run: when its study's scheduler has paused and resumed it, and why, a line each."""

    FRESH: Final = "fresh"
    """Of a trial's run that only trains another trial's settings with a fresh seed: that trial, and the round."""

    # How runs belong together.
    PARENT: Final = "mlflow.parentRunId"
    REPLAYS: Final = "rnatracker.replays"
    """Of a replay: the id of the run that it repeats."""
    REPLAY_AGREEMENT: Final = "rnatracker.replay_agreement"
    """Of a replay: whether its figures are those of that run."""
    REFIT: Final = "rnatracker.refit"
    BEGUN: Final = "rnatracker.begun"
    """Of a study's run and those of its refit: what the study has noted before it made the run, to find it by."""
    JOBS: Final = "rnatracker.jobs"
    """Of a cross-validation whose folds are jobs of a cluster: each fold's job and the folder of its logs, as JSON."""
    WINNER: Final = "rnatracker.winner"
    """Of a study: the run of what fresh seeds have shown to be best."""

    # Where its numbers come from.
    VERSION: Final = "rnatracker.version"
    PYTHON: Final = "rnatracker.python"
    TORCH: Final = "rnatracker.torch"
    NUMPY: Final = "rnatracker.numpy"
    SCIPY: Final = "rnatracker.scipy"
    PANDAS: Final = "rnatracker.pandas"
    MLFLOW: Final = "rnatracker.mlflow"
    COMMAND: Final = "rnatracker.command"
    COMMIT: Final = "mlflow.source.git.commit"
    GIT_DIRTY: Final = "rnatracker.git_dirty"

    # Of an imported log folder.
    IMPORTED_FROM: Final = "rnatracker.imported_from"
    DATA_PATH: Final = "rnatracker.data_path"
    VALIDATION_DROPOUT: Final = "rnatracker.validation_dropout"
    LOSS_UNIT: Final = "rnatracker.loss_unit"

    # What MLflow shows or reads.
    NOTE: Final = "mlflow.note.content"
    """Shown as the run's description, as Markdown."""
    USER: Final = "mlflow.user"
    SOURCE_NAME: Final = "mlflow.source.name"
    SOURCE_TYPE: Final = "mlflow.source.type"
    DATA_CONTEXT: Final = "mlflow.data.context"
    MODEL_VERSIONS: Final = "mlflow.modelVersions"
    VIEW: Final = "mlflow.sharedViewState.{}"
    """Of an experiment: a view of its runs, by key."""

    # Of a registered version, beside those above, and of its model.
    CHECKSUMS: Final = "rnatracker.weights_sha256"
    RECORDS_DIGEST: Final = "rnatracker.training_records_sha256"
    """Of what tells which transcripts it was trained on; versions from before 2026-12 have none."""
    RUN_NAME: Final = "rnatracker.run_name"
    METRICS: Final = "rnatracker.metrics"
    DESCRIPTION: Final = "rnatracker.description"
    SIZE: Final = "rnatracker.size_bytes"
    RESIDUALS_DIGEST: Final = "rnatracker.residuals_sha256"
    MODEL_ID: Final = "rnatracker.model_id"
    VERDICT: Final = "rnatracker.verdict"
    TEST_SET: Final = "rnatracker.test_set"

    MOVING: Final = "rnatracker.moving_aliases"
    """Of a registered model: the aliases that are moved together just now, and where to."""

    # The machinery's own: nobody need read them.
    HOST: Final = identity.HOST
    PID: Final = identity.PID
    BOOT_ID: Final = identity.BOOT_ID
    PROCESS_START: Final = identity.PROCESS_START
    PID_NAMESPACE: Final = identity.PID_NAMESPACE
    OWN_NOTE: Final = "rnatracker.own_note"
    """Of a run or a version: length and digest of what we have written in its description, the rest being a user's."""
    REVISION: Final = "rnatracker.revision"
    """Which upload of a remote run's files is the latest."""
    NEXT_NUMBER: Final = "rnatracker.next_number"
    """Of an experiment: N of the next `exp<N>`."""
