"""What the program declares in Google Cloud can be adopted after a killed command."""

from experiment.provision.state_repair import ADOPTED, IDEMPOTENT
from tests.infra.conftest import Declare


def test_state_repair_knows_every_type_that_the_program_declares(declare_stack: Declare) -> None:
    some = declare_stack(imageStreaming=True, remoteRepository="ghcr.io")
    others = declare_stack(parallelUnpacks=9)
    declared = [*some.custom, *others.custom]
    types = {each.type for each in declared if each.type.startswith("gcp:")}
    assert types == set(ADOPTED) | IDEMPOTENT
