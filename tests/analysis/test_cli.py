"""The command line: every command on every input, and a sentence where it cannot."""

import csv
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from analysis.cli import app, main
from schema.errors import ExitCode
from schema.run_records import Rehearsal
from tests.analysis.ask.test_similarity import saved
from tests.analysis.recorded import lines, study_events, write_run_folder, write_study
from tests.schema.test_output import expect_the_same_rows
from tests.until import until

ROOT = Path(__file__).resolve().parents[2]
INPUTS = ROOT / "tests" / "data" / "inputs"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_study(tmp_path_factory.mktemp("study") / "metadata")


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.output


def failing(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    """Exit code and error text of the program as a user meets it."""
    before, handler = sys.argv, signal.getsignal(signal.SIGTERM)
    sys.argv = ["analysis", *map(str, arguments)]
    try:
        with pytest.raises(SystemExit) as end:
            main()
    finally:
        sys.argv = before
        signal.signal(signal.SIGTERM, handler)
    return int(end.value.code or 0), capsys.readouterr().err


def test_tables(study: Path, tmp_path: Path) -> None:
    output = run("tables", study, "--out", tmp_path / "out")
    assert str(tmp_path / "out" / "pulls.csv") in output
    assert (tmp_path / "out" / "events.parquet").stat().st_size > 1000


def test_report(study: Path, tmp_path: Path) -> None:
    output = run("report", study, "--out", tmp_path, "--manifests", saved(tmp_path))
    assert output.strip() == str(tmp_path / "report.html")
    assert "Layers in common" in (tmp_path / "report.html").read_text()


def test_audit(study: Path, tmp_path: Path) -> None:
    output = run("audit", study, "--out", tmp_path)
    assert "B  4 nodes: 12 of 12 cells valid" in output
    assert "confounded-order" in output
    assert "Audit: run1" in (tmp_path / "audit.html").read_text()
    assert (tmp_path / "audit.csv").exists()


@pytest.mark.parametrize(
    "command",
    [*(pytest.param(each, marks=pytest.mark.full) for each in ("audit", "compare")), "predict"],
)
def test_answers_are_the_same_rows_in_four_forms(study: Path, tmp_path: Path, command: str) -> None:
    sides = (study / "run1" / "4", study / "run1" / "8")
    arguments = {
        "audit": (study, "--out", tmp_path),
        "compare": (*sides, "--out", tmp_path),
        "predict": (study, "--image", "9-layers-size-5000000000-bytes", "--nodes", 8,
                    "--compressed-bytes", 3369495),
    }  # fmt: skip
    expect_the_same_rows(app, command, *arguments[command])


def test_plots(study: Path, tmp_path: Path) -> None:
    output = run("plots", study / "run1" / "4", "--out", tmp_path)
    assert "by-cluster.png" in output


def test_similarity(tmp_path: Path) -> None:
    assert "similarity_build_steps.csv" in run("similarity", saved(tmp_path), "--out", tmp_path)


def test_similarity_of_two_repositories_with_one_tag(tmp_path: Path) -> None:
    output = run(
        "similarity", INPUTS / "repo-one.json", INPUTS / "repo-two.json", "--out", tmp_path
    )
    assert "Left out: multi is a multi-platform index" in output
    with (tmp_path / "similarity_layers.csv").open() as file:
        rows = {row.pop("tag"): row for row in csv.DictReader(file)}
    one, two, equal = "repo-one:latest", "repo-two:latest", "v2"
    assert list(rows) == [one, two, equal]
    assert (rows[one][equal], rows[one][two]) == ("1", "0.333333")


def test_compare_of_two_repositories_with_one_tag(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sides = (INPUTS / "same-tag" / "first.json", INPUTS / "same-tag" / "second.json")
    condition = "median slower by 10 %"
    code, text = failing(capsys, "compare", *sides, "--out", tmp_path, "--fail-if", condition)
    assert code == ExitCode.DIFFERENT
    assert text.strip() == f"{condition}: reg.example/app/one:latest"
    with (tmp_path / "compare.csv").open() as file:
        rows = {
            row["image"]: tuple(row[name] for name in ("nodes_a", "median_a_s", "median_b_s"))
            for row in csv.DictReader(file)
        }
    assert rows == {
        "reg.example/app/one:latest": ("8", "5.35", "10.35"),
        "reg.example/app/two:latest": ("8", "50.35", "25.35"),
    }


def test_compare_and_its_exit_code(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    four, eight = study / "run1" / "4", study / "run1" / "8"
    passing = ("compare", four, eight, "--out", tmp_path, "--fail-if", "median slower by 50 %")
    assert "all images" in run(*passing)
    slow = tmp_path / "slow" / "8"
    slow.mkdir(parents=True)
    text = lines(study_events(8)).replace(" in 7.", " in 17.").replace("(7.", "(17.")
    (slow / "events-1.json").write_text(text)
    code, text = failing(capsys, "compare", eight, slow, *passing[3:-1], "median slower by 10 %")
    assert code == ExitCode.DIFFERENT
    assert "9-layers-size-1176249324-bytes" in text
    assert "19034736629" not in text


def test_predict(study: Path) -> None:
    tag = "9-layers-size-5000000000-bytes"
    output = run("predict", study, "--image", tag, "--nodes", 8, "--compressed-bytes", 3369495)
    assert "pull        3" in output
    assert "valid cells of 3 images on 12 nodes, measured" in output
    assert "zero-filled" in output


def test_predict_refuses_outside_the_data(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tag, known = "9-layers-size-5000000000-bytes", ("--compressed-bytes", 3369495)
    code, text = failing(capsys, "predict", study, "--image", tag, "--nodes", 256, *known)
    assert code == ExitCode.USAGE
    assert "log2(nodes) 8" in text
    assert "--extrapolate" in text
    run("predict", study, "--image", tag, "--nodes", 256, *known, "--extrapolate")


def test_predict_takes_what_is_given_outright(study: Path) -> None:
    output = run(
        "predict", study, "--image", "my.registry/app:1", "--nodes", 8, "--layers", 9,
        "--compressed-bytes", 3369495, "--unpacked-bytes", 5_000_000_000,
    )  # fmt: skip
    assert "my.registry/app:1" in output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("tables", "nowhere"), "nowhere does not exist"),
        (("audit", "nowhere"), "nowhere does not exist"),
        (("compare", "nowhere", "nowhere"), "nowhere does not exist"),
        (("similarity", "nowhere"), "no file nowhere"),
        (("compare", "a", "b", "--fail-if", "worse"), "is not a condition"),
        (("tables", "data.parquet"), "data.parquet does not exist"),
        (
            ("compare", "a", "b", "--statistic", "max", "--fail-if", "median slower by 10 %"),
            "name two statistics",
        ),
        (("predict", "a", "--image", "a/b:1", "--nodes", 4, "--layers", -3), "Invalid value"),
        (("predict", "a", "--image", "a/b:1", "--nodes", 0), "Invalid value"),
    ],
)
def test_a_mistake_ends_with_a_sentence_and_its_code(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str
) -> None:
    code, text = failing(capsys, *arguments)
    assert code == ExitCode.USAGE
    assert said in text
    assert "Traceback" not in text


@pytest.mark.parametrize(
    "arguments", [("tables", "--images", "["), ("compare", "--images-first", "*")]
)
def test_a_malformed_regular_expression_is_a_sentence(
    study: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    command, option, pattern = arguments
    inputs = [study / "run1" / "4", study / "run1" / "8"][: 1 + (command == "compare")]
    code, text = failing(capsys, command, *inputs, option, pattern)
    assert code == ExitCode.USAGE
    assert f"{pattern!r} is not a regular expression" in text


def without_durations(folder: Path) -> Path:
    """Events of kubelets that print no duration."""
    path = folder / "events.json"
    path.write_text(re.sub(r" in \d[^ ]*s \(.*? including waiting\)", "", lines(study_events(4))))
    return path


def test_a_report_without_durations_of_the_kubelet_says_so(tmp_path: Path) -> None:
    run("report", without_durations(tmp_path), "--out", tmp_path)
    text = (tmp_path / "report.html").read_text()
    assert "none of 12 valid cells has the kubelet&#39;s own duration of its pull" in text
    assert "No pull has a duration by the kubelet." in text
    assert "size (no duration by the kubelet)" in text
    with (tmp_path / "pulls.csv").open() as file:
        assert {(row["pull_s"], float(row["pulling_s"]) > 0) for row in csv.DictReader(file)} == {
            ("", True)
        }


@pytest.mark.parametrize(
    "arguments",
    [
        ("compare", "EVENTS", "EVENTS"),
        ("predict", "EVENTS", "--image", "9-layers-size-5000000000-bytes", "--nodes", 4),
    ],
)
def test_no_number_is_given_without_durations_of_the_kubelet(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    path = without_durations(tmp_path)
    code, text = failing(capsys, *(path if word == "EVENTS" else word for word in arguments))
    assert code == ExitCode.USAGE
    assert "none of 12 valid cells has the kubelet's own duration of its pull" in text


def test_a_report_of_excluded_cells_alone_says_so_first(tmp_path: Path) -> None:
    path = tmp_path / "events.json"
    cached = re.sub(
        r"Successfully pulled image (.*?) in .*? bytes\.",
        r"Container image \1 already present on machine",
        lines(study_events(4)),
    )
    path.write_text(cached)
    run("report", path, "--out", tmp_path)
    text = (tmp_path / "report.html").read_text()
    assert "Nothing here has an answer that rests on pull times:" in text
    assert "12 cached" in text


def test_a_command_that_is_ended_leaves_no_temporary_file(tmp_path: Path) -> None:
    pipe, temporary = tmp_path / "pipe", tmp_path / "temporary"
    temporary.mkdir()
    os.mkfifo(pipe)
    command = [sys.executable, "-m", "analysis", "tables", str(pipe), "--out", str(tmp_path / "o")]
    variables = os.environ | {"TMPDIR": str(temporary)}
    with subprocess.Popen(command, env=variables) as process, pipe.open("w") as events:
        events.write(lines(study_events(4)))
        events.flush()
        until(lambda: list(temporary.iterdir()), why="nothing was read")
        process.terminate()
        assert process.wait(20) == ExitCode.INTERRUPTED
    assert list(temporary.iterdir()) == []


def test_an_empty_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = failing(capsys, "tables", tmp_path, "--out", tmp_path / "out")
    assert code == ExitCode.USAGE
    assert "has no file that may contain events" in text


def test_an_audit_of_measured_and_simulated_data(tmp_path: Path) -> None:
    write_study(tmp_path / "in", (4,))
    write_run_folder(tmp_path / "in", rehearsal=Rehearsal(nodes="simulated", scale=0.01))
    run("audit", tmp_path / "in", "--out", tmp_path / "out")


def test_predict_of_mixed_data_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_study(tmp_path, (4,))
    write_run_folder(tmp_path, rehearsal=Rehearsal(nodes="simulated", scale=0.01))
    code, text = failing(capsys, "predict", tmp_path, "--image", "x/y:1", "--nodes", 4)
    assert code == ExitCode.USAGE
    assert "is meaningless" in text


def test_tables_without_a_pull_say_so(tmp_path: Path) -> None:
    path = tmp_path / "events.json"
    path.write_text(lines(study_events(4)[:1]))
    result = CliRunner().invoke(app, ["tables", str(path), "--out", str(tmp_path / "out")])
    assert result.exit_code == 0
    assert "No pull of a study image was recorded: the tables of pulls are empty." in result.output


@pytest.mark.parametrize("command", ["tables", "report", "audit", "plots"])
def test_a_file_without_an_event_is_refused_and_nothing_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    path = tmp_path / "notes.json"
    path.write_text("no\nevent\n")
    code, text = failing(capsys, command, path, "--out", tmp_path / "out")
    assert code == ExitCode.USAGE
    assert "No event could be read" in text
    assert "2 lines or files could not be read" in text
    assert not (tmp_path / "out").exists()


def test_plots_of_recordings_without_a_pull_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "events.json"
    path.write_text(lines(study_events(4)[:1]))
    code, text = failing(capsys, "plots", path, "--out", tmp_path / "out")
    assert code == ExitCode.USAGE
    assert "there is nothing to plot" in text


def test_unreadable_lines_are_mentioned(tmp_path: Path) -> None:
    path = tmp_path / "events.json"
    path.write_text("rubbish\n" + lines(study_events(4)))
    result = CliRunner().invoke(app, ["tables", str(path), "--out", str(tmp_path / "out")])
    assert "1 line could not be read" in result.output


@pytest.mark.full
@pytest.mark.parametrize("folder", ["pulling", "pulling-test/test", "pulling-test/run1", "."])
def test_every_command_on_the_original_study(chonks: Path, tmp_path: Path, folder: str) -> None:
    for command in ("tables", "report", "audit", "plots"):
        run(command, chonks / folder, "--out", tmp_path)
    for saved_file in (chonks / "manifests").glob("*.gz"):
        run("similarity", saved_file, "--out", tmp_path)


def test_help_starts_at_once_and_imports_nothing_heavy() -> None:
    program = "import sys; sys.argv = ['analysis', '--help']\ntry:\n import analysis.__main__\n"
    program += "except SystemExit: pass\n"
    program += (
        "heavy = {'pandas', 'numpy', 'pyarrow', 'matplotlib', 'duckdb', 'pydantic', 'scipy',"
        "'statsmodels'}\n"
    )
    program += "print(sorted(heavy & set(sys.modules)))"
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout.rstrip().endswith("[]")
    assert "tables" in done.stdout
    assert time.perf_counter() - started < 5, "a machine with other work is slow, but not this slow"
