"""Prices of machines: those of stacks (infra/prices.yaml has sources and dates).

A machine that is not listed has no price.
"""

from functools import cache
from pathlib import Path

import yaml

PRICES = Path(__file__).parents[2] / "infra" / "prices.yaml"


@cache
def usd_per_hour(machine_type: str) -> float | None:
    """Return the list price of one machine in USD, on demand, in us-central1; None if unknown."""
    listed = yaml.safe_load(PRICES.read_text("utf-8"))["machine_types_per_hour"].get(machine_type)
    return None if listed is None else float(listed["usd"])
