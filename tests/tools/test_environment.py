import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

from tools import environment
from tools.environment import LOCK, ROOT, VENV, EnvironmentNotMade, locked


def test_the_lock_names_no_host_and_no_path() -> None:
    text = LOCK.read_text(encoding="utf-8")
    assert not re.search(r"://|--index|--find-links|file:|^/|^-e ", text, re.MULTILINE)


def test_every_package_in_the_lock_has_a_hash() -> None:
    text = LOCK.read_text(encoding="utf-8")
    names = re.findall(r"^([\w.-]+)==", text, re.MULTILINE)
    assert len(names) > 50
    assert all("--hash=sha256:" in locked(name)[1] for name in names)


def test_what_the_project_asks_for_is_in_the_lock() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = project["dependencies"] + project["optional-dependencies"]["dev"]
    for requirement in asked:
        name = re.split(r"[=<>\[ ]", requirement)[0].lower()
        pinned, _ = locked(name)
        assert version(name) == pinned


def test_a_package_that_is_not_locked_is_an_error() -> None:
    with pytest.raises(LookupError, match=r"requirements\.lock does not pin no-such-thing"):
        locked("no-such-thing")


def test_the_tests_run_in_the_environment_that_setup_made() -> None:
    assert VENV.samefile(sys.prefix)
    assert environment.is_current(), "make setup"


def test_another_lock_makes_the_environment_stale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "requirements.lock"
    other.write_text(LOCK.read_text(encoding="utf-8") + "# more\n", encoding="utf-8")
    monkeypatch.setattr(environment, "LOCK", other)
    assert not environment.is_current()


def test_the_project_is_found_from_any_folder() -> None:
    code = "import infra; print(infra.__path__[0])"
    done = subprocess.run(
        [VENV / "bin" / "python", "-c", code], cwd="/", capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(ROOT / "infra")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("error: client error (Connect) dns error: no name", "there is no network or no DNS"),
        ("client error (Connect): invalid peer certificate: UnknownIssuer", "is not trusted"),
        ("HTTP status client error (401 Unauthorized) for url", "requires a login"),
        ("operation timed out", "there is no network or no package index"),
        ("No space left on device (os error 28)", "is full"),
        ("hash mismatch for rich", "sh -c .* failed:\n    hash mismatch for rich"),
    ],
)
def test_a_failed_step_says_why(words: str, sentence: str) -> None:
    with pytest.raises(EnvironmentNotMade, match=sentence):
        environment._run(["sh", "-c", f"echo '{words}' >&2; exit 2"])
