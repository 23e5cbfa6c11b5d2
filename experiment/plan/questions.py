"""The questions that a planned study can answer, with the power for effects of two sizes.

The analysis decides (analysis.ask.power), by the rules of its own cards.
"""

from collections.abc import Sequence

import pandas as pd

from analysis.ask.power import Question, Site, questions
from analysis.judge.cells import image_parts
from experiment.plan.trial_order import unpacked_bytes
from experiment.provision.cluster import Cluster
from experiment.provision.stack_cluster import StackCluster
from schema.run_records import PlannedTrial
from schema.study import Study


def planned_questions(
    study: Study, trials: Sequence[PlannedTrial], clusters: Sequence[Cluster]
) -> list[Question]:
    """Return what the study varies on these clusters, and what it names without varying it."""
    rows = []
    for trial in trials:
        image = trial.image
        repository, tag, layers, _ = image_parts(image.reference)
        rows.append(
            {
                "image": f"{repository}:{tag}",
                "repository": repository,
                "tag": tag,
                "layers": float(layers or len(image.layers)),
                "unpacked_bytes": float(unpacked_bytes(image)),
                "wire_bytes": float(image.compressed_bytes),
                "repetition": trial.repetition,
            }
        )
    return questions(
        pd.DataFrame(rows), [_site(each, study.workload) for each in clusters], study.contrasts
    )


def _site(cluster: Cluster, workload: str) -> Site:
    """Return what distinguishes a cluster; of an existing one disk and zone are unknown."""
    facts = cluster.facts if isinstance(cluster, StackCluster) else None
    return Site(
        nodes=cluster.node_count,
        machine_type=cluster.machine_type,
        disk=facts.disk if facts else "",
        zone=facts.zones[0] if facts and facts.zones else "",
        workload=workload,
        streaming=bool(facts and facts.streaming and not facts.preloaded),
        preloaded=bool(facts and facts.preloaded),
        unpacks=str((facts and facts.parallel_unpacks) or 1),
        remote=(facts.remote_repository, facts.remote_name) if facts else ("", ""),
    )
