"""docker-registry as a test's own: real, on loopback, gone with the test."""

import contextlib
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from images.registry.reference import Target

_START_SECONDS = 20


@dataclass
class LocalRegistry:
    """docker-registry with its data in a folder of the test."""

    name: str
    data: Path
    log: Path

    def target(self, repository: str = "chonks", tag: str = "") -> Target:
        return Target(self.name, repository, tag)

    def blob_path(self, digest: str) -> Path:
        """The file of a blob."""
        found = digest.removeprefix("sha256:")
        return self.data / "docker/registry/v2/blobs/sha256" / found[:2] / found / "data"

    def blob_requests(self, method: str) -> list[str]:
        """Digests of blobs that were asked for, by the registry's own log."""
        pattern = rf'"{method} /v2/[^ ]*/blobs/(sha256:[0-9a-f]+)'
        return re.findall(pattern, self.log.read_text())

    def requests(self, method: str, path: str) -> list[str]:
        return re.findall(rf'"{method} ([^ ]*{path}[^ ]*) HTTP', self.log.read_text())


@contextlib.contextmanager
def run_registry(folder: Path, extra: str = "") -> Iterator[LocalRegistry]:
    """Run docker-registry until the block ends."""
    program = shutil.which("docker-registry")
    if program is None:
        pytest.fail("docker-registry is missing: apt-get install docker-registry")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "config.yml"
    config.write_text(
        "version: 0.1\n"
        "log: {level: warn}\n"
        f"storage: {{delete: {{enabled: true}}, filesystem: {{rootdirectory: {folder}/data}}}}\n"
        f"http: {{addr: '127.0.0.1:{port}'}}\n" + extra
    )
    log = folder / "log"
    with log.open("wb") as out:
        process = subprocess.Popen([program, "serve", str(config)], stdout=out, stderr=out)
    name = f"127.0.0.1:{port}"
    try:
        _await_answer(name, process, log)
        yield LocalRegistry(name, folder / "data", log)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def _await_answer(name: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            pytest.fail(f"docker-registry ended at once: {log.read_text()}")
        with contextlib.suppress(requests.ConnectionError):
            requests.get(f"http://{name}/v2/", timeout=5)
            return
        time.sleep(0.05)
    pytest.fail(f"docker-registry did not answer within {_START_SECONDS} s")
