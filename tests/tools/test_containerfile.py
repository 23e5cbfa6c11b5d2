"""The container recipe keeps the rules of recipes, and is built where a builder exists."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from tests.infra.stack_files import ROOT

RECIPE = (ROOT / "Containerfile").read_text("utf-8")
PINNED = re.compile(r"\S+@sha256:[0-9a-f]{64}")
BUILDERS = [name for name in ("buildah", "podman", "docker") if shutil.which(name)]


def instructions(recipe: str) -> list[tuple[str, str]]:
    """Return each instruction with its arguments, on one line."""
    lines = [line for line in recipe.splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ").splitlines()
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in joined if line.strip()]


def problems(recipe: str) -> Iterator[str]:
    """Say what hadolint would, of the rules that matter here."""
    found = instructions(recipe)
    arguments = dict(text.split("=", 1) for name, text in found if name == "ARG")
    stages: set[str] = set()
    user = "0"
    for name, text in found:
        words = text.split()
        if name == "FROM":
            base = words[0]
            if base not in stages and not PINNED.fullmatch(arguments.get(base.strip("${}"), base)):
                yield f"{base} is not pinned by digest"
            stages.add(words[-1])
        elif name == "USER":
            user = text
        elif name in {"ENTRYPOINT", "CMD"} and not text.startswith("["):
            yield f"{name} is no list, so a shell would take its signals"
        elif name == "RUN":
            yield from _shell_problems(text)
    if not re.fullmatch(r"[1-9]\d*", user):
        yield f"it runs as {user}"


def _shell_problems(text: str) -> Iterator[str]:
    commands = [each.strip() for each in text.split("&&")]
    if re.search(r"\bsudo\b|[^|]\|[^|]", text):
        yield "sudo, or a pipe that hides a failure"
    for command in commands:
        if "apt-get install" in command:
            if "--no-install-recommends" not in command or "--yes" not in command:
                yield f"{command}: recommended packages, or a question"
            if "apt-get update" not in text or commands[-1] == command or "rm -rf" not in text:
                yield f"{command}: lists are old, or stay in the image"
        elif re.search(r"\bpip install\b(?!.*/dist/)", command) and not (
            {"--require-hashes", "--no-deps"} <= set(command.split())
        ):
            yield f"{command}: takes what no hash pins"


def test_the_recipe_keeps_the_rules() -> None:
    assert list(problems(RECIPE)) == []


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (r"@sha256:\w+\nARG GO", "\nARG GO", "not pinned by digest"),
        (r"USER 1000\n\Z", "", "it runs as 0"),
        (r"--no-install-recommends", "", "recommended packages"),
        (r"--require-hashes -r /uv.txt", "-r /uv.txt", "takes what no hash pins"),
        (r"--no-deps --require-hashes --constraint", "--constraint", "takes what no hash pins"),
        (r"\[\"pull-study\"\]", "pull-study", "ENTRYPOINT is no list"),
        (r"&& rm -rf /var/lib/apt/lists/\*", "", "stay in the image"),
        (r"apt-get update", "curl example.com | sh", "a pipe"),
    ],
)
def test_a_recipe_that_breaks_a_rule_is_found(old: str, new: str, problem: str) -> None:
    broken = re.sub(old, new, RECIPE)
    assert broken != RECIPE
    assert any(problem in each for each in problems(broken))


def test_it_has_every_program_that_a_run_on_gke_needs() -> None:
    for program in ("p['pulumi']", "p['kubectl']", "skopeo", "gke-gcloud-auth-plugin"):
        assert program in RECIPE
    assert "--constraint requirements.lock" in RECIPE


def test_what_is_private_or_large_is_not_sent_to_the_builder() -> None:
    ignored = (ROOT / ".dockerignore").read_text("utf-8").split()
    assert {".git", ".venv", "data"} <= set(ignored)


@pytest.mark.live
@pytest.mark.full
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not BUILDERS, reason="no buildah, podman or docker on PATH")
def test_the_image_is_built_and_answers_as_another_user() -> None:
    base = re.findall(r"(?m)^ARG PYTHON=(\S+)", RECIPE)[0].replace(":3.11-slim-bookworm", "")
    reached = subprocess.run(
        ["skopeo", "inspect", "--raw", f"docker://{base}"], capture_output=True, check=False
    )
    if reached.returncode:
        pytest.skip(f"the base image cannot be fetched: {reached.stderr.decode()[-200:]}")
    tag = "localhost/pull-study-test"
    builder = BUILDERS[0]
    build = [builder, "build", "--file", "Containerfile", "--target", "existing", "--tag", tag, "."]
    subprocess.run(build, cwd=ROOT, check=True, timeout=1700)
    runner = next((each for each in ("podman", "docker") if each in BUILDERS), None)
    if runner:
        run = [runner, "run", "--rm", "--network", "none", tag, "files"]
        listed = subprocess.run(run, check=True, capture_output=True, text=True, timeout=100)
        assert "studies/smoke.yaml" in listed.stdout
    else:
        inspected = subprocess.run(
            [builder, "inspect", "--type", "image", tag], check=True, capture_output=True
        )
        assert json.loads(inspected.stdout)["OCIv1"]["config"]["User"] == "1000"
