from typing import Any

import pytest

from rehearsal.cluster.fleet import ClusterKey
from rehearsal.google.state import Kind
from tests.rehearsal.local_google import ZONE, Google

KEY = ClusterKey("p", "us-central1-a", "c")
STUDY_NODE = {
    "machineType": "n1-standard-16",
    "advancedMachineFeatures": {"threadsPerCore": "1"},
    "gvnic": {"enabled": True},
    "oauthScopes": ["https://www.googleapis.com/auth/logging.write"],
    "loggingConfig": {"variantConfig": {"variant": "DEFAULT"}},
}


def cluster_body(**fields: Any) -> dict[str, Any]:
    """What the official provider posts for the study's cluster."""
    cluster = {
        "initialNodeCount": 4,
        "name": "c",
        "network": "projects/p/global/networks/default",
        "nodeConfig": STUDY_NODE,
        "resourceLabels": {"goog-pulumi-provisioned": "true"},
        "shieldedNodes": {"enabled": True},
        "legacyAbac": {"enabled": False},
        "binaryAuthorization": {"enabled": False},
        "controlPlaneEndpointsConfig": {"ipEndpointsConfig": {"enablePublicEndpoint": True}},
    }
    return {"cluster": {**cluster, **fields}}


@pytest.fixture
def running(google: Google) -> Google:
    """With the study's cluster, running."""
    google.done("POST", f"{ZONE}/clusters", cluster_body())
    return google


class TestCreation:
    def test_is_seen_while_it_goes_on(self, google: Google) -> None:
        google.fleet.gate.clear()
        operation = google.ok("POST", f"{ZONE}/clusters", cluster_body())
        assert operation["status"] == "RUNNING"
        assert operation["operationType"] == "CREATE_CLUSTER"
        cluster = google.ok("GET", f"{ZONE}/clusters/c")
        assert cluster["status"] == "PROVISIONING"
        assert "endpoint" not in cluster
        google.fleet.gate.set()
        assert google.finish(operation)["endTime"]
        assert google.ok("GET", f"{ZONE}/clusters/c")["status"] == "RUNNING"

    def test_answer_repeats_the_first_pools_nodes(self, running: Google) -> None:
        cluster = running.ok("GET", f"{ZONE}/clusters/c")
        assert cluster["nodeConfig"] == cluster["nodePools"][0]["config"]
        assert cluster["nodeConfig"]["advancedMachineFeatures"] == {"threadsPerCore": "1"}
        assert cluster["initialNodeCount"] == 4
        assert cluster["currentNodeCount"] == 4

    def test_answer_has_defaults(self, running: Google) -> None:
        cluster = running.ok("GET", f"{ZONE}/clusters/c")
        nodes = cluster["nodeConfig"]
        assert (nodes["diskType"], nodes["diskSizeGb"]) == ("pd-balanced", 100)
        assert nodes["imageType"] == "COS_CONTAINERD"
        assert nodes["metadata"] == {"disable-legacy-endpoints": "true"}
        assert cluster["ipAllocationPolicy"]["clusterIpv4CidrBlock"] == "10.64.0.0/14"
        assert cluster["networkConfig"]["network"] == "projects/p/global/networks/default"
        assert cluster["nodePools"][0]["upgradeSettings"] == {"maxSurge": 1, "strategy": "SURGE"}
        assert cluster["nodePools"][0]["networkConfig"]["podRange"]

    def test_answer_keeps_what_was_sent(self, google: Google) -> None:
        said = {
            "shieldedNodes": {"enabled": False},
            "releaseChannel": {"channel": "UNSPECIFIED"},
            "ipAllocationPolicy": {"useIpAliases": True, "clusterIpv4CidrBlock": "/16"},
            "networkConfig": {"defaultEnablePrivateNodes": True},
        }
        google.done("POST", f"{ZONE}/clusters", cluster_body(**said))
        cluster = google.ok("GET", f"{ZONE}/clusters/c")
        assert cluster["resourceLabels"] == {"goog-pulumi-provisioned": "true"}
        assert not cluster["shieldedNodes"].get("enabled")
        assert cluster["releaseChannel"] == {}
        assert cluster["clusterIpv4Cidr"] == "10.64.0.0/16"
        assert cluster["networkConfig"]["defaultEnablePrivateNodes"] is True

    def test_of_a_regional_cluster_puts_nodes_into_its_zones(self, google: Google) -> None:
        region = ZONE.replace("us-central1-a", "us-central1")
        body = cluster_body(locations=["us-central1-a", "us-central1-b"])
        google.done("POST", f"{region}/clusters", body)
        assert google.ok("GET", f"{region}/clusters/c")["currentNodeCount"] == 8
        assert google.fleet.specs[0].node_count == 8

    def test_of_a_name_that_is_taken_is_refused(self, running: Google) -> None:
        error = running.error("POST", f"{ZONE}/clusters", cluster_body())
        assert (error["code"], error["status"]) == (409, "ALREADY_EXISTS")
        assert len(running.fleet.specs) == 1

    def test_that_the_machine_cannot_do_leaves_a_cluster_in_error(self, google: Google) -> None:
        google.fleet.refusals["create_pool"] = "There is no room for 4 nodes."
        operation = google.finish(google.ok("POST", f"{ZONE}/clusters", cluster_body()))
        assert operation["error"]["message"] == "There is no room for 4 nodes."
        assert operation["statusMessage"] == "There is no room for 4 nodes."
        cluster = google.ok("GET", f"{ZONE}/clusters/c")
        assert cluster["status"] == "ERROR"
        assert cluster["statusMessage"] == "There is no room for 4 nodes."
        assert cluster["nodePools"][0]["status"] == "ERROR"
        google.done("DELETE", f"{ZONE}/clusters/c")

    def test_of_another_kubernetes_version_fails_and_names_both(self, google: Google) -> None:
        body = cluster_body(initialClusterVersion="1.33")
        operation = google.finish(google.ok("POST", f"{ZONE}/clusters", body))
        assert '"1.33"' in operation["error"]["message"]
        assert "1.34.1-gke.0" in operation["error"]["message"]

    @pytest.mark.parametrize("version", ["1.34", "1.34.1", "1.34.1-gke.0", "-", "latest"])
    def test_of_a_version_that_fits_succeeds(self, google: Google, version: str) -> None:
        body = cluster_body(initialClusterVersion=version)
        google.done("POST", f"{ZONE}/clusters", body)

    @pytest.mark.parametrize(
        ("fields", "said"),
        [
            ({"name": "Bad_Name"}, "Bad_Name"),
            ({"nme": "c"}, "nme"),
            ({"deletionProtection": True}, "deletionProtection"),
            ({"releaseChannel": {"channel": "FAST"}}, "FAST"),
            ({"initialNodeCount": 0}, "greater than zero"),
            ({"initialNodeCount": 1001}, "1000"),
            ({"nodeConfig": {"machineType": "n1-standart-16"}}, "n1-standart-16"),
            ({"nodeConfig": {"machineType": "q1-standard-16"}}, "q1-standard-16"),
            ({"nodeConfig": {"diskSizeGb": 5}}, "10 GB"),
            (
                {"nodeConfig": {"advancedMachineFeatures": {"threadsPerCore": "7"}}},
                "threads_per_core",
            ),
            ({"ipAllocationPolicy": {"clusterIpv4CidrBlock": "/99"}}, "CIDR"),
            ({"ipAllocationPolicy": {"clusterIpv4CidrBlock": "/23"}}, "2 nodes"),
            ({"locations": ["europe-west1-b"]}, "europe-west1-b"),
        ],
        ids=lambda value: value if isinstance(value, str) else next(iter(value)),
    )
    def test_that_gke_refuses_is_refused(
        self, google: Google, fields: dict[str, Any], said: str
    ) -> None:
        error = google.error("POST", f"{ZONE}/clusters", cluster_body(**fields))
        assert error["code"] == 400
        assert said in error["message"]
        assert google.ok("GET", f"{ZONE}/clusters") == {"clusters": []}

    @pytest.mark.parametrize("location", ["us-central1-zz", "us-central1-d", "moon-north1"])
    def test_in_no_zone_is_refused(self, google: Google, location: str) -> None:
        place = ZONE.replace("us-central1-a", location)
        error = google.error("POST", f"{place}/clusters", cluster_body())
        assert error["code"] == 400
        assert location in error["message"]

    def test_over_quota_is_forbidden(self, google: Google) -> None:
        google.state.put(Kind.QUOTA, "projects/p/regions/us-central1", {"CPUS": 63})
        error = google.error("POST", f"{ZONE}/clusters", cluster_body())
        assert (error["code"], error["errors"][0]["reason"]) == (403, "quotaExceeded")
        assert '"CPUS"' in error["message"]
        assert "short '1.0'" in error["message"]


class TestUpdate:
    def test_replaces_what_it_names(self, running: Google) -> None:
        update = {"update": {"desiredReleaseChannel": {"channel": "STABLE"}}}
        running.done("PUT", f"{ZONE}/clusters/c", update)
        assert running.ok("GET", f"{ZONE}/clusters/c")["releaseChannel"] == {"channel": "STABLE"}

    def test_of_addons_leaves_the_others(self, running: Google) -> None:
        addons = {"httpLoadBalancing": {"disabled": True}}
        running.done("PUT", f"{ZONE}/clusters/c", {"update": {"desiredAddonsConfig": addons}})
        found = running.ok("GET", f"{ZONE}/clusters/c")["addonsConfig"]
        assert found["httpLoadBalancing"] == {"disabled": True}
        assert found["gcePersistentDiskCsiDriverConfig"] == {"enabled": True}

    def test_that_is_not_modelled_says_so(self, running: Google) -> None:
        update = {"update": {"desiredMeshCertificates": {"enableCertificates": True}}}
        error = running.error("PUT", f"{ZONE}/clusters/c", update)
        assert error["code"] == 501
        assert "desiredMeshCertificates" in error["message"]

    def test_of_labels_needs_their_fingerprint(self, running: Google) -> None:
        path = f"{ZONE}/clusters/c:setResourceLabels"
        old = running.ok("GET", f"{ZONE}/clusters/c")["labelFingerprint"]
        body = {"resourceLabels": {"a": "b"}, "labelFingerprint": old}
        running.done("POST", path, body)
        cluster = running.ok("GET", f"{ZONE}/clusters/c")
        assert cluster["resourceLabels"] == {"a": "b"}
        assert cluster["labelFingerprint"] != old
        assert running.error("POST", path, body)["code"] == 412


class TestDeletion:
    def test_of_nothing_is_not_found(self, google: Google) -> None:
        assert google.error("DELETE", f"{ZONE}/clusters/c")["code"] == 404

    def test_waits_for_the_operation_before(self, google: Google) -> None:
        google.fleet.gate.clear()
        operation = google.ok("POST", f"{ZONE}/clusters", cluster_body())
        error = google.error("DELETE", f"{ZONE}/clusters/c")
        assert (error["code"], error["status"]) == (400, "FAILED_PRECONDITION")
        assert f"incompatible operation {operation['name']}" in error["message"]
        google.fleet.gate.set()
        google.finish(operation)
        google.done("DELETE", f"{ZONE}/clusters/c")

    def test_that_fails_keeps_the_cluster_listed(self, running: Google) -> None:
        running.fleet.refusals["delete_cluster"] = "A process does not end."
        operation = running.finish(running.ok("DELETE", f"{ZONE}/clusters/c"))
        assert operation["error"]["message"] == "A process does not end."
        assert running.ok("GET", f"{ZONE}/clusters/c")["status"] == "ERROR"


class TestMaintenance:
    def test_is_replaced_by_the_version_that_was_read(self, running: Google) -> None:
        path = f"{ZONE}/clusters/c"
        first = running.ok("GET", path)["maintenancePolicy"]
        times = {"startTime": "2026-11-27T10:00:00Z", "endTime": "2026-11-28T10:00:00Z"}
        exclusion = {**times, "maintenanceExclusionOptions": {"scope": "NO_MINOR_UPGRADES"}}
        window = {"maintenanceExclusions": {"run": exclusion}}
        body = {"maintenancePolicy": {**first, "window": window}}
        running.done("POST", f"{path}:setMaintenancePolicy", body)
        found = running.ok("GET", path)["maintenancePolicy"]
        assert found["window"] == window
        assert running.error("POST", f"{path}:setMaintenancePolicy", body)["code"] == 412


class TestList:
    def test_has_all_locations_of_the_project(self, running: Google) -> None:
        anywhere = ZONE.replace("us-central1-a", "-")
        names = [item["name"] for item in running.ok("GET", f"{anywhere}/clusters")["clusters"]]
        assert names == ["c"]
        elsewhere = ZONE.replace("us-central1-a", "us-east1-b")
        assert running.ok("GET", f"{elsewhere}/clusters") == {"clusters": []}
        other = anywhere.replace("/p/", "/q/")
        assert running.ok("GET", f"{other}/clusters") == {"clusters": []}
