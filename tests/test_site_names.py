"""Names of sites: what metrics, tables and options can't hold is refused wherever it comes from, all alike."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from rnatracker import config, site_names
from rnatracker.app import app
from rnatracker.data import read
from rnatracker.data.simulate import simulate
from rnatracker.errors import ConfigError, DataError, UsageError
from rnatracker.prediction import run_table
from rnatracker.prediction.table import columns
from rnatracker.tracking.names import metric_key

_LONG = "z" * 250
BAD = {
    ("most_likely", "b"): "'most_likely': that is the name of a column of predictions",
    ("ID", "b"): "'ID': that is the name of a column of tables",
    ("mean", "b"): "'mean': that is the name of figures over all sites",
    ("Overall", "b"): "'Overall': that is the name of figures over all sites",
    (f"{_LONG}1", f"{_LONG}2"): "it has 251 characters, and at most 100 are allowed",
    ("x/../b", "b"): "it has nothing, . or .. between slashes",
    ("x/..", "b"): "it has nothing, . or .. between slashes",
    ("x//y", "b"): "it has nothing, . or .. between slashes",
    ("x/", "b"): "it has nothing, . or .. between slashes",
    ("a+", "a*"): "'a+': another site differs from it in punctuation only",
    ("b_sd", "b"): "'b_sd': that is the name of the spread of predictions of b",
    ("measured_b", "b"): "'measured_b': that is the name of the measured fraction of b",
    ("a\x1b[31m", "b"): "it has characters that can't be printed",
    ("a\nc", "b"): "it has characters that can't be printed",
    ("a\ud800", "b"): "it has characters that can't be printed",
    (" ", "b"): "it has no letters",
}
GOOD = [
    ("Nucleus", "nucleus"),
    ("ER/Golgi", "Kern β"),
    ("[nuc]", "[/red]"),
    ("a_sd", "measured_c"),
    ("y" * 100, "5' end: x|y"),
    ("2024-01-01", "1e5"),
]


@pytest.mark.parametrize("names", BAD)
def test_name_is_refused_from_a_config_an_option_and_a_simulation(names: tuple[str, str]) -> None:
    assert BAD[names] in site_names.fault(names)
    settings = config.Settings(data={"sites": list(names)})
    with pytest.raises(ConfigError) as caught:
        config.build(settings, "x.yaml")
    assert site_names.fault(names) in caught.value.problem
    if names[0].strip():  # blanks around a name are left out there
        with pytest.raises(UsageError) as refused:
            simulate(5, names)
        assert refused.value.problem == f"--sites: {site_names.fault(names)}"


@pytest.mark.parametrize("names", BAD)
def test_name_is_refused_from_a_table_before_anything_is_trained(names: tuple[str, str], tmp_path: Path) -> None:
    table = tmp_path / "x.tsv"
    header = "\t".join(["id", "sequence", *(f'"{name}"' for name in names)])
    table.write_bytes(f"{header}\nt\tACGT\t1\t1\nu\tACGA\t1\t2\n".encode("utf-8", "surrogatepass"))
    with pytest.raises(DataError) as caught:
        read(table)
    assert caught.value.remedy
    store = tmp_path / "mlruns"
    result = CliRunner().invoke(app, ["train", "--data", str(table), "--store", str(store), "--no-track"])
    assert result.exit_code == 1
    assert result.stderr.count("Error: x.tsv") == 1
    assert not store.exists()


def test_comma_in_a_name_is_refused(tmp_path: Path) -> None:
    table = tmp_path / "x.tsv"
    table.write_text("id\tsequence\ta,b\tc\nt\tACGT\t1\t1\n")
    with pytest.raises(DataError) as caught:
        read(table)
    assert caught.value.problem == "x.tsv: a site can't be called 'a,b': commas stand between the names of sites"


@pytest.mark.parametrize("names", GOOD)
def test_good_names_have_metrics_and_columns_of_their_own(names: tuple[str, str], tmp_path: Path) -> None:
    assert site_names.fault(names) == ""
    table = tmp_path / "x.tsv"
    table.write_text("\t".join(["id", "sequence", *names]) + "\nt\tACGT\t1\t1\n")
    sites = read(table).sites
    assert sites == names
    keys = {metric_key(f"ceiling/pcc_{name}") for name in (*sites, "mean", "overall")}
    assert len(keys) == 4
    assert all(key.startswith("ceiling/pcc_") for key in keys)
    assert len(set(columns(sites, True))) == 5
    written = tmp_path / "predictions.tsv"
    values = read(table).measured()
    for measured in (values, None):
        run_table.write_predictions(written, ["t"], sites, values, measured)
        assert run_table.predicted_sites(written) == sites


def test_checking_five_hundred_names_takes_no_time() -> None:
    assert site_names.fault([f"site {i}" for i in range(500)]) == ""
