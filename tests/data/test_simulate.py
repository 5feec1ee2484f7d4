"""Simulated transcripts: their anatomy, what their zipcodes do, and their ceiling."""

from __future__ import annotations

import re

import numpy as np
import pytest

from rnatracker.data.simulate import EFFECT, simulate
from rnatracker.errors import DataError, UsageError


def overlapping(motif: str, sequence: str) -> int:
    return len(re.findall(f"(?={motif})", sequence))


def test_simulate_repeats_when_the_seed_is_the_same() -> None:
    assert simulate(40, seed=3).transcripts.digest() == simulate(40, seed=3).transcripts.digest()
    assert simulate(40, seed=3).transcripts.digest() != simulate(40, seed=4).transcripts.digest()


def test_simulate_gives_fractions_that_follow_from_occurrences_when_recounted() -> None:
    made = simulate(2100, ("a", "b", "c"), seed=1, median_length=300)
    for i in (0, 1, 1999, 2000, 2099):
        logits = np.zeros(3)
        for zipcode in made.zipcodes:
            logits[zipcode.site] += EFFECT * np.log2(1 + overlapping(zipcode.letters, made.transcripts.sequence(i)))
        expected = np.exp(logits) / np.exp(logits).sum()
        assert np.allclose(made.noiseless[i], expected), i


def test_simulate_has_a_ceiling_of_one_when_there_is_no_noise_and_a_lower_one_with_more() -> None:
    assert np.allclose(simulate(200, noise=0).ceiling, 1)
    little, much = (simulate(1000, noise=noise).ceiling.mean() for noise in (0.5, 2.0))
    assert 0.85 < little < 0.99
    assert much < little - 0.2


def test_simulate_looks_like_mrna() -> None:
    made = simulate(1000, median_length=1500)
    transcripts = made.transcripts
    assert abs(np.log(np.median(transcripts.lengths) / 1500)) < 0.1
    assert np.isclose(np.log(transcripts.lengths).std(), 0.6, atol=0.1)
    assert set(np.unique(transcripts.codes)) == {1, 2, 3, 4}
    sequences = [transcripts.sequence(i) for i in range(200)]
    # Planted zipcodes stay in the UTRs, so every coding sequence is whole: ATG, codons, one stop.
    reading_frame = re.compile(r"(?=(ATG(?:(?!TAA|TAG|TGA)...)*(?:TAA|TAG|TGA)))")
    assert all(any(len(match) > len(s) / 6 for match in reading_frame.findall(s)) for s in sequences)
    assert np.mean(["AATAAA" in s[-30:] for s in sequences]) > 0.7


def test_simulate_plants_several_zipcodes_for_each_site_in_the_utrs() -> None:
    made = simulate(800, ("a", "b"), seed=5)
    assert [z.site for z in made.zipcodes] == [0, 0, 0, 1, 1, 1]
    assert len({z.letters for z in made.zipcodes}) == 6
    for zipcode in made.zipcodes:
        places = [
            (match.start() + 4) / len(sequence)
            for sequence in map(made.transcripts.sequence, range(len(made.transcripts)))
            for match in re.finditer(zipcode.letters, sequence)
        ]
        in_utr = np.mean([place < 0.2 if zipcode.utr == 0 else place > 0.45 for place in places])
        assert len(places) > 500
        assert in_utr > 0.6
        if zipcode.utr == 2:
            assert (np.median(places) > 0.8) == zipcode.late


def test_simulate_works_when_there_are_ten_sites_and_short_transcripts() -> None:
    made = simulate(300, tuple("abcdefghij"), median_length=150)
    assert made.transcripts.measured().shape == (300, 10)
    assert np.allclose(made.transcripts.measured().sum(axis=1), 1)
    assert len(made.zipcodes) == 30


def test_simulate_takes_names_of_sites_without_the_blanks_around_them() -> None:
    assert simulate(5, (" in", "out ")).transcripts.sites == ("in", "out")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"n": 0}, "--records 0: expected 2 or more, since one has no PCC"),
        ({"n": 5, "sites": ("a",)}, "--sites: expected two or more names, got 'a'"),
        ({"n": 5, "sites": ("a", "a")}, "--sites: a site can't be called 'a': two sites are"),
        ({"n": 5, "noise": -1.0}, "--noise -1.0: expected a finite number of 0 or more"),
        ({"n": 5, "median_length": 10}, "--median-length 10: expected 150 nucleotides or more"),
    ],
)
def test_simulate_says_why_when_it_cannot(options: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError if "--sites" in said else DataError) as caught:
        simulate(**options)  # type: ignore[arg-type]
    assert caught.value.problem == said
    assert caught.value.remedy == ("use another name" if "called" in said else "")


def test_relatives_are_what_they_are_said_to_be() -> None:
    made = simulate(30, relatives=10, seed=1, median_length=400)
    transcripts = made.transcripts
    assert [each.kind for each in made.relatives[:6]] == [
        "isoform", "paralog5", "paralog10", "paralog20", "paralog30", "isoform"
    ]  # fmt: skip
    assert len({each.parent for each in made.relatives}) == 10
    for each in made.relatives:
        child, parent = transcripts.sequence(each.index), transcripts.sequence(each.parent)
        assert transcripts.ids[each.index] == f"SIM{each.index + 1:06d}_{each.kind}_of_{transcripts.ids[each.parent]}"
        if each.changed is None:
            assert child[-len(parent) // 2 :] == parent[-len(parent) // 2 :]
        else:
            differing = sum(a != b for a, b in zip(child, parent, strict=True))
            assert differing == int(each.changed * len(parent))
    alone = simulate(20, seed=1, median_length=400).transcripts
    assert transcripts.take(np.arange(20)).codes.tolist() == alone.codes.tolist()
    with pytest.raises(DataError, match="--relatives 5: expected less than the 5 records"):
        simulate(5, relatives=5)
