from infra.components.log_sink import event_filter


def test_filter_takes_this_clusters_exporter_and_gkes_own_event_log() -> None:
    text = event_filter(
        project="p", location="us-central1-a", cluster="c", namespace="n", container="e"
    )
    assert text == (
        'resource.labels.project_id="p" AND resource.labels.location="us-central1-a"'
        ' AND resource.labels.cluster_name="c" AND ('
        '(resource.type="k8s_container" AND log_id("stdout")'
        ' AND resource.labels.namespace_name="n" AND resource.labels.container_name="e")'
        ' OR (log_id("events") AND resource.type=("k8s_pod" OR "k8s_node" OR "k8s_cluster")))'
    )
