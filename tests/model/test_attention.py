"""Where attention lies: steps to nucleotides against a mapping written another way, and a network made by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rnatracker.config import EncodingConfig, ModelConfig
from rnatracker.data.encoding import cut, pad
from rnatracker.data.sequences import from_sequences
from rnatracker.errors import CheckpointError
from rnatracker.model.attention import Attention, Spans
from rnatracker.model.checkpoint import Checkpoint
from rnatracker.model.network import RNATracker, steps_of
from rnatracker.prediction.predictor import Predictor
from tests.support.toys import SITES, small_config, toy_checkpoint, toy_transcripts

CPU = torch.device("cpu")


def by_nucleotide(spans: Spans) -> dict[int, int]:
    """Return, for each nucleotide that a stretch covers, which stretch; none may be covered twice."""
    found: dict[int, int] = {}
    for number, (start, end) in enumerate(zip(spans.starts, spans.ends, strict=True)):
        assert start < end
        for position in range(start, end):
            assert position not in found
            found[position] = number
    return found


def nearest_steps(length: int, encoding: EncodingConfig, model: ModelConfig) -> tuple[dict[int, int], int]:
    """Return each nucleotide's step, the one whose receptive field has its middle nearest, and the number of steps.

    The slow way: a transcript whose codes are its positions goes through cutting and padding.
    """
    encoded = cut(np.arange(length, dtype=np.uint8), np.array([0, length], np.int64), encoding)
    width = int(encoded.lengths[0]) if model.masked else max(encoding.max_length, model.receptive_field)
    row = pad(encoded, np.array([0]), width, front=not model.masked)[0]
    first = width - int(encoded.lengths[0]) if not model.masked else 0
    steps = int(steps_of(torch.tensor(width), model))
    middles = np.arange(steps) * model.pool**2 + model.receptive_field / 2
    found = {}
    for place in range(first, first + int(encoded.lengths[0])):
        distances = np.abs(middles - (place + 0.5))
        found[int(row[place])] = int(len(middles) - 1 - distances[::-1].argmin())  # of two as near the later
    return found, steps


@st.composite
def cases(draw: st.DrawFn) -> tuple[int, EncodingConfig, ModelConfig]:
    model = small_config(
        model__conv1_kernel=draw(st.integers(1, 6)),
        model__conv2_kernel=draw(st.integers(1, 5)),
        model__pool=draw(st.integers(1, 3)),
        model__masked=draw(st.booleans()),
    ).model
    encoding = EncodingConfig(max_length=draw(st.integers(20, 80)), keep=draw(st.sampled_from(["5p", "3p", "both"])))
    return draw(st.integers(1, 200)), encoding, model


@given(case=cases(), seed=st.integers(0, 99))
def test_every_nucleotide_belongs_to_the_step_whose_middle_is_nearest(
    case: tuple[int, EncodingConfig, ModelConfig], seed: int
) -> None:
    length, encoding, model = case
    expected, steps = nearest_steps(length, encoding, model)
    encoded = cut(np.zeros(length, np.uint8), np.array([0, length], np.int64), encoding)
    attention = Attention(encoded, encoding, model)
    weights = np.random.default_rng(seed).dirichlet(np.ones(steps)).astype(np.float32)
    attention.add(np.array([0]), weights[None])
    spans = attention.spans(0)
    stretches = by_nucleotide(spans)
    assert stretches.keys() == expected.keys(), "just what the network has seen"
    assert spans.weights.sum() == pytest.approx(1)
    assert (np.diff(spans.starts) > 0).all()
    own = sorted(set(expected.values()))
    assert attention.on_padding[0] == pytest.approx(1 - weights[own].astype(float).sum(), abs=1e-6)
    for step in own:
        mine = [position for position, of in expected.items() if of == step]
        parts = {stretches[position] for position in mine}
        assert len(parts) <= 2
        assert all(expected[p] == step for p, part in stretches.items() if part in parts)
        share = weights[step].astype(float) / weights[own].astype(float).sum()
        assert spans.weights[sorted(parts)].sum() == pytest.approx(share, rel=1e-5)


def spans_of(length: int, weights: list[float], **changes: Any) -> tuple[Spans, float]:
    settings = small_config(**changes)
    encoded = cut(np.zeros(length, np.uint8), np.array([0, length], np.int64), settings.encoding)
    attention = Attention(encoded, settings.encoding, settings.model)
    attention.add(np.array([0]), np.array([weights], np.float32))
    spans = attention.spans(0)
    return spans, float(attention.on_padding[0])


# The small network: kernels of 4 and 3, pool of 2: a step reads (2 + 3 - 1) * 2 + 4 - 1 = 11, the next 4 further on.
# Middles at 5.5, 9.5, 13.5, ...: borders at 7.5, 11.5, ..., and the nucleotide on a border goes to the later step.
SHORT: dict[str, Any] = {"encoding__max_length": 20, "model__masked": True}


def test_spans_are_as_worked_out_by_hand_when_nothing_is_cut() -> None:
    spans, on_padding = spans_of(20, [0.5, 0.25, 0.25], **SHORT)
    assert (spans.starts.tolist(), spans.ends.tolist()) == ([0, 7, 11], [7, 11, 20])
    assert (spans.weights.tolist(), on_padding) == ([0.5, 0.25, 0.25], 0)


@pytest.mark.parametrize(
    ("keep", "starts", "ends", "weights"),
    [
        ("5p", [0, 7, 11], [7, 11, 20], [0.5, 0.25, 0.25]),
        ("3p", [80, 87, 91], [87, 91, 100], [0.5, 0.25, 0.25]),
        # Of the second step's nucleotides 7 to 10 three are in front of the joint at 10, and one is behind it.
        ("both", [0, 7, 90, 91], [7, 10, 91, 100], [0.5, 0.1875, 0.0625, 0.25]),
    ],
)
def test_spans_are_in_the_whole_transcript_when_it_was_cut(
    keep: str, starts: list[int], ends: list[int], weights: list[float]
) -> None:
    spans, _ = spans_of(100, [0.5, 0.25, 0.25], encoding__keep=keep, **SHORT)
    assert (spans.starts.tolist(), spans.ends.tolist(), spans.weights.tolist()) == (starts, ends, weights)


def test_spans_are_one_stretch_when_a_transcript_is_shorter_than_a_receptive_field() -> None:
    spans, _ = spans_of(3, [1.0, 0, 0], **SHORT)
    assert (spans.starts.tolist(), spans.ends.tolist(), spans.weights.tolist()) == ([0], [3], [1])


def test_padding_is_left_out_and_said_when_the_network_is_not_masked() -> None:
    # 10 of 20 are padding in front: borders 7 and 11 are -3 and 1 on the transcript.
    spans, on_padding = spans_of(10, [0.5, 0.125, 0.375], encoding__max_length=20, model__masked=False)
    assert (spans.starts.tolist(), spans.ends.tolist(), spans.weights.tolist()) == ([0, 1], [1, 10], [0.25, 0.75])
    assert on_padding == 0.5


def finder(keep: str, masked: bool) -> Checkpoint:
    """Return a network whose attention goes to runs of A, its weights written by hand.

    The first convolution's channel 0 counts A in 4 nucleotides, the second passes it on, a GRU without memory too.
    """
    settings = small_config(encoding__max_length=60, encoding__keep=keep, model__masked=masked, model__dropout=0.0)
    network = RNATracker(settings.model, len(SITES))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        network.conv1.weight[0, 0] = 1
        network.conv2.weight[0, 0, 1] = 1
        hidden = settings.model.rnn_hidden
        for direction in ("", "_reverse"):
            getattr(network.rnn, f"bias_ih_l0{direction}")[hidden : 2 * hidden] = -20  # update gate: nothing is kept
            getattr(network.rnn, f"weight_ih_l0{direction}")[2 * hidden, 0] = 0.25
        network.attention_hidden.weight[0, 0] = 1
        network.attention_score.weight[0, 0] = 200
    return Checkpoint(settings.model, settings.encoding, SITES, network.state_dict(), epoch=1)


@pytest.mark.parametrize("kernel", ["fused", "torch"])
@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize(
    ("keep", "length", "at"),
    [("5p", 200, 30), ("3p", 200, 170), ("both", 200, 12), ("both", 200, 180), ("5p", 50, 30), ("3p", 33, 5)],
)
def test_attention_lies_where_the_motif_is_when_the_network_looks_for_it(
    keep: str, length: int, at: int, masked: bool, kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kernel == "torch":
        monkeypatch.setattr("rnatracker.model.network.kernel_in_use", lambda *_: ("torch", "the test says so"))
    sequence = "C" * at + "AAAA" + "C" * (length - at - 4)
    _, attention = Predictor([finder(keep, masked)], CPU).with_attention(from_sequences([sequence]))
    spans = attention.spans(0)
    best = spans.weights > 0.5 * spans.weights.max()
    starts, ends = spans.starts[best], spans.ends[best]
    assert spans.weights[best].sum() > 0.95
    assert spans.weights.sum() == pytest.approx(1)
    middle = (starts.min() + ends.max()) / 2
    assert abs(middle - (at + 2)) <= 4, "off by no more than a step"
    assert ends.max() - starts.min() <= 12


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("keep", ["5p", "3p", "both"])
def test_figures_are_the_same_when_attention_is_asked_for(keep: str, masked: bool) -> None:
    checkpoints = [toy_checkpoint(seed, encoding__keep=keep, model__masked=masked) for seed in range(2)]
    predictor = Predictor(checkpoints, CPU)
    transcripts = toy_transcripts(30)
    each, attention = predictor.with_attention(transcripts)
    assert each == pytest.approx(predictor.predict_each(transcripts), abs=1e-6)
    for index in range(30):
        assert attention.spans(index).weights.sum() == pytest.approx(1)


def test_attention_is_the_networks_mean_when_there_are_several() -> None:
    transcripts = toy_transcripts(5)
    parts = [Predictor([toy_checkpoint(seed)], CPU).with_attention(transcripts)[1] for seed in range(2)]
    _, both = Predictor([toy_checkpoint(0), toy_checkpoint(1)], CPU).with_attention(transcripts)
    for index in range(5):
        mean = (parts[0].spans(index).weights + parts[1].spans(index).weights) / 2
        assert both.spans(index).weights == pytest.approx(mean, abs=1e-6)


def test_attention_is_refused_when_there_is_none_or_it_has_no_mean() -> None:
    for checkpoints, problem in (
        ([toy_checkpoint(model__attention=False)], "model.attention: false"),
        ([toy_checkpoint(), toy_checkpoint(model__pool=3)], "differ in their kernels, pooling, mask or encoding"),
    ):
        with pytest.raises(CheckpointError) as caught:
            Predictor(checkpoints, CPU).with_attention(toy_transcripts(3))
        assert problem in caught.value.problem
        assert caught.value.remedy.startswith("leave out --attention")
