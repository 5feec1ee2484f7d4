"""`rnatracker data`: what is printed, where, and with which exit code; and what `inspect` counts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from rnatracker.commands.data import app
from rnatracker.data.inspect import inspect

REPLICATES = "".join(
    f">t{i} gene_biotype:x transcript_biotype:x "
    f"distA:{i}_{4 - i}_1_1 distB:{i}_{4 - i}_{i}_1\n{'ACGTN'[: i + 1] * 30}\n"
    for i in range(1, 5)
)


def run(*arguments: object) -> Result:
    return CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1"}).invoke(app, [str(a) for a in arguments])


def test_inspect_counts_by_hand_when_there_are_replicates(tmp_path: Path) -> None:
    path = tmp_path / "x.fa"
    path.write_text(REPLICATES)
    report = inspect(path, max_length=100, sites=["a", "b", "c", "d"])
    assert (report.records, report.format, report.nucleotides) == (4, "original", 60 + 90 + 120 + 150)
    assert report.lengths["0%"] == 60
    assert report.lengths["100%"] == 150
    assert report.records_cut == 0.5
    assert report.nucleotides_cut == pytest.approx((20 + 50) / 420)
    assert report.ambiguous_records == 1
    assert report.ambiguous_nucleotides == pytest.approx(30 / 420)
    assert report.problem_counts == {}
    # A is i/6 and B is i/(5+i) for i = 1..4: covariance 0.46131, variances 5 (of i) and 0.04318.
    assert report.sites[0].replicate_pcc == pytest.approx(0.46131 / (5 * 0.04318) ** 0.5, abs=1e-4)
    assert [site.constant for site in report.sites] == [False] * 4


def test_inspect_finds_constant_uniform_and_doubled_when_they_are_there(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("id,sequence,a,b,c\nr1,ACGT,1,1,1\nr2,ACGU,1,2,0\nr3,NN,1,0,2\n")
    report = inspect(path)
    assert [site.constant for site in report.sites] == [True, False, False]
    assert report.sites[1].mean == pytest.approx(1 / 3)
    assert report.sites[1].sd == pytest.approx(0.27217, abs=1e-5)
    assert (report.uniform_records, report.duplicate_sequences, report.shorter_than_receptive_field) == (1, 1, 3)


def test_inspect_prints_a_report_and_fails_when_training_would_refuse_the_file(tmp_path: Path) -> None:
    path = tmp_path / "x.fa"
    path.write_text("> a\nACGT\n1 1 1 1\n> a\nACGT\n0 0 0 0\n> b\nACGT\n1 1 1 1\n")
    result = run("inspect", path, "--sites", "a,b,c,d")
    assert result.exit_code == 1
    assert "1 records all zero" in result.stdout
    assert "1 records have that of an earlier one" in result.stdout
    assert result.stderr.splitlines()[-1] == (
        "Error: x.fa, record 2 (a): expected different ids, but record 1 has it too (1 more); rename one"
    )
    content = json.loads(run("inspect", path, "--sites", "a,b,c,d", "--json").stdout)
    assert content["problem_counts"] == {"duplicate_id": 1, "all_zero": 1}
    assert content["duplicate_sequences"] == 2


def test_inspect_accepts_underscores_when_the_ports_users_type_them(tmp_path: Path) -> None:
    path = tmp_path / "x.fa"
    path.write_text(REPLICATES)
    one, other = (
        run("inspect", path, option, "100", "--sites", "a,b,c,d", "--json")
        for option in ("--max_length", "--max-length")
    )
    assert one.exit_code == 0
    assert json.loads(one.stdout) == json.loads(other.stdout)
    assert json.loads(one.stdout)["records_cut"] == 0.5


def test_inspect_names_the_next_command_when_the_file_is_good(tmp_path: Path) -> None:
    path = tmp_path / "x [1].csv"
    path.write_text("id,sequence,a [b],b\nr1,ACGT,1,1\nr2,AC,1,2\n")
    result = run("inspect", path, "--sites", "b,a [b]")
    assert result.exit_code == 0
    assert "a [b]" in result.stdout
    assert result.stdout.splitlines()[-1] == f"Next: rnatracker train --data '{path}' --sites 'b,a [b]'"
    path.write_text(">r1\nACGT\n")
    assert "no measured fractions" in run("inspect", path).stdout.splitlines()[-1]


def test_simulate_writes_a_table_or_records_by_the_name(tmp_path: Path) -> None:
    table, records = tmp_path / "x.tsv", tmp_path / "x.fa"
    for path in (table, records):
        result = run("simulate", path, "--records", 20, "--sites", "in,out", "--median_length", 200)
        assert result.exit_code == 0
        assert "ceiling of PCC" in result.stdout
    assert table.read_text().startswith("id\tsequence\tin\tout\nSIM000001\t")
    assert len(records.read_text().splitlines()) == 60
    assert result.stdout.splitlines()[-1] == f"Next: rnatracker train --data {records} --sites in,out"
    again = run("simulate", table)
    assert again.exit_code == 1
    assert again.stderr == f"Error: {table}: exists already; choose another name, or give --force to replace it\n"


def test_split_prints_counts_and_the_next_command(tmp_path: Path) -> None:
    path = tmp_path / "x.tsv"
    run("simulate", path, "--records", 20, "--median-length", 200)
    result = run("split", path, "--test", "0.25", "--out-dir", tmp_path)
    assert result.exit_code == 0
    assert [line.split()[:2] for line in result.stdout.splitlines() if ".tsv" in line][:2] == [
        ["train", "15"],
        ["test", "5"],
    ]
    assert result.stdout.splitlines()[-1] == f"Next: rnatracker train --data {tmp_path / 'x_train.tsv'}"


def test_download_says_what_to_do_when_there_is_no_network(tmp_path: Path) -> None:
    result = run("download", "apex-rip", "--to", tmp_path, "--url", "http://127.0.0.1:9")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert f"put the file at {tmp_path / 'apex_rip_cDNA_screened.fa'}" in result.stderr
    assert run("download", "other").exit_code == 2


@pytest.mark.parametrize("command", ["inspect", "split"])
def test_sites_that_the_file_does_not_name_are_asked_for(tmp_path: Path, command: str) -> None:
    path = tmp_path / "x.fa"
    path.write_text("".join(f"> t{i}\nACGT{'A' * i}\n0.1 0.2 0.3\n" for i in range(4)))
    result = run(command, path)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        "Error: x.fa, record 1 (t0): expected sites with names, but the file has none for its 3 values (0.1 0.2 0.3); "
        "name them in the order of the values, as in --sites site1,site2,site3\n"
    )
    assert run(command, path, "--sites", "site1,site2,site3").stdout.splitlines()[-1].endswith("site1,site2,site3")


def test_command_that_simulate_prints_has_the_names_that_the_file_lacks(tmp_path: Path) -> None:
    result = run("simulate", tmp_path / "x.fa", "--records", 20, "--median-length", 200)
    assert result.stdout.splitlines()[-1].endswith("--sites Cytosol,Insoluble,Membrane,Nuclear")
