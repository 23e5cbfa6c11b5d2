from tests.rehearsal.local_google import ZONE, Google

SERVICES = "serviceusage/v1/projects/p/services"
COMPUTE = "compute/beta/projects/p"


class TestServices:
    def test_enabled_ones_are_listed(self, google: Google) -> None:
        listed = google.ok("GET", SERVICES, filter="state:ENABLED")["services"]
        names = {service["config"]["name"] for service in listed}
        assert "container.googleapis.com" in names
        assert "containerfilesystem.googleapis.com" not in names

    def test_disabled_api_refuses_calls(self, google: Google) -> None:
        google.ok("POST", f"{SERVICES}/container.googleapis.com:disable", {})
        error = google.error("GET", f"{ZONE}/clusters")
        assert (error["code"], error["errors"][0]["reason"]) == (403, "accessNotConfigured")
        assert "gcloud services enable container.googleapis.com" in error["message"]
        google.ok("POST", f"{SERVICES}/container.googleapis.com:enable", {})
        google.ok("GET", f"{ZONE}/clusters")


class TestCompute:
    def test_region_has_quotas_and_their_use(self, google: Google) -> None:
        cluster = {
            "name": "c",
            "initialNodeCount": 3,
            "nodeConfig": {
                "machineType": "n1-standard-16",
                "ephemeralStorageLocalSsdConfig": {"localSsdCount": 2},
            },
        }
        google.done("POST", f"{ZONE}/clusters", {"cluster": cluster})
        region = google.ok("GET", f"{COMPUTE}/regions/us-central1")
        usage = {quota["metric"]: quota["usage"] for quota in region["quotas"] if quota["usage"]}
        assert usage == {
            "CPUS": 48,
            "SSD_TOTAL_GB": 300,
            "LOCAL_SSD_TOTAL_GB": 2250,
            "INSTANCES": 3,
            "IN_USE_ADDRESSES": 3,
        }
        other = google.ok("GET", f"{COMPUTE}/regions/us-east1")
        assert {quota["usage"] for quota in other["quotas"]} == {0}

    def test_nodes_are_instances_with_a_platform(self, google: Google) -> None:
        cluster = {"name": "c", "initialNodeCount": 1}
        google.done("POST", f"{ZONE}/clusters", {"cluster": cluster})
        (instance,) = google.ok("GET", f"{COMPUTE}/zones/us-central1-a/instances")["items"]
        assert instance["name"].endswith("-0001")
        assert instance["cpuPlatform"] == "Intel Skylake"

    def test_place_that_is_none_is_not_found(self, google: Google) -> None:
        assert google.error("GET", f"{COMPUTE}/regions/moon")["code"] == 404
        group = f"{COMPUTE}/zones/us-central1-a/instanceGroupManagers/none"
        assert google.error("GET", group)["code"] == 404
