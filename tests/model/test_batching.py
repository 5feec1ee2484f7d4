"""Order and padding of batches."""

from __future__ import annotations

import numpy as np
import torch

from rnatracker.data.encoding import cut, pad
from rnatracker.model.batching import Batches, Resident
from tests.support.toys import small_config, toy_transcripts


def _batches(n: int, **changes: object) -> Batches:
    settings, transcripts = small_config(**changes), toy_transcripts(n)
    encoded = cut(transcripts.codes, transcripts.offsets, settings.encoding)
    return Batches(encoded, settings.encoding, settings.model.masked, torch.device("cpu"))


def test_training_order_has_each_transcript_once_and_the_same_for_a_seed() -> None:
    for masked in (True, False):
        batches = _batches(37, model__masked=masked)
        first, second = (batches.training_order(8, np.random.default_rng(3)) for _ in range(2))
        assert sorted(np.concatenate(first).tolist()) == list(range(37))
        assert [b.tolist() for b in first] == [b.tolist() for b in second]
        assert [len(b) for b in first].count(8) == 4


def test_training_order_groups_like_lengths_when_masked() -> None:
    batches = _batches(400)
    lengths = batches.encoded.lengths

    def spread(order: list[np.ndarray]) -> float:
        return float(np.mean([np.ptp(lengths[batch]) for batch in order]))

    bucketed = batches.training_order(8, np.random.default_rng(0))
    shuffled = _batches(400, model__masked=False).training_order(8, np.random.default_rng(0))
    assert spread(bucketed) < spread(shuffled) / 3


def test_transcripts_share_other_batches_when_the_epoch_changes() -> None:
    batches = _batches(400)
    epochs = [
        {frozenset(batch.tolist()) for batch in batches.training_order(8, np.random.default_rng([0, epoch]))}
        for epoch in (1, 2)
    ]
    assert len(epochs[0] & epochs[1]) < 5


def test_evaluation_order_has_each_transcript_once() -> None:
    for masked in (True, False):
        order = _batches(50, model__masked=masked).evaluation_order()
        assert sorted(np.concatenate(order).tolist()) == list(range(50))


def test_batch_is_padded_to_its_longest_when_masked_and_to_max_length_when_not() -> None:
    indices = np.array([0, 1])
    masked, unmasked = _batches(5), _batches(5, model__masked=False)
    assert masked.gather(indices).codes.shape[1] == masked.encoded.lengths[:2].max()
    batch = unmasked.gather(indices)
    assert batch.codes.shape[1] == 60
    assert (batch.codes[0, : 60 - int(batch.lengths[0])] == 0).all()
    assert batch.codes[0, -1] != 0


def test_padding_on_the_device_gives_the_same_batch() -> None:
    encoded = _batches(20).encoded
    resident = Resident(encoded, torch.device("cpu"))
    indices = np.array([3, 19, 0, 7])
    for front in (True, False):
        width = int(encoded.lengths[indices].max()) + 5
        expected = pad(encoded, indices, width, front=front)
        padded = resident.pad(encoded.take(indices), width, front=front)
        assert padded.dtype == torch.uint8
        assert (padded.numpy() == expected).all()
