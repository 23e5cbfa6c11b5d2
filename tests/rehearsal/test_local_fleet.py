from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rehearsal.cluster.fleet import ClusterKey, PoolSpec
from rehearsal.local_fleet import _folder_name, _node_names, _Pool

KEY = ClusterKey("p", "us-central1-a", "study")
names = st.from_regex(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?", fullmatch=True)


def pool(name: str = "measured") -> _Pool:
    return _Pool(PoolSpec(name, 4, "n1-standard-16", {}, ()))


def test_a_new_node_takes_the_first_free_name() -> None:
    grown = pool()
    grown.nodes = {"gke-study-measured-0001": None, "gke-study-measured-0003": None}
    assert _node_names(KEY, grown, 2) == ["gke-study-measured-0002", "gke-study-measured-0004"]


@given(cluster=names, pools=st.lists(names, min_size=2, max_size=2, unique=True))
def test_names_fit_a_label_and_differ_between_pools(cluster: str, pools: list[str]) -> None:
    key = ClusterKey("p", "us-central1-a", cluster)
    (one,), (other,) = (_node_names(key, pool(name), 1) for name in pools)
    assert len(one) <= 63
    assert one != other


def test_clusters_of_one_name_in_two_places_have_folders_of_their_own() -> None:
    other = ClusterKey("p", "us-central1-b", "study")
    assert _folder_name(KEY) != _folder_name(other)
