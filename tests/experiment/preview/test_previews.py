"""`pull-study preview`, by the real engine and the fake providers."""

from collections.abc import Iterator

import pytest
from typer.testing import CliRunner

from experiment.cli.app import app
from experiment.errors import PreflightError
from experiment.preview.base_revision import deleted_stacks
from experiment.preview.previews import StackPreview, require_no_problems
from rehearsal.pulumi.fake_providers import provider_variables
from schema.errors import ExitCode, UserError
from tests.experiment.preview_root import Result, Root
from tests.infra.stack_files import ROOT, committed_checksums

full = [pytest.mark.live, pytest.mark.full]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Root:
    return Root(tmp_path_factory.mktemp("root"))


@pytest.fixture(scope="module")
def _providers() -> Iterator[None]:
    with provider_variables() as variables, pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="module")
def compared(root: Root, _providers: None) -> Result:
    """One change of the program, one of a stack, a new stack and one that is deleted."""
    root.edit("infra/components/event_exporter.py", '"kubeQPS": 100', '"kubeQPS": 99')
    root.edit("Pulumi.size-4-n1-standard-64.yaml", "n1-standard-64", "n1-standard-96")
    (root.folder / "Pulumi.size-8.yaml").rename(root.folder / "Pulumi.eight.yaml")
    stacks = ("--stack", "size-4-n1-standard-64", "--stack", "eight")
    said = root.preview(*stacks, "--against", "HEAD", "--output", "json")
    deleted = deleted_stacks("HEAD", root.stacks(), root=root.folder)
    root.restore()
    assert deleted == ["size-8"]
    assert said.exit_code == ExitCode.OK, said.err
    return said


@pytest.mark.usefixtures("_providers")
class TestAgainstARevision:
    pytestmark = pytest.mark.live

    def test_only_changed_resources_are_listed_with_properties_and_prices(
        self, compared: Result
    ) -> None:
        stack = compared.stacks["size-4-n1-standard-64"]
        found = {change["name"]: change for change in stack["changes"]}
        assert found.keys() == {"configuration", "deployment", "measured"}
        assert {change["step"] for change in found.values()} == {"update"}
        assert found["measured"]["properties"] == ["nodeConfig.machineType"]
        assert stack["unchanged"] == 16
        assert (stack["usd_per_hour_before"], stack["usd_per_hour"]) == (12.49, 18.57)
        assert stack["machine_type"] == "n1-standard-96"

    def test_a_stack_that_the_base_lacks_is_new(self, compared: Result) -> None:
        stack = compared.stacks["eight"]
        assert {change["step"] for change in stack["changes"]} == {"create"}
        assert (stack["unchanged"], stack["usd_per_hour_before"]) == (0, None)
        assert stack["nodes"] == {"measured": 8, "monitoring": 1}

    @pytest.mark.full
    def test_a_base_that_cannot_be_previewed_is_a_warning(self, root: Root) -> None:
        root.edit("infra/program.py", "def declare_stack(", "def declare_stack_too(")
        root.git("commit", "--quiet", "--all", "--message", "broken")
        root.edit("infra/program.py", "def declare_stack_too(", "def declare_stack(")
        said = root.preview("--stack", "size-4", "--against", "HEAD", "--output", "json")
        root.git("reset", "--quiet", "--hard", "HEAD~1")
        (stack,) = said.stacks.values()
        assert {change["step"] for change in stack["changes"]} == {"create"}
        assert stack["warnings"][0].startswith("the base cannot be previewed (")
        assert "declare_stack" in stack["warnings"][0]


BREAKS = [
    (
        "infra/components/cluster.py", "deletion_protection=False", "deletion_protection=True",
        "cluster: deletionProtection is not false, so `pulumi destroy` would fail",
    ),
    (
        "infra/components/log_sink.py", 'public_access_prevention="enforced"',
        'public_access_prevention="inherited"',
        "preview-only-pull-study-size-4: publicAccessPrevention is not enforced",
    ),
    (
        "infra/components/log_sink.py", "uniform_bucket_level_access=True",
        "uniform_bucket_level_access=False",
        "preview-only-pull-study-size-4: objects could have their own access rules",
    ),
    (
        "infra/components/log_sink.py", "member=sink.writer_identity", 'member="allUsers"',
        "writer: gives roles/storage.objectCreator to allUsers",
    ),
    (
        "infra/components/cluster.py", '"roles/artifactregistry.reader"', '"roles/editor"',
        "nodes-roles/editor: gives roles/editor, which covers the whole project",
    ),
    (
        "infra/components/nodes.py", '"trace.append",', '"trace.append", "cloud-platform",',
        ("measured: the scope https://www.googleapis.com/auth/cloud-platform is wider than a node "
        "needs"),
    ),
    (
        "infra/components/event_exporter.py",
        "image=image,", 'image=image.partition("@")[0] + ":v1.7",',
        ("deployment: the image ghcr.io/resmoio/kubernetes-event-exporter:v1.7 is not pinned by "
        "its digest"),
    ),
    (
        "infra/limits.yaml", "usd_per_hour: 850", "usd_per_hour: 3.33",
        "costs 3.37 USD an hour, above the limit of 3.33",
    ),
    ("infra/limits.yaml", "nodes: 1001", "nodes: 4", "has 5 nodes, above the limit of 4"),
]  # fmt: skip
"""One change for each guard, of the program itself, and the sentence that catches it."""


@pytest.fixture(scope="module")
def broken(root: Root, _providers: None) -> Result:
    """A preview of a program in which every guard is broken at once."""
    for path, old, new, _ in BREAKS:
        root.edit(path, old, new)
    said = root.preview("--stack", "size-4")
    root.restore()
    return said


class TestGuards:
    pytestmark = full

    def test_catch_every_break_of_the_program_and_fail_the_command(self, broken: Result) -> None:
        for *_, sentence in BREAKS:
            assert f"  size-4: {sentence}\n" in broken.out
        lines = [line for line in broken.out.splitlines() if line.startswith("  size-4: ")]
        assert len(lines) == len(BREAKS) + 1  # the scope is that of both pools
        assert broken.exit_code == ExitCode.GUARD
        assert "Error: 1 of 1 stacks would break a guard: size-4." in broken.err


@pytest.mark.usefixtures("_providers")
class TestTrouble:
    pytestmark = full

    def test_a_wrong_setting_is_reported_and_the_other_stacks_are_previewed(
        self, root: Root
    ) -> None:
        root.edit("Pulumi.size-8.yaml", "pull-study:nodeCount", "pull-study:zone: a\n  #")
        said = root.preview("--stack", "size-8", "--stack", "size-4", "--output", "json")
        root.restore()
        assert said.exit_code == ExitCode.PREFLIGHT
        assert "1 of 2 stacks cannot be previewed: size-8." in said.err
        assert "nodeCount" in said.stacks["size-8"]["problem"]
        assert "Traceback" not in said.err + said.stacks["size-8"]["problem"]
        assert said.stacks["size-4"]["problem"] == ""

    def test_a_program_that_cannot_be_loaded_is_named(self, root: Root) -> None:
        root.edit(
            "infra/program.py", "from infra.components.cluster import", "from infra.clusters import"
        )
        said = root.preview("--stack", "size-4")
        root.restore()
        assert said.exit_code == ExitCode.PREFLIGHT
        assert "its program cannot be loaded: No module named 'infra.clusters'" in said.err
        assert "Traceback" not in said.err

    def test_of_every_stack_rewrites_no_committed_file_and_leaves_no_state(
        self, root: Root, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        before = committed_checksums(), committed_checksums(root.folder)
        scratch = tmp_path_factory.mktemp("scratch")
        token = {"GOOGLE_OAUTH_ACCESS_TOKEN": "the-users-own", "TMPDIR": str(scratch)}
        said = root.preview("--all", "--output", "markdown", variables=token)
        assert said.exit_code == ExitCode.OK, said.err
        rows = [line for line in said.out.splitlines() if line.startswith("| size-")]
        assert len(rows) == len(root.stacks())
        assert (committed_checksums(), committed_checksums(root.folder)) == before
        assert list(scratch.iterdir()) == []


@pytest.mark.usefixtures("_providers")
class TestBadInput:
    @pytest.mark.parametrize(
        ("arguments", "sentence"),
        [
            ((), "A preview needs either --all or --stack"),
            (("--all", "--stack", "size-4"), "A preview needs either --all or --stack"),
            (("--stack", "size-5"), "There is no stack 'size-5'"),
            (("--all", "--against", "nowhere"), "There is no revision 'nowhere'"),
        ],
    )
    def test_is_refused_before_anything_starts(
        self, arguments: tuple[str, ...], sentence: str
    ) -> None:
        done = CliRunner().invoke(app, ["preview", *arguments])
        assert isinstance(done.exception, UserError), done.output
        assert done.exception.exit_code == ExitCode.USAGE
        assert done.exception.problem.startswith(sentence)
        assert done.exception.fix

    def test_without_pulumi_the_fix_is_the_command_that_needs_none(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PATH", "/usr/bin:/bin")
        done = CliRunner().invoke(app, ["preview", "--all"])
        assert isinstance(done.exception, PreflightError), done.output
        assert "The Pulumi CLI is not on PATH" in done.exception.problem
        assert "make preview" in done.exception.fix


class TestVerdict:
    def test_a_stack_that_cannot_be_previewed_outweighs_a_broken_guard(self) -> None:
        previews = [StackPreview("a", broken=("b",)), StackPreview("c", problem="d")]
        with pytest.raises(UserError) as caught:
            require_no_problems(previews)
        assert caught.value.exit_code == ExitCode.PREFLIGHT

    def test_sound_stacks_pass(self) -> None:
        require_no_problems([StackPreview("a"), StackPreview("b")])


def test_make_preview_is_the_one_command() -> None:
    assert "rehearsal providers -- $(BIN)/python -m experiment preview --all" in (
        (ROOT / "Makefile").read_text(encoding="utf-8")
    )
