import re

import pytest

from infra.prices import MACHINE_TYPES, PRICES, nat_usd, usd_per_hour


def test_original_studys_prices() -> None:
    assert MACHINE_TYPES["n1-standard-16"].usd_per_hour == 0.76
    assert MACHINE_TYPES["n1-standard-64"].usd_per_hour == 3.04  # it read 3.03


@pytest.mark.parametrize(
    ("spot", "private", "address"), [(False, False, 0.005), (True, False, 0.0025), (True, True, 0)]
)
def test_price_counts_nodes_disks_local_ssds_and_addresses(
    spot: bool, private: bool, address: float
) -> None:
    disk, local = 200 * 0.17 / 730, 2 * 375 * 0.08 / 730
    price = usd_per_hour(
        "n1-standard-16",
        nodes=3,
        disk_type="pd-ssd",
        disk_gb=200,
        ssds=2,
        spot=spot,
        private=private,
    )
    assert price == pytest.approx(3 * (0.76 + disk + local + address))


@pytest.mark.parametrize(
    ("nodes", "hourly"), [(4, 4 * 0.0014), (32, 32 * 0.0014), (33, 0.044), (256, 0.044)]
)
def test_nat_costs_a_gateway_an_address_and_traffic(nodes: int, hourly: float) -> None:
    assert nat_usd(nodes, 3, 0) == pytest.approx(3 * (hourly + 0.005))
    assert nat_usd(nodes, 0, 2**31) == pytest.approx(nodes * 2 * 0.045)


def _figures() -> list[tuple[str, dict[str, object]]]:
    tables = ("machine_types_per_hour", "disks_per_gb_month")
    rows = [(name, figure) for table in tables for name, figure in PRICES[table].items()]
    nat = [(f"NAT by {name}", figure) for name, figure in PRICES["nat_per_hour"].items()]
    single = [
        (name, PRICES[name])
        for name in (
            "cluster_per_hour",
            "address_per_hour",
            "address_of_spot_per_hour",
            "nat_per_gib",
            "logs_per_gib",
            "archive_per_gb_month",
        )
    ]
    return [*single, *nat, *rows]


@pytest.mark.parametrize(("name", "figure"), _figures(), ids=lambda item: str(item)[:20])
def test_every_price_has_a_source_with_a_date(name: str, figure: dict[str, object]) -> None:
    source = PRICES["sources"][figure["source"]]
    assert isinstance(figure["usd"], float), name
    assert source["what"]
    assert re.fullmatch(r"20\d\d-\d\d", source["date"])
    # A price that was not looked up is marked as such.
    assert source["checked"] is ("from memory" not in source["what"])


@pytest.mark.parametrize("name", MACHINE_TYPES)
def test_list_prices_follow_from_vcpus_and_memory(name: str) -> None:
    family = PRICES["families"].get(name.partition("-")[0])
    assert family, f"infra/prices.yaml: families has no rates of {name}"
    machine = MACHINE_TYPES[name]
    computed = machine.vcpus * (family["vcpu"] + family["gb_a_vcpu"] * family["gb"])
    assert machine.usd_per_hour == pytest.approx(computed, rel=0.005)
