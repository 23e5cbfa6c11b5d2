import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from images.cli import app, main
from images.make.build import build_image
from images.orders import orders_of_study
from images.progress import show_bytes
from images.registry.client import Registry
from schema.image_tag import ImageTag
from schema.study import load_study
from tests.images.local_registry import LocalRegistry, run_registry
from tests.schema.test_output import expect_the_same_rows

Cli = Callable[..., tuple[int, str, str]]
ROOT = Path(__file__).parents[2]


def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *args: str
) -> tuple[int, str, str]:
    """Run `pull-study-images` in this process: its exit code, output and errors."""
    monkeypatch.setattr(sys, "argv", ["images", *args])
    monkeypatch.setattr("images.cli.signal.signal", lambda *_: None)
    with pytest.raises(SystemExit) as ended:
        main()
    written = capsys.readouterr()
    return int(ended.value.code or 0), written.out, written.err


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    return lambda *args: run(monkeypatch, capsys, *args)


def test_build_prints_the_image_with_its_digest(cli: Cli, registry: LocalRegistry) -> None:
    place = f"{registry.name}/cli-build"
    code, out, err = cli("build", "--layers", "3", "--size", "30000", "--to", place)
    same = build_image(ImageTag(3, 30_000), registry.target("cli-build"))
    assert (code, out) == (0, f"{place}:3-layers-size-30000-bytes@{same.digest}\n")
    assert "images complete: 1" in err


def test_a_matrix_builds_every_layer_count_with_every_size(
    cli: Cli, registry: LocalRegistry
) -> None:
    place = f"{registry.name}/cli-matrix"
    options = ("--layers", "1,3", "--size", "5000,7000", "--to", place)
    code, out, _ = cli("build", "--matrix", *options)
    assert code == 0
    assert [line.split("@")[0].split(":")[-1] for line in out.splitlines()] == [
        "1-layers-size-5000-bytes",
        "1-layers-size-7000-bytes",
        "3-layers-size-5000-bytes",
        "3-layers-size-7000-bytes",
    ]


def test_a_study_is_built_in_a_mirror_under_its_own_names(cli: Cli, tmp_path: Path) -> None:
    study = tmp_path / "two-registries.yaml"
    study.write_text(
        "name: two\n"
        "images:\n"
        "  - {repository: ghcr.io/org/chonks, tags: [2-layers-size-40000-bytes]}\n"
        "  - repository: us-central1-docker.pkg.dev/p/r/chonks\n"
        "    tags: [2-layers-size-40000-bytes-b]\n"
    )
    with run_registry(tmp_path / "mirror") as mirror, Registry(mirror.name) as client:
        code, out, _ = cli(
            "build", "--study", str(study), "--mirror", mirror.name, "--scale", "0.1"
        )
        assert code == 0
        assert len(out.splitlines()) == 2
        assert client.find_manifest(mirror.target("org/chonks", tag="2-layers-size-40000-bytes"))
        assert client.find_manifest(mirror.target("p/r/chonks", tag="2-layers-size-40000-bytes-b"))


@pytest.mark.parametrize("path", sorted((ROOT / "studies").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_study_of_the_repository_can_be_built(path: Path) -> None:
    assert orders_of_study(load_study(path), "127.0.0.1:5000")


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        (["build"], "needs --layers, --size and --to"),
        (["build", "--layers", "3", "--size", "9"], "needs --layers, --size and --to"),
        (["build", "--layers", "1,2", "--size", "9", "--to", "{r}/x"], "are 2 images"),
        (["build", "--layers", "a", "--size", "9", "--to", "{r}/x"], "--layers a is not a number"),
        (["build", "--layers", "0", "--size", "9", "--to", "{r}/x"], "at least 1 layer"),
        (["build", "--layers", "128", "--size", "999", "--to", "{r}/x"], "more than the 127"),
        (["build", "--layers", "9", "--size", "8", "--to", "{r}/x"], "too few for 9 files"),
        (["build", "--layers", "1", "--size", "8", "--to", "x"], "does not name a registry"),
        (
            ["build", "--matrix", "--layers", "1,2", "--size", "9", "--to", "{r}/x:y"],
            "one name for 2 images",
        ),
        (["build", "--study", "no.yaml", "--size", "3"], "--size cannot be combined with --study"),
        (["build", "--study", "no.yaml"], "There is no study at no.yaml"),
        (["inspect", "{r}/none:x"], "There is no image"),
        (["verify", "127.0.0.1:1/x:y"], "127.0.0.1:1 cannot be reached: [Errno 111]"),
        (["nonsense"], "No such command"),
    ],
)
def test_bad_input_prints_an_error_and_a_fix(
    cli: Cli,
    registry: LocalRegistry,
    args: list[str],
    reason: str,
) -> None:
    code, out, err = cli(*(arg.format(r=registry.name) for arg in args))
    assert code in {2, 4}
    assert out == ""
    assert reason in err
    assert "Fix: " in err or "Try 'images -h'" in err
    assert "Traceback" not in err


def test_inspect_finds_the_layers_that_an_upgrade_shares(cli: Cli, registry: LocalRegistry) -> None:
    one, two = (
        build_image(ImageTag(4, 40_000, salt), registry.target("cli-upgrade"))
        for salt in ("v1", "v2x1")
    )
    code, out, _ = cli("inspect", str(one.target), str(two.target), "--output", "json")
    found, *layers = json.loads(out)
    assert code == 0
    assert [layer["shared_with"] for layer in layers] == [[str(two.target)]] * 3 + [[]]
    assert found["compressed"] == one.compressed
    assert found["unpacked"] == sum(layer["unpacked"] for layer in layers)
    assert layers[1]["unpacked"] == 512 * 2 + 10_240 + 1024
    assert (found["content"], found["base"]) == (40_000, "busybox")


def test_what_is_shown_of_images_is_the_same_rows_in_four_forms(
    registry: LocalRegistry, tmp_path: Path
) -> None:
    built = build_image(ImageTag(4, 40_000), registry.target("cli-forms"))
    (tmp_path / "sample.txt").write_text(f"{built.target}\n")
    expect_the_same_rows(app, "inspect", built.target)
    expect_the_same_rows(app, "sizes", tmp_path / "sample.txt")


def test_verify_passes_and_fails_with_its_exit_code(cli: Cli, registry: LocalRegistry) -> None:
    built = build_image(ImageTag(2, 400_000), registry.target("cli-verify"))
    code, out, _ = cli("verify", str(built.target))
    assert code == 0
    assert "2 layers correct, 400000 content bytes match their seed" in out
    path = registry.blob_path(built.layers[1].digest)
    path.write_bytes(path.read_bytes()[:-1] + b"\1")
    code, _, err = cli("verify", str(built.target))
    assert code == 3
    assert "1 of 1 images differ from their manifest or tag" in err


def test_sizes_reads_images_and_numbers(cli: Cli, registry: LocalRegistry, tmp_path: Path) -> None:
    built = build_image(ImageTag(4, 400_000), registry.target("cli-sizes"))
    sample = tmp_path / "sample.txt"
    sample.write_text(f"# in use\n{built.target}\n\n9,5000000\n25, 9000000\n")
    code, out, _ = cli("sizes", str(sample), "-q", "0", "-q", "0.5", "-q", "1", "--output", "json")
    assert code == 0
    assert json.loads(out) == [
        {
            "quantile": 0.0,
            "layers": 4,
            "compressed": built.compressed,
            "size": built.compressed * 2,
        },
        {"quantile": 0.5, "layers": 9, "compressed": 5_000_000, "size": 10_000_000},
        {"quantile": 1.0, "layers": 25, "compressed": 9_000_000, "size": 18_000_000},
    ]


@pytest.mark.parametrize(
    ("text", "option", "reason"),
    [("", "0.5", "sample has no images"), ("1,2\n", "1.5", "1.5 is not between 0 and 1")],
)
def test_sizes_refuses_what_has_no_quantiles(
    cli: Cli,
    tmp_path: Path,
    text: str,
    option: str,
    reason: str,
) -> None:
    sample = tmp_path / "sample.txt"
    sample.write_text(text)
    code, _, err = cli("sizes", str(sample), "-q", option)
    assert code == 2
    assert reason in err


def test_progress_without_a_terminal_is_plain_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("images.progress._PLAIN_SECONDS", 0.0)
    with show_bytes(Console(), "building", 4_000_000) as add:
        add(1_000_000)
        add(3_000_000)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("building: 1.0 MB of 4.0 MB, ")
    assert lines[1].endswith("/s, 0 s left")
