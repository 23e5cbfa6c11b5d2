import yaml

from infra.components.cluster import AUTH_PLUGIN_HINT, kubeconfig


class TestKubeconfig:
    def test_holds_no_credential(self) -> None:
        (user,) = yaml.safe_load(kubeconfig("c", "203.0.113.7", "Q0E="))["users"]
        assert set(user["user"]) == {"exec"}
        assert not {"token", "env"} & set(user["user"]["exec"])

    def test_asks_googles_plugin_for_the_identity_of_pulumi_and_never_the_user(self) -> None:
        (user,) = yaml.safe_load(kubeconfig("c", "203.0.113.7", "Q0E="))["users"]
        assert user["user"]["exec"] == {
            "apiVersion": "client.authentication.k8s.io/v1beta1",
            "command": "gke-gcloud-auth-plugin",
            "args": ["--use_application_default_credentials"],
            "installHint": AUTH_PLUGIN_HINT,
            "interactiveMode": "Never",
            "provideClusterInfo": True,
        }

    def test_trusts_the_clusters_own_authority_at_an_address_or_an_address_and_port(self) -> None:
        for endpoint in ("203.0.113.7", "127.0.0.1:6443"):
            (cluster,) = yaml.safe_load(kubeconfig("c", endpoint, "Q0E="))["clusters"]
            assert cluster["cluster"] == {
                "server": f"https://{endpoint}",
                "certificate-authority-data": "Q0E=",
            }

    def test_context_leads_to_cluster_and_user(self) -> None:
        config = yaml.safe_load(kubeconfig("c", "203.0.113.7", "Q0E="))
        (context,) = config["contexts"]
        assert config["current-context"] == context["name"] == "c"
        assert context["context"] == {"cluster": "c", "user": "c"}
