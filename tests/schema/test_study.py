import os
import time
from pathlib import Path

import pytest

from schema.study import Order, Share, Study, StudyError, Workload, load_study
from tests.recorded_data import recorded

STUDIES = Path(__file__).parents[2] / "studies"

GOOD = """\
name: s
images:
  - repository: ghcr.io/a/b
    tags: [1-layers-size-5-bytes]
"""


def test_smoke_is_one_and_nine_layers_by_three_sizes() -> None:
    tags = [name.partition(":")[2] for name in load_study(STUDIES / "smoke.yaml").references()]
    assert sorted(tag.partition("-")[0] for tag in tags) == ["1"] * 3 + ["9"] * 3
    assert len({tag.partition("-size-")[2] for tag in tags}) == 3


@pytest.mark.parametrize("path", sorted(STUDIES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_committed_study_is_valid(path: Path) -> None:
    assert load_study(path).references()


def test_miniclusters_need_the_image_of_flux(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(GOOD + "workload: minicluster\n")
    with pytest.raises(StudyError, match="workload minicluster needs flux_view"):
        load_study(path)
    path.write_text(GOOD + "workload: minicluster\nflux_view: ghcr.io/a/flux-view:tag-jammy\n")
    study = load_study(path)
    assert (study.workload, study.flux_view) == (
        Workload.MINICLUSTER,
        "ghcr.io/a/flux-view:tag-jammy",
    )


def test_shares_of_the_bytes_that_pods_read(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(GOOD + "read: [0.1, 0.5, 1.0]\n")
    study = load_study(path)
    assert study.read == (Share.TENTH, Share.HALF, Share.ALL)
    assert [share.percent for share in study.read] == [10, 50, 100]
    assert Study.model_validate_json(study.model_dump_json()) == study


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("read: [0.5, 0.1]", "in ascending order, each once"),
        ("read: [0.5, 0.5]", "in ascending order, each once"),
        ("read: [0.2]", "0.1, 0.5 or 1"),
        ("read: all", "read"),
        (
            "workload: minicluster\nflux_view: ghcr.io/a/f:t\nread: [1.0]",
            "minicluster read nothing",
        ),
    ],
)
def test_other_shares_are_refused(tmp_path: Path, text: str, match: str) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(f"{GOOD}{text}\n")
    with pytest.raises(StudyError, match=match):
        load_study(path)


def test_the_original_form_is_read_with_its_trailing_comma(tmp_path: Path) -> None:
    path = tmp_path / "Pulling_Run1.json"
    path.write_text('{"tags": ["9-layers-size-5-bytes",\n],\n "uri": "ghcr.io/a/b"\n}')
    study = load_study(path)
    assert study.name == "pulling-run1"
    assert study.references() == ["ghcr.io/a/b:9-layers-size-5-bytes"]
    assert study.order is Order.SHUFFLED


def test_the_original_form_of_applications_gives_each_image_once(tmp_path: Path) -> None:
    path = tmp_path / "streaming.json"
    path.write_text(
        '{"4": [{"image": "ghcr.io/a/b:x", "command": "c", "tasks": 1}],'
        ' "8": [{"image": "ghcr.io/a/b:x"}, {"image": "ghcr.io/a/c:y"}]}'
    )
    study = load_study(path)
    assert study.references() == ["ghcr.io/a/b:x", "ghcr.io/a/c:y"]


def test_the_original_studies_are_read_as_they_were_published() -> None:
    folder = recorded("studies")
    counts = {path.stem: len(load_study(path).references()) for path in folder.glob("*.json")}
    assert counts == {
        "pulling-run1": 6,
        "pulling-streaming": 4,
        "pulling-test-run1": 38,
        "pulling-test-test": 71,
    }
    names = {"run1": "pulling-run1", "matrix-38": "pulling-test-run1"}
    for ours, theirs in {**names, "matrix-71": "pulling-test-test"}.items():
        own = load_study(STUDIES / f"{ours}.yaml").references()
        assert sorted(own) == sorted(load_study(folder / f"{theirs}.json").references())


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "holds nothing where a mapping"),
        ("[1]", "holds a list where a mapping"),
        ("a: [", "is not well-formed"),
        ("name: s", "is not valid at images"),
        (GOOD + "orders: x", "is not valid at orders"),
        (GOOD.replace("name: s", "name: S!"), "is not valid at name"),
        (GOOD.replace("ghcr.io/a/b", "GHCR.io"), "is not valid at images.0.repository"),
        (GOOD.replace("5-bytes]", "5-bytes, 1-layers-size-5-bytes]"), "is listed twice"),
        (GOOD + "order: random", "is not valid at order"),
        (GOOD + "repetitions: 0", "is not valid at repetitions"),
    ],
)
def test_malformed_studies_are_reported(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(text)
    with pytest.raises(StudyError) as caught:
        load_study(path)
    assert sentence in caught.value.problem
    assert caught.value.fix


def test_a_missing_study_is_reported(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="There is no study at"):
        load_study(tmp_path / "x.yaml")


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("deep.yaml", "[" * 5_000, "too many levels of brackets"),
        ("deep.json", "[" * 100_000, "too many levels of brackets"),
        ("digits.yaml", GOOD + "repetitions: " + "9" * 5000, "Exceeds the limit"),
        ("digits.json", '{"repetitions": ' + "9" * 5000 + "}", "Exceeds the limit"),
        ("large.yaml", "#" * 1_000_001, "is not a file of at most 1 MB"),
    ],
)
def test_a_hostile_study_is_refused_in_a_sentence(
    tmp_path: Path, name: str, text: str, sentence: str
) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(StudyError, match=sentence) as refused:
        load_study(path)
    assert len(str(refused.value)) < 500


@pytest.mark.timeout(10)
def test_what_is_no_file_is_not_read(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.yaml"
    os.mkfifo(pipe)
    for path in (pipe, Path("/dev/zero")):
        with pytest.raises(StudyError, match="is not a file"):
            load_study(path)
    with pytest.raises(StudyError, match="File name too long"):
        load_study(tmp_path / ("a" * 5000))


def test_a_study_of_20000_images_is_checked_at_once(tmp_path: Path) -> None:
    path = tmp_path / "many.yaml"
    tags = ", ".join(f"t{number}" for number in range(20_000))
    path.write_text(f'{{"uri": "ghcr.io/a/b", "tags": [{tags}]}}')
    started = time.process_time()
    assert len(load_study(path).references()) == 20_000
    assert time.process_time() - started < 10, "a quadratic check takes minutes"
