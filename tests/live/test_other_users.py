"""What other users of the machine get from real nodes, whose pods may have all rights."""

from __future__ import annotations

import os

import pytest

from tests.live.harness import LONGEST_S, Place, needs_real_nodes
from tests.live.listeners import answers_to_nobody, cluster, listeners

pytestmark = [
    pytest.mark.live,
    pytest.mark.full,
    pytest.mark.timeout(LONGEST_S),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may become nobody"),
    needs_real_nodes,
]


def test_nobody_is_refused_by_every_listener_of_nodes_and_registry(place: Place) -> None:
    with place.session(nodes="real") as inside:
        with cluster(inside):
            found = listeners(inside.home.folder)
            answers = answers_to_nobody(found)
        programs = {each.program for each in found}
        assert {"containerd", "docker-registry", "etcd", "kube-apiserver", "kubelet"} <= programs
        assert {address: said for address, said in answers.items() if said} == {}
    place.expect_nothing_left()
