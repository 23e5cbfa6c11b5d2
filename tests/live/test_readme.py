"""The README's commands for one machine, run as they stand there."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator

import pytest

from schema.errors import ExitCode
from tests.live.harness import ROOT, Place, needs_real_nodes, place_in

CONTINUED = re.compile(r" \\\n +")
BLOCK = re.compile(r"```console\n(.*?)```", re.DOTALL)
NOT_LINKED = {".git", "data"}
"""What runs and commits is not a test's to write to."""
ELSEWHERE = (
    re.compile(r"make (rehearsal|test|test-all)$"),  # test_study's run, and what runs this test
    re.compile(r"gcloud |export GOOGLE"),  # for Google Cloud
    re.compile(r"(?!.*--rehearse)(?!.*--kubeconfig ).*pull-study run "),
    re.compile(r".*--kubeconfig "),  # needs a cluster
)
IN_CI = ("make preview", "rehearsal shell")


def commands() -> list[str]:
    text = (ROOT / "README.md").read_text("utf-8")
    joined = (CONTINUED.sub(" ", block) for block in BLOCK.findall(text))
    lines = [line for block in joined for line in block.splitlines() if line]
    return [line for line in lines if not any(each.match(line) for each in ELSEWHERE)]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Links to everything of the checkout but its data."""
    with place_in(tmp_path_factory.mktemp("readme")) as place:
        for path in ROOT.iterdir():
            if path.name not in NOT_LINKED:
                (place.folder / path.name).symlink_to(path)
        yield place


@pytest.mark.live
@pytest.mark.timeout(1200)
@needs_real_nodes
@pytest.mark.parametrize(
    "command",
    [
        pytest.param(
            each, marks=() if any(part in each for part in IN_CI) else pytest.mark.full, id=each
        )
        for each in commands()
    ],
)
def test_a_command_of_the_readme_runs(checkout: Place, command: str) -> None:
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=checkout.folder,
        env=checkout.environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    expected = ExitCode.INCOMPLETE if "--fault" in command else ExitCode.OK
    assert done.returncode == expected, f"{command}\n{done.stdout}\n{done.stderr}"
    if "--out report" in command:
        assert (checkout.folder / "report" / "report.html").is_file()


def test_the_readme_has_the_commands_that_ci_runs() -> None:
    assert all(any(part in command for command in commands()) for part in IN_CI)
