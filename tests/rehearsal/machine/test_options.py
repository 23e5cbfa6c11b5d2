from __future__ import annotations

from rehearsal.machine.options import Options


def test_options_are_passed_as_json() -> None:
    options = Options(0.5, "simulated", 20, rate_limits=False, faults=("a:b=1", "c"))
    assert Options.from_json(options.to_json()) == options
    assert str(options) == (
        "simulated nodes at speed 20 without rate limits, images of scale 0.5, faults a:b=1 c"
    )
