"""An answer to a question of the study, and what every question needs to word one. Pure."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from analysis.ask.study_data import Cluster

NOT_ENOUGH = "Not enough data to say."
NOT_TESTED = "Not tested in this study."


@dataclass(frozen=True)
class Answer:
    """A question and its answer.

    Attributes:
        fact: the answer in one sentence.
        detail: the data behind it.
        answered: false if the data do not answer the question; `detail` then says why.
        provenance: what was not measured; empty for measured data.
    """

    question: str
    fact: str
    detail: str = ""
    answered: bool = True
    provenance: str = ""


def no_answer(question: str, why: str, fact: str = NOT_ENOUGH) -> Answer:
    """Return the answer that there is none, and why."""
    return Answer(question, fact, why, answered=False)


def not_tested(question: str, why: str) -> Answer:
    """Return the answer that the study did not vary what the question asks about."""
    return no_answer(question, why, NOT_TESTED)


def largest_group(clusters: Sequence[Cluster], key: Callable[[Cluster], object]) -> list[Cluster]:
    """Return the group of clusters with equal `key` that has the most cluster sizes."""
    groups: dict[object, list[Cluster]] = defaultdict(list)
    for cluster in clusters:
        groups[key(cluster)].append(cluster)
    return max(groups.values(), key=lambda group: len({c.nodes for c in group}), default=[])


def listed(numbers: Sequence[int]) -> str:
    """Return numbers as a sentence lists them: '4, 8 and 16'."""
    *most, last = [str(number) for number in numbers]
    return f"{', '.join(most)} and {last}" if most else last
