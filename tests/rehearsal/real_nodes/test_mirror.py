from __future__ import annotations

import io
import json
import tarfile
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from images.registry.client import Registry
from images.registry.reference import Target
from rehearsal.machine import processes
from rehearsal.machine.home import RehearsalError
from rehearsal.machine.web import serving
from rehearsal.real_nodes import registry
from rehearsal.real_nodes.mirror import ImageMaker, mirror_routes, system_routes
from rehearsal.real_nodes.registry import LocalRegistry
from schema.image_tag import parse_tag
from tools.packages import PACKAGES

pytestmark = pytest.mark.skipif(
    not next(each for each in PACKAGES if each.name == "docker-registry").path(),
    reason="docker-registry is not installed",
)

NAME = "owner/container-chonks"
TAG = "2-layers-size-40000000-bytes"
OCI = {"Accept": "application/vnd.oci.image.manifest.v1+json"}


class Front:
    """A mirror on loopback in front of a real registry, with what it said."""

    def __init__(
        self, registry_: LocalRegistry, maker: ImageMaker, said: list[str], url: str
    ) -> None:
        self.registry = registry_
        self.said = said
        self.maker = maker
        self.url = url

    def get(self, path: str) -> requests.Response:
        """The answer after the redirect, with the credentials of its URL."""
        answer = requests.get(
            f"{self.url}/v2/{path}", headers=OCI, timeout=30, allow_redirects=False
        )
        if answer.status_code != 307:
            return answer
        return requests.get(answer.headers["Location"], headers=OCI, timeout=30)


@pytest.fixture
def front(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Front]:
    monkeypatch.setenv("REGISTRY_AUTH_FILE", "")  # which starting a registry sets
    local = registry.start(tmp_path, tmp_path / "storage")
    try:
        registry.wait_until_up(local)
        said: list[str] = []
        maker = ImageMaker(local, 0.001, said.append)
        with serving([*system_routes(), *mirror_routes(local, maker)]) as url:
            yield Front(local, maker, said, url)
    finally:
        processes.stop(tmp_path)


def test_an_image_is_made_when_its_tag_is_looked_up_and_only_then(front: Front) -> None:
    first = front.get(f"{NAME}/manifests/{TAG}")
    assert first.status_code == 200
    assert urlsplit(first.url).netloc.endswith(f"@{front.registry.address}")
    assert len(first.json()["layers"]) == 2
    again = front.get(f"{NAME}/manifests/{TAG}")
    assert again.content == first.content
    (line,) = front.said
    assert line.startswith(f"image {NAME}:{TAG}: made, ")


def test_another_tag_is_unknown_unless_somebody_pushed_it(front: Front) -> None:
    answer = front.get(f"{NAME}/manifests/latest")
    assert answer.status_code == 404
    (error,) = answer.json()["errors"]
    assert error["code"] == "MANIFEST_UNKNOWN"
    assert f"{NAME}:latest is not in the rehearsal's registry" in error["message"]
    front.maker.make_pause()
    assert front.get("pull-study/pause/manifests/pause").status_code == 200


def test_an_image_that_cannot_be_made_is_refused_with_the_reason(front: Front) -> None:
    answer = front.get(f"{NAME}/manifests/9999-layers-size-1-bytes")
    assert answer.status_code == 500
    assert answer.json()["errors"][0]["message"]


VIEW = "converged-computing/flux-view-ubuntu"


@pytest.mark.parametrize(
    ("repository", "tag"),
    [("owner/images-ubuntu", TAG), (VIEW, "tag-jammy")],
    ids=["study", "view"],
)
def test_images_on_ubuntu_have_bash_and_a_stand_in_of_flux(
    front: Front, repository: str, tag: str
) -> None:
    layers = front.get(f"{repository}/manifests/{tag}").json()["layers"]
    url = f"{front.registry.url}/v2/{repository}/blobs/{layers[0]['digest']}"
    content = io.BytesIO(requests.get(url, timeout=30).content)
    with tarfile.open(fileobj=content) as found:
        modes = {each.name: each.mode for each in found.getmembers()}
    assert (modes["bin/bash"], modes["opt/view/bin/flux"]) == (0o755, 0o755)
    plain = front.get(f"{NAME}/manifests/{TAG}").json()["layers"]
    assert plain[0] != layers[0]


@pytest.mark.parametrize(
    "name", ["resmoio/kubernetes-event-exporter", "flux-framework/flux-operator"]
)
def test_the_images_of_system_pods_are_known_by_any_digest(front: Front, name: str) -> None:
    answer = front.get(f"{name}/manifests/sha256:{'8' * 64}")
    assert answer.json()["layers"] == []


def test_askers_at_the_same_time_get_one_image(front: Front) -> None:
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(front.get, [f"{NAME}/manifests/{TAG}"] * 4))
    assert len({answer.content for answer in answers}) == 1
    assert len(front.said) == 1


def test_a_tag_that_names_another_image_is_built_again(front: Front, tmp_path: Path) -> None:
    """A cache of an earlier builder never lies: the tag is compared with what it should name."""
    other = ImageMaker(front.registry, 0.002, lambda _: None)
    other.make(NAME, parse_tag(TAG))
    stale = requests.get(
        f"{front.registry.url}/v2/{NAME}/manifests/{TAG}",
        headers=OCI,
        timeout=5,
    )
    assert front.get(f"{NAME}/manifests/{TAG}").content != stale.content


@pytest.mark.parametrize("user", ["", "rehearsal:wrong@", "rehearsal:@", ":@"])
def test_who_has_not_its_password_neither_reads_nor_writes(front: Front, user: str) -> None:
    url = f"http://{user}{front.registry.address}/v2"
    front.get(f"{NAME}/manifests/{TAG}")
    assert requests.get(f"{url}/{NAME}/manifests/{TAG}", timeout=5).status_code == 401
    assert requests.post(f"{url}/{NAME}/blobs/uploads/", timeout=5).status_code == 401
    assert requests.get(f"{url}/_catalog", timeout=5).status_code == 401


def test_the_images_program_reads_through_the_mirror(front: Front) -> None:
    name = front.url.removeprefix("http://")
    with Registry(name) as client:
        manifest = client.find_manifest(Target(name, NAME, TAG))
    assert manifest
    assert len(json.loads(manifest.raw)["layers"]) == 2


def test_registries_conf_leads_every_registry_of_a_study_to_the_mirror(tmp_path: Path) -> None:
    path = tmp_path / "registries.conf"
    registry.write_registries_conf(path, "127.0.0.1:1")
    entries = tomllib.loads(path.read_text())["registry"]
    assert [entry["prefix"] for entry in entries] == [
        "ghcr.io",
        "gcr.io",
        "registry.k8s.io",
        "*.pkg.dev",
    ]
    assert {(entry["location"], entry["insecure"]) for entry in entries} == {("127.0.0.1:1", True)}


def test_a_registry_that_does_not_start_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_START_S", 1.0)
    log = tmp_path / "registry.log"
    log.write_text("configuration error: unknown storage\n")
    (port,) = processes.free_ports(1)
    local = LocalRegistry(f"127.0.0.1:{port}", tmp_path, log, "p")
    with pytest.raises(RehearsalError, match="unknown storage"):
        registry.wait_until_up(local)
