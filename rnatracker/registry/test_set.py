"""The test set that a registered model's versions are judged by, kept with the model.

Owns keeping it, finding it again, and refusing transcripts that a model was trained on. Must not know what makes a
champion. Read next: `rnatracker/data/fingerprints.py` for what a model was trained on; `promotion.py`.

The file is kept as it is, beside the files of the version that was judged by it first; the model's tag
`rnatracker.test_set` says where, and how to read it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from rnatracker import metrics
from rnatracker.data import fingerprints, similarity
from rnatracker.data.encoding import Indices
from rnatracker.data.fingerprints import Fingerprints
from rnatracker.data.formats.column_names import ColumnNames
from rnatracker.data.transcripts import Transcripts
from rnatracker.errors import DataError, RegistryError, TrackingError
from rnatracker.evaluation import evaluate
from rnatracker.registry import model_files
from rnatracker.registry.registry import Registry
from rnatracker.registry.version import Version
from rnatracker.tracking.tags import Tag

TAG = Tag.TEST_SET
FOLDER = "test_set"


@dataclass(frozen=True)
class DataOptions:
    """A file of labelled transcripts as a user names it.

    Attributes:
        path: the file.
        file_format: its format.
        sites: names of its sites; None: its own, or the model's.
        labels: which replicate, where there are two.
        id_column: column of the ids, in a table where its name doesn't say it.
        sequence_column: the same of the sequences.
    """

    path: str
    file_format: str = "auto"
    sites: tuple[str, ...] | None = None
    labels: str = "mean"
    id_column: str | None = None
    sequence_column: str | None = None


@dataclass(frozen=True)
class HeldOut:
    """A test set that has been read.

    Attributes:
        options: its file.
        transcripts: what it holds.
        digest: what identifies that.
    """

    options: DataOptions
    transcripts: Transcripts
    digest: str

    @property
    def name(self) -> str:
        """The file's name."""
        return Path(self.options.path).name


def read(options: DataOptions, sites: tuple[str, ...]) -> HeldOut:
    """Read a test set for models of these sites.

    Raises:
        DataError: if it can't be read.
    """
    chosen = None if options.sites is None else list(options.sites)
    columns = ColumnNames(options.id_column, options.sequence_column)
    found = evaluate.read_labelled(options.path, options.file_format, chosen, options.labels, sites, columns)
    return HeldOut(options, found, found.digest())


def check_measurable(held: HeldOut) -> None:
    """Refuse a test set on which nothing can be compared.

    Raises:
        DataError: if the mean PCC is undefined on it.
    """
    if not metrics.is_defined("pcc_mean", held.transcripts.measured()):
        raise DataError(
            f"{held.name}: pcc_mean is undefined, so nothing can be judged by it: at no site do the measured fractions "
            f"of its {len(held.transcripts)} transcripts differ",
            "give another test set with --data FILE",
        )


def kept(registry: Registry, sites: tuple[str, ...]) -> HeldOut | None:
    """Return the test set that a model keeps, or None.

    Raises:
        RegistryError: if it is gone or isn't what it was.
    """
    recorded = registry.model_tags().get(TAG)
    if not recorded:
        return None
    again = "give it, or another, with --data FILE"
    try:
        about = json.loads(recorded)
        options = DataOptions(**about["options"])
        path = model_files.added(registry.backend, about["model_id"], about["file"])
        chosen = None if options.sites is None else tuple(options.sites)
        found = read(replace(options, path=str(path), sites=chosen), sites)
        expected = str(about["digest"])
    except (ValueError, KeyError, TypeError, TrackingError, DataError) as error:
        raise RegistryError(f"the test set of model {registry.name!r} can't be read ({error})", again) from None
    if found.digest != expected:
        raise RegistryError(f"the test set of model {registry.name!r}, {path}, is not what was kept", again)
    return found


def keep(registry: Registry, version: Version, held: HeldOut) -> None:
    """Make a test set the model's from now on, unless it is already; its file is copied beside a version's.

    Raises:
        TrackingError: if it can't be written; the former one then stays.
    """
    if _is_kept(registry, held):
        return
    place = f"{FOLDER}/{held.digest}"
    model_files.add(registry.backend, version.model_id, Path(held.options.path), place)
    about = {
        "digest": held.digest,
        "transcripts": len(held.transcripts),
        "model_id": version.model_id,
        "file": f"{place}/{held.name}",
        "options": {**asdict(held.options), "path": held.name, "sites": list(held.transcripts.sites)},
    }
    registry.set_model_tags({TAG: json.dumps(about)})


def _is_kept(registry: Registry, held: HeldOut) -> bool:
    """Tell whether a test set is the model's and can be read: one that was lost or damaged is to be kept again."""
    try:
        found = kept(registry, held.transcripts.sites)
    except RegistryError:
        return False
    return found is not None and found.digest == held.digest


def check_unseen(held: HeldOut, model: str, data_digest: str, trained_on: Fingerprints | None) -> None:
    """Refuse a test set that a model was trained on, as a whole or in part.

    Args:
        held: the test set.
        model: what to call the model.
        data_digest: digest of what it was trained on; empty where that is unknown.
        trained_on: fingerprints of the same; None where they weren't kept.

    Raises:
        DataError: if it was, or that can't be known.
    """
    remedy = "set records aside before training with: rnatracker data split"
    if held.digest == data_digest:
        raise DataError(f"{held.name}: {model} was trained on this very file, so it can't judge it", remedy)
    if trained_on is None:
        raise DataError(
            f"{held.name}: what {model} was trained on was not recorded, so whether it has seen these transcripts "
            "can't be known",
            "register its run again, or use --force with a --reason",
        )
    shared = fingerprints.seen(held.transcripts, trained_on)
    if len(shared):
        raise DataError(
            f"{_some_of(held, shared)} have sequences that {model} was trained on", f"take them out, or {remedy}"
        )


def relatives(held: HeldOut, trained_on: Iterable[Transcripts]) -> Indices:
    """Return the indices of a test set's transcripts that have a relative in what a model was trained on, sorted.

    Raises:
        DataError: if the program that finds them isn't installed, or fails.
    """
    found = [similarity.between(held.transcripts, each).at()[0] for each in trained_on]
    return np.unique(np.concatenate(found)) if found else np.empty(0, np.int64)


def check_unrelated(held: HeldOut, model: str, found: Indices) -> None:
    """Refuse a test set of which `relatives` has found some.

    Raises:
        DataError: naming them.
    """
    if len(found):
        raise DataError(
            f"{_some_of(held, found)} have a relative ({similarity.said()}) in what {model} was trained on",
            "take them out, set families aside before training with: rnatracker data split --group-by similarity, or "
            "leave out --no-relatives",
        )


def _some_of(held: HeldOut, which: Indices) -> str:
    named = ", ".join(held.transcripts.ids[i] for i in which[:3]) + ", ..." * (len(which) > 3)
    return f"{held.name}: {len(which)} of its {len(held.transcripts)} transcripts ({named})"
