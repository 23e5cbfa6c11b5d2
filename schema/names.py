"""Names that cross a boundary: a label that infra sets and the runner selects by, and the like."""

MEASURED_LABEL = "pull-study/measured"
"""Label and NoSchedule taint (value 'true') of the nodes whose pulls are measured."""

MEASURED_TOLERATIONS = ({"key": MEASURED_LABEL, "operator": "Exists", "effect": "NoSchedule"},)
"""Tolerations of the measured pods, and so the taints of an existing cluster's nodes that may be
measured: a key, and an effect or none for every effect."""

CPU_PLATFORM_LABEL = "pull-study/cpu-platform"
"""Label in nodes.json: the CPU platform of the node's machine, such as Intel Skylake."""

UNPACKS_LABEL = "pull-study/parallel-unpacks"
"""Label in nodes.json: layers of an image that the node's containerd unpacks at once, where the
stack declares it."""

PROJECT_LABEL = "pull-study"
"""Value of the label `project` of everything of this program in Google Cloud."""

JOB_NAMESPACE = "pull-study"
"""Namespace of the trials' Jobs; the runner makes it."""

RUN_LABEL = "pull-study/run"
"""Label of a run's Jobs and pods, and of nodes of an existing cluster while it measures them: its
id."""

TRIAL_LABEL = "pull-study/trial"
"""Label of a trial's Job and pods: the trial's number in the plan."""

FLUX_OPERATOR = "flux-operator"
"""Namespace of the Flux Operator, and its Deployment, container and service account."""

MINICLUSTERS = ("flux-framework.org", "v1alpha2", "miniclusters")
"""Group, version and plural of the Flux Operator's objects."""

VIEW_CONTAINER = "flux-view"
"""Init container of a MiniCluster's pods: it copies Flux to where the study container finds it."""

REMOVER_IMAGE = ("registry.k8s.io/e2e-test-images/busybox", "1.36.1-1")
"""Repository and tag of the image whose shell and nsenter remove images from nodes, and measure
their roofs."""

REMOVER_DIGEST = "sha256:a9155b13325b2abef48e71de77bb8ac015412a566829f621d06bfae5c699b1b9"
"""Of that tag (kubernetes/kubernetes, test/e2e_node): its pods have all rights on their nodes."""

REMOVER_DIGEST_VARIABLE = "PULL_STUDY_REMOVER_DIGEST"
"""Environment: the digest that the tag must have instead; empty for any, as in a rehearsal, which
makes the image."""

REMOVE_ANNOTATION = "pull-study/remove"
"""Of a pod that removes images from its node: their references, a JSON list."""

ROOFS_ANNOTATION = "pull-study/roofs"
"""Of a pod that measures its node's roofs: the reference of the blob that it receives."""

READ_NAME = "pull-study-read"
"""Fourth word of the command of a pod that reads its image; the shares in per cent are the fifth
(experiment.measure.on_nodes.image_reading)."""

REMOVAL_LABEL = "pull-study/removal"
"""Of the same pod: the trial that it goes before."""

SPANS_VARIABLE = "PULL_STUDY_SPANS"
"""Environment: the file with the spans of the nodes' containerds, in OTLP's JSON; or empty."""

REHEARSAL_VARIABLE = "PULL_STUDY_REHEARSAL"
"""Environment: JSON of schema.run_records.Rehearsal, set inside a rehearsal, recorded in runs."""

LOGGING_ENDPOINT_VARIABLE = "PULL_STUDY_LOGGING_ENDPOINT"
"""Environment: host:port of a plaintext Cloud Logging gRPC server to use instead of Google's."""

CONTAINER_ENDPOINT_VARIABLE = "GOOGLE_CONTAINER_CUSTOM_ENDPOINT"
"""Environment: base URL of the GKE API, `/v1beta1/` included; the gcp provider reads it too."""

PROJECT_VARIABLE = "GOOGLE_CLOUD_PROJECT"
"""Environment: project id where `gcp:project` is not configured."""
OTHER_LOGIN_VARIABLES = (
    "GOOGLE_CREDENTIALS",
    "GOOGLE_CLOUD_KEYFILE_JSON",
    "GCLOUD_KEYFILE_JSON",
    "GOOGLE_IMPERSONATE_SERVICE_ACCOUNT",
)
"""Logins that Pulumi's gcp provider prefers to application-default credentials
(registry.terraform.io/providers/hashicorp/google, provider reference); nothing else reads them."""
