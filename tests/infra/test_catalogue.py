import pytest

from infra.catalogue import MACHINE_TYPES, ZONES, usd_per_hour


def test_original_studys_prices() -> None:
    assert MACHINE_TYPES["n1-standard-16"].usd_per_hour == 0.76
    assert MACHINE_TYPES["n1-standard-64"].usd_per_hour == 3.03


def test_original_studys_zone_is_known_and_its_misspelling_is_not() -> None:
    assert "us-central1-a" in ZONES
    assert "us-central1-zz" not in ZONES


def test_price_counts_nodes_disks_and_local_ssds() -> None:
    disk, local = 200 * 0.17 / 730, 2 * 375 * 0.08 / 730
    price = usd_per_hour("n1-standard-16", nodes=3, disk_type="pd-ssd", disk_gb=200, ssds=2)
    assert price == pytest.approx(3 * (0.76 + disk + local))
