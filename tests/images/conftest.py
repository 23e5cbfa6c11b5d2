"""A real registry on loopback, and a journal of the test's own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.images.faulty_proxy import Proxy, run_proxy
from tests.images.local_registry import LocalRegistry, run_registry


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalRegistry]:
    """One registry for all tests; each uses a repository of its own."""
    with run_registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture
def proxy(registry: LocalRegistry) -> Iterator[Proxy]:
    """A faulty proxy in front of the registry."""
    with run_proxy(registry.name) as running:
        yield running


@pytest.fixture
def no_sleep(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that the client would have waited between its tries."""
    waited: list[float] = []
    monkeypatch.setattr("images.registry.upload.time.sleep", waited.append)
    monkeypatch.setattr("images.registry.client.time.sleep", waited.append)
    return waited


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the user's journal nor the user's configuration take part."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "run").mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.delenv("REGISTRY_AUTH_FILE", raising=False)
