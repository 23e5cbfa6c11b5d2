"""What a node does with an image: real containerd and runc pull, unpack and run it."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from images.make.build import build_image, build_pause
from images.make.content import file_content
from images.make.plan import MAX_LAYERS, Compression
from images.make.push import BuiltImage
from images.registry.reference import Target
from schema.image_tag import ImageTag
from tests.images.local_registry import LocalRegistry, run_registry
from tests.images.make.test_base import bash_and_glibc, push_base
from tools.programs import PROGRAMS, cached_path

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(os.geteuid() != 0, reason="containerd needs root"),
]

_PROGRAMS = {
    name: cached_path(PROGRAMS[name]) for name in ("containerd", "containerd-shim-runc-v2", "ctr")
}
"""Found here, since a test has a home of its own."""

_CONFIG = """version = 3
root = "{root}/root"
state = "{root}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = "{root}/sock"
"""


class Node:
    """A containerd of the test's own, asked through ctr."""

    def __init__(self, folder: Path) -> None:
        self._socket = folder / "sock"

    def ctr(self, *args: str, seconds: float = 120) -> str:
        done = subprocess.run(
            [_PROGRAMS["ctr"], "--address", str(self._socket), *args],
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        assert done.returncode == 0, f"ctr {' '.join(args)}: {done.stderr}{done.stdout}"
        return done.stdout

    def pull(self, built: BuiltImage) -> str:
        reference = f"{built.target}@{built.digest}"
        self.ctr("images", "pull", "--plain-http", reference)
        return reference

    @contextlib.contextmanager
    def mounted(self, reference: str, folder: Path) -> Iterator[Path]:
        folder.mkdir()
        self.ctr("images", "mount", reference, str(folder))
        try:
            yield folder
        finally:
            self.ctr("images", "unmount", str(folder))


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    # A socket's path must be short, and pytest's folders are not.
    folder = Path(tempfile.mkdtemp(prefix="ctr-"))
    (folder / "config.toml").write_text(_CONFIG.format(root=folder))
    shim = _PROGRAMS["containerd-shim-runc-v2"].parent
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [_PROGRAMS["containerd"], "--config", str(folder / "config.toml")],
            env={**os.environ, "PATH": f"{shim}:{os.environ['PATH']}"},
            stdout=log,
            stderr=log,
        )
    found = Node(folder)
    try:
        _await(found, folder)
        yield found
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)
        shutil.rmtree(folder, ignore_errors=True)


def _await(node: Node, folder: Path) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with contextlib.suppress(AssertionError):
            node.ctr("version", seconds=5)
            return
        time.sleep(0.1)
    pytest.fail((folder / "log").read_text())


def build(registry: LocalRegistry, repository: str, tag: ImageTag, **options: object) -> BuiltImage:
    return build_image(tag, registry.target(repository), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("compression", list(Compression))
def test_unpacked_content_is_what_was_requested(
    registry: LocalRegistry, node: Node, tmp_path: Path, compression: Compression
) -> None:
    tag = ImageTag(5, 12_345_678)
    built = build(registry, f"unpack-{compression}", tag, compression=compression)
    with node.mounted(node.pull(built), tmp_path / "root") as root:
        files = sorted((root / "pull-study").iterdir())
        assert [file.name for file in files] == [f"{number:08d}" for number in range(5)]
        assert sum(file.stat().st_size for file in files) == 12_345_678
        seed = "5-layers-size-12345678-bytes/12345678/1/0.5"
        size = files[2].stat().st_size
        assert files[2].read_bytes() == b"".join(file_content(seed, 2, size, 0.5))
        assert (root / "bin" / "sh").resolve().name == "busybox"


def test_the_image_exits_0_at_once_and_sleeps_on_command(
    registry: LocalRegistry, node: Node
) -> None:
    reference = node.pull(build(registry, "runs", ImageTag(2, 50_000)))
    node.ctr("run", "--rm", reference, "study-runs")
    began = time.monotonic()
    node.ctr("run", "--rm", reference, "study-sleeps", "sleep", "1")
    assert time.monotonic() - began >= 1
    assert node.ctr("run", "--rm", reference, "study-says", "sh", "-c", "echo $((6*7))") == "42\n"


def test_bash_of_a_base_runs(registry: LocalRegistry, node: Node) -> None:
    base = push_base(registry.target("bash", tag="base"), bash_and_glibc())
    built = build(registry, "on-bash", ImageTag(3, 50_000), base=str(base))
    command = ("bash", "-c", "echo $((6*7))")
    assert node.ctr("run", "--rm", node.pull(built), "study-bash", *command) == "42\n"


@pytest.mark.parametrize("layers", [1, MAX_LAYERS])
def test_the_fewest_and_the_most_layers_run(
    registry: LocalRegistry, node: Node, layers: int
) -> None:
    reference = node.pull(build(registry, "extremes", ImageTag(layers, 500_000)))
    node.ctr("run", "--rm", reference, f"layers-{layers}")


def test_pause_keeps_running_until_stopped(registry: LocalRegistry, node: Node) -> None:
    reference = node.pull(build_pause(registry.target("pause")))
    node.ctr("run", "--detach", reference, "pause")
    time.sleep(0.5)
    assert "RUNNING" in node.ctr("tasks", "ls")
    node.ctr("tasks", "kill", "--signal", "9", "pause")
    deadline = time.monotonic() + 10
    while "RUNNING" in node.ctr("tasks", "ls") and time.monotonic() < deadline:
        time.sleep(0.1)
    node.ctr("tasks", "rm", "pause")
    node.ctr("containers", "rm", "pause")


def test_salted_copies_are_pulled_in_full_each(node: Node, tmp_path: Path) -> None:
    with run_registry(tmp_path / "own") as own:
        images = [
            build_image(ImageTag(4, 400_000, salt), Target(own.name, "salts")) for salt in ("", "b")
        ]
        own.log.write_bytes(b"")
        for image in images:
            node.pull(image)
        fetched = own.blob_requests("GET")
    layers = [layer.digest for image in images for layer in image.layers]
    assert len(set(layers)) == 8
    assert sorted(digest for digest in fetched if digest in layers) == sorted(layers)
