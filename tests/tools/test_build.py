import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.tools.conftest import AddProgram
from tools import build
from tools.build import CannotBuild
from tools.programs import PROGRAMS, cache_root, cached_path

SOME = (PROGRAMS["etcd"], PROGRAMS["kwok"], PROGRAMS["kwokctl"])
GO_ENV = """
if [ "$*" = "env GOVERSION GOTOOLCHAIN" ]; then echo go1.99.0; echo local; exit; fi
if [ "$*" = "env GOCACHE GOMODCACHE" ]; then
    echo $XDG_CACHE_HOME/go-build; echo $XDG_CACHE_HOME/go; exit
fi
"""
WRITES_OUTPUT = f"""{GO_ENV}
for a; do case "$a" in -o=*) echo built > "${{a#-o=}}"; chmod +x "${{a#-o=}}";; esac; done
"""


def ignore(_line: str) -> None:
    """A listener for lines that the test does not look at."""


def test_programs_are_built_into_the_cache_with_progress(add_program: AddProgram) -> None:
    add_program("go", WRITES_OUTPUT)
    lines: list[str] = []
    build.build(SOME, lines.append)
    assert all(cached_path(program).is_file() for program in SOME)
    assert len(lines) == 6
    assert "programs 3/3" in lines[-1]
    assert list(cached_path(SOME[0]).parent.iterdir()) == [cached_path(SOME[0])]
    assert not list((cache_root() / "programs").glob(f"{build.SCRATCH}*"))


def test_the_go_command_is_pinned_and_reproducible(add_program: AddProgram, tmp_path: Path) -> None:
    log = tmp_path / "go.log"
    add_program("go", f'echo "$CGO_ENABLED $GOWORK $PWD $@" >> {log}\n{WRITES_OUTPUT}')
    build.build((PROGRAMS["etcd"],), ignore)
    command = log.read_text(encoding="utf-8").splitlines()[-1]
    assert command.startswith("0 off ")
    assert (
        "/tools/etcd build -trimpath -mod=readonly -buildvcs=false -gcflags=all=-dwarf=false -ldf"
        in command
    )
    assert command.endswith(" go.etcd.io/etcd/server/v3")


def test_only_what_the_cache_lacks_is_missing(add_program: AddProgram) -> None:
    add_program("go", WRITES_OUTPUT)
    assert len(build.missing()) == len(PROGRAMS)
    build.build(SOME, ignore)
    assert not set(SOME) & set(build.missing())
    assert len(build.missing()) == len(PROGRAMS) - len(SOME)
    for_tests = set(build.missing()) - set(build.missing(tests=False))
    assert {program.name for program in for_tests} == {"actionlint", "kubectl"}


def test_what_a_killed_build_left_is_removed(add_program: AddProgram) -> None:
    add_program("go", WRITES_OUTPUT)
    left_behind = cache_root() / "programs" / f"{build.SCRATCH}x1"
    left_behind.mkdir(parents=True)
    build.build(SOME[:1], ignore)
    assert not left_behind.exists()


@pytest.mark.usefixtures("add_program")
def test_without_go_the_fix_is_to_install_it() -> None:
    with pytest.raises(CannotBuild, match="Go is not on PATH") as error:
        build.build(SOME, ignore)
    assert error.value.fix == "install Go 1.26.6 or later, then make setup"


def test_a_go_too_old_is_refused(add_program: AddProgram) -> None:
    go = add_program("go", "echo go1.19.8; echo")
    with pytest.raises(CannotBuild) as error:
        build.build(SOME, ignore)
    assert error.value.problem == (
        f"{go} is go1.19.8, too old to build the programs of the rehearsal, which need Go 1.26.6."
    )


def test_an_older_go_that_may_fetch_a_newer_one_will_do(add_program: AddProgram) -> None:
    add_program("go", WRITES_OUTPUT.replace("go1.99.0", "go1.22.0").replace("local", "auto"))
    build.build(SOME[:1], ignore)
    assert cached_path(SOME[0]).is_file()


def test_a_small_disk_is_reported_before_the_build(
    add_program: AddProgram, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_program("go", WRITES_OUTPUT)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10**9))
    with pytest.raises(CannotBuild, match=r"has 1\.0 GB free.* 3 programs .* may take 3\.7 GB"):
        build.build(SOME, ignore)
    assert build.missing() == tuple(PROGRAMS.values())


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("Get x: dial tcp: lookup example: no such host", "there is no network"),
        ("write /x/y.o: no space left on device", "is full"),
        ("x.go:1:1: expected package", "go build printed:\n    x.go:1:1: expected package"),
    ],
)
def test_a_failed_build_says_why(words: str, sentence: str, add_program: AddProgram) -> None:
    add_program("go", f'{GO_ENV}echo "{words}" >&2; exit 1')
    with pytest.raises(CannotBuild) as error:
        build.build(SOME[:1], ignore)
    assert error.value.problem.startswith("etcd 3.6.5 could not be built")
    assert sentence in error.value.problem
    assert "make setup" in error.value.fix
    assert not cached_path(SOME[0]).exists()


def test_a_failure_ends_the_rest(add_program: AddProgram) -> None:
    add_program("go", f"{GO_ENV}exit 1")
    lines: list[str] = []
    with pytest.raises(CannotBuild):
        build.build(tuple(PROGRAMS.values()), lines.append)
    assert len(lines) < len(PROGRAMS)
