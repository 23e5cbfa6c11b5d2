import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tools.conftest import AddProgram
from tools import programs
from tools.environment import ROOT
from tools.programs import MODULES, PROGRAMS, MissingProgram, Program, cached_path, locate

each_program = pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)


def put_in_cache(program: Program) -> Path:
    path = cached_path(program)
    path.parent.mkdir(parents=True)
    path.touch(mode=0o755)
    return path


@each_program
def test_every_program_is_a_tool_of_its_pinned_module(program: Program) -> None:
    manifest = (MODULES / program.folder / "go.mod").read_text(encoding="utf-8")
    sums = (MODULES / program.folder / "go.sum").read_text(encoding="utf-8")
    assert re.search(rf"^(tool )?\s*{re.escape(program.package)}$", manifest, re.MULTILINE)
    assert re.fullmatch(r"\d+\.\d+\.\d+", program.version)
    assert f"{program.module} v{program.version} h1:" in sums


@each_program
def test_setup_has_built_what_the_pin_says(program: Program) -> None:
    path = cached_path(program)
    assert path.is_file(), "make setup"
    if program.version_arguments:
        done = subprocess.run(
            [path, *program.version_arguments], capture_output=True, text=True, check=True
        )
        assert program.version in done.stdout + done.stderr


def test_every_module_folder_belongs_to_a_program() -> None:
    folders = {path.parent.name for path in MODULES.glob("*/go.mod")}
    assert folders == {program.folder for program in PROGRAMS.values()}


def test_pulumi_is_of_the_version_of_its_sdk() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert f"pulumi=={PROGRAMS['pulumi'].version}" in project["dependencies"]


def test_kubernetes_is_built_from_staging_modules_of_its_own_version() -> None:
    manifest = (MODULES / "kubernetes" / "go.mod").read_text(encoding="utf-8")
    replaced = re.findall(r"^\t(k8s\.io/\S+) => (\S+) v(\S+)$", manifest, re.MULTILINE)
    _, minor_and_patch = PROGRAMS["kubelet"].version.split(".", 1)
    assert len(replaced) == 31
    assert {(old == new, version) for old, new, version in replaced} == {
        (True, f"0.{minor_and_patch}")
    }


def test_the_linker_writes_the_version_where_upstream_does() -> None:
    assert PROGRAMS["kubelet"].linker_flags == (
        "-s -w -X k8s.io/component-base/version.gitVersion=v1.34.1"
        " -X k8s.io/component-base/version.gitMajor=1"
        " -X k8s.io/component-base/version.gitMinor=34"
    )


def test_a_program_on_path_is_preferred_to_the_cache(add_program: AddProgram) -> None:
    put_in_cache(PROGRAMS["pulumi"])
    official = add_program("pulumi", "echo v3.259.0")
    located = locate("pulumi")
    assert (located.path, located.version, located.origin) == (official, "3.259.0", "PATH")


def test_a_kubelet_on_path_may_be_of_another_patch(add_program: AddProgram) -> None:
    add_program("kubelet", "echo Kubernetes v1.34.7")
    assert locate("kubelet").version == "1.34.7"


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("pulumi", "echo v3.260.0"),
        ("pulumi", "echo v3.259.1"),
        ("kubelet", "echo Kubernetes v1.33.1"),
        ("etcd", "echo etcd Version: 3.5.9"),
        ("kwok", "echo kwok version v0.7.0"),
        ("kwokctl", "echo no such flag >&2; exit 2"),
        ("kube-apiserver", "echo v1.34.1; exit 1"),
        ("kubernetes-event-exporter", "echo 1.6.1"),
    ],
)
def test_an_unsuitable_program_on_path_yields_to_the_cache(
    name: str, body: str, add_program: AddProgram
) -> None:
    add_program(name, body)
    built = put_in_cache(PROGRAMS[name])
    located = locate(name)
    assert (located.path, located.version, located.origin) == (
        built,
        PROGRAMS[name].version,
        "cache",
    )


def test_a_suitable_program_later_on_path_is_found(
    add_program: AddProgram, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suitable = add_program("etcd", "echo etcd Version: 3.6.5")
    older = tmp_path / "older"
    older.mkdir()
    shutil.copy(add_program("old-etcd", "echo etcd Version: 3.4.0"), older / "etcd")
    monkeypatch.setenv("PATH", f"{older}:{suitable.parent}")
    assert locate("etcd").path == suitable


def test_the_cache_on_path_is_still_the_cache(
    add_program: AddProgram, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_program("unrelated", "")
    built = put_in_cache(PROGRAMS["kwok"])
    monkeypatch.setenv("PATH", str(built.parent))
    assert locate("kwok").origin == "cache"


def test_a_missing_program_says_what_was_refused_and_what_to_do(add_program: AddProgram) -> None:
    refused = add_program("kubelet", "echo Kubernetes v1.29.3")
    with pytest.raises(MissingProgram) as error:
        locate("kubelet")
    assert str(error.value) == (
        f"kubelet 1.34.1 is not on this machine ({refused} is 1.29.3), and "
        "rehearsals need it.\n  Fix: make setup"
    )


def test_another_recipe_has_another_place_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    etcd = PROGRAMS["etcd"]
    before = cached_path(etcd)
    shutil.copytree(MODULES / "etcd", tmp_path / "etcd")
    monkeypatch.setattr(programs, "MODULES", tmp_path)
    assert cached_path(etcd) == before
    with (tmp_path / "etcd" / "go.sum").open("a", encoding="utf-8") as sums:
        sums.write("\n")
    assert cached_path(etcd) != before


def test_the_report_says_where_each_program_is_or_how_to_get_it(
    add_program: AddProgram,
) -> None:
    etcd = add_program("etcd", "echo etcd Version: 3.6.5")
    parts = {part.name: part for part in programs.report()}
    assert parts.keys() == PROGRAMS.keys() - {"actionlint", "kubectl"}
    assert (parts["etcd"].found, parts["etcd"].origin) == (True, str(etcd))
    assert {(part.found, part.fix) for name, part in parts.items() if name != "etcd"} == {
        (False, "make setup")
    }


@given(st.integers(0, 50), st.integers(0, 50))
def test_a_minor_release_stands_for_its_patches_and_no_other(minor: int, patch: int) -> None:
    assert PROGRAMS["kubelet"].accepts(f"1.{minor}.{patch}") == (minor == 34)
    assert PROGRAMS["pulumi"].accepts(f"3.{minor}.{patch}") is False
