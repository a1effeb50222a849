from collections import Counter

from deploy.sandbox.catalogue import CATALOGUE
from deploy.sandbox.fields import CODECS, DATE_PAIRS, broken_rule, clean
from deploy.sandbox.seed import generate

RECORDS = list(generate(8807, 1))
OWN = {"pfaId", "organizationCode", "version", "updatedAt", "updatedBy"}


def share(condition):
    return sum(map(bool, map(condition, RECORDS))) / len(RECORDS)


def test_the_same_seed_gives_the_same_records_and_a_smaller_count_the_first_of_them():
    assert list(generate(8807, 1)) == RECORDS
    assert list(generate(100, 1)) == RECORDS[:100]
    assert list(generate(100, 2)) != RECORDS[:100]


def test_ids_are_unique_over_all_organizations():
    assert len({record["pfaId"] for record in RECORDS}) == 8807
    assert RECORDS[0]["pfaId"] == "PFA-10001"


def test_a_record_has_the_fields_of_the_contract_with_values_that_pems_accepts():
    for record in RECORDS:
        assert set(record) == OWN | set(CODECS)
        fields = {name: record[name] for name in CODECS}
        assert clean(fields) == (fields, {})
        assert broken_rule(record, fields) is None


def test_organizations_sources_and_flags_are_spread_as_in_real_books():
    for organization, expected in {"RIO": 0.45, "PORTARTHUR": 0.35, "HOLNG": 0.20}.items():
        assert abs(share(lambda record, code=organization: record["organizationCode"] == code) - expected) < 0.02
    assert abs(share(lambda record: record["source"] == "Rental") - 0.70) < 0.02
    assert abs(share(lambda record: record["isActualized"]) - 0.12) < 0.02
    assert abs(share(lambda record: record["isDiscontinued"]) - 0.06) < 0.01
    assert 0.1 < share(lambda record: record["forecastStart"] != record["originalStart"]) < 0.9


def test_a_rental_has_a_rate_and_a_purchase_a_price():
    for record in RECORDS:
        is_rental = record["source"] == "Rental"
        assert (record["monthlyRate"] is not None) == is_rental
        assert (record["purchasePrice"] is not None) != is_rental


def test_class_maker_and_model_belong_together():
    known = {(e.category, e.class_name, e.manufacturer, e.model) for e in CATALOGUE}
    assert all(tuple(r[n] for n in ("category", "class", "manufacturer", "model")) in known for r in RECORDS)


def test_only_started_equipment_has_actual_dates():
    for record in RECORDS:
        assert record["hasActuals"] == (record["actualStart"] is not None)
        assert (record["actualEnd"] is not None) == record["isActualized"]
        assert record["actualStart"] is None or record["actualStart"] >= record["forecastStart"]


def test_dates_lie_around_2026_and_2027():
    years = Counter(record[name][:4] for record in RECORDS for pair in DATE_PAIRS[:2] for name in pair)
    assert set(years) <= {"2026", "2027", "2028", "2029"}
    assert years["2026"] + years["2027"] > 0.9 * years.total()


def test_versions_start_between_1_and_6():
    assert {record["version"] for record in RECORDS} == {1, 2, 3, 4, 5, 6}
