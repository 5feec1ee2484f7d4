"""A study's second objective: how it is named, and what a trial costs."""

from __future__ import annotations

import pytest
import torch
from typer.testing import CliRunner

from rnatracker.app import app
from rnatracker.errors import UsageError
from rnatracker.model.network import RNATracker
from rnatracker.search.front import cost
from rnatracker.search.front.size import n_parameters
from tests.support.toys import small_config


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("pcc_mean", ("pcc_mean", None)),
        ("val_loss", ("val_loss", None)),
        ("pcc_mean,seconds", ("pcc_mean", "seconds")),
        ("pcc_overall, parameters", ("pcc_overall", "parameters")),
    ],
)
def test_objectives_are_read(text: str, found: tuple[str, str | None]) -> None:
    assert cost.parse(text) == found


@pytest.mark.parametrize(
    ("text", "problem", "remedy"),
    [
        ("pcc_mean,foo", "the second objective is one of seconds, parameters, got foo", "seconds or parameters"),
        ("pcc_mean,second", "got second; did you mean seconds?", "seconds or parameters"),
        ("pcc_mean,val_loss", "the second objective is one of seconds, parameters, got val_loss", "after a comma"),
        ("pcc_mean,", "the second objective is one of", "after a comma"),
        ("seconds,pcc_mean", "seconds can only be the second objective", "use --objective pcc_mean,seconds"),
        ("seconds,val_loss", "seconds can only be the second objective", "use --objective val_loss,seconds"),
        ("parameters", "parameters can only be the second objective", "use --objective pcc_mean,parameters"),
        ("pcc_mean,seconds,parameters", "3 objectives, and a study has two at most", "after a comma"),
        ("pcc_mean,pcc_mean", "names pcc_mean twice", "after a comma"),
        ("pcc_maen", "pcc_mean, pcc_overall, val_loss, got pcc_maen; did you mean pcc_mean?", "give one of"),
    ],
)  # fmt: skip
def test_objectives_that_are_none_are_refused_with_what_to_give(text: str, problem: str, remedy: str) -> None:
    with pytest.raises(UsageError) as caught:
        cost.parse(text)
    assert caught.value.problem.startswith(f"--objective {text}: ") and problem in caught.value.problem
    assert remedy in caught.value.remedy


def test_command_refuses_them_as_a_wrong_option() -> None:
    found = CliRunner().invoke(app, ["tune", "--study", "toy", "--objective", "pcc_mean,foo"])
    assert found.exit_code == 2 and "seconds, parameters, got foo" in found.stderr


def test_seconds_are_those_of_the_middle_epoch() -> None:
    assert cost.of_epochs([30.0, 1.0, 2.0]) == 2.0  # the first epoch takes longer
    assert cost.of_epochs([1.23456, 1.23456]) == 1.235
    assert cost.of_epochs([0.000123456]) == 0.0001235


@pytest.mark.parametrize("changes", [{}, {"model__rnn": "lstm"}, {"model__codons": True, "model__length_input": True}])
def test_parameters_are_those_of_the_network(changes: dict[str, object]) -> None:
    model = small_config(**changes).model
    torch.manual_seed(0)
    before = torch.get_rng_state()
    found = n_parameters(model, 3)
    assert torch.equal(torch.get_rng_state(), before)
    assert found == sum(each.numel() for each in RNATracker(model, 3).parameters())


def test_parameters_of_a_network_reckoned_by_hand() -> None:
    """Convolutions 4*4*4 + 4*5*3, a GRU of 3 in two directions on 5 channels, attention of 4, 3 sites."""
    gru = 2 * (3 * 3 * 5 + 3 * 3 * 3 + 2 * 3 * 3)
    assert n_parameters(small_config().model, 3) == 64 + 60 + gru + (6 * 4 + 4) + 4 + (6 * 3 + 3)
