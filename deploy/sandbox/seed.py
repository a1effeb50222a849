"""Records from a seed: the same seed and count give the same records; a smaller count gives the first of them."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from random import Random

from .catalogue import CATALOGUE, WEIGHTS, Equipment
from .clock import stamp
from .fields import Record

_ORGANIZATIONS = {"RIO": 45, "PORTARTHUR": 35, "HOLNG": 20}
_AREAS = {
    "RIO": ("North", "South", "East", "Jetty", "Utilities"),
    "PORTARTHUR": ("Train 1", "Train 2", "Tank Farm", "Marine", "Offsites"),
    "HOLNG": ("Liquefaction", "Pretreatment", "Site Prep", "Camp"),
}
_PLANNERS = ("j.doe", "m.silva", "a.nguyen", "k.boudreaux", "s.patel", "pems.batch")
_FIRST_DAY = date(2026, 1, 1)
_STATUS_DAY = date(2026, 7, 1)
"""Actual dates lie before it, as in a book closed on that day."""
_FIRST_UPDATE = datetime(2026, 1, 5, 6, tzinfo=UTC).timestamp()
_LAST_UPDATE = datetime(2026, 6, 30, 18, tzinfo=UTC).timestamp()


def generate(count: int, seed: int) -> Iterator[Record]:
    """`count` records with ids PFA-10001 and up, unique over all organizations."""
    random = Random(seed)
    for index in range(count):
        yield _record(f"PFA-{10001 + index}", random)


def _record(pfa_id: str, random: Random) -> Record:
    organization = random.choices(tuple(_ORGANIZATIONS), tuple(_ORGANIZATIONS.values()))[0]
    equipment = random.choices(CATALOGUE, WEIGHTS)[0]
    is_actualized = random.random() < 0.12
    return {
        "pfaId": pfa_id,
        "organizationCode": organization,
        "version": random.choices((1, 2, 3, 4, 5, 6), (30, 26, 18, 12, 8, 6))[0],
        "updatedAt": stamp(random.uniform(_FIRST_UPDATE, _LAST_UPDATE)),
        "updatedBy": random.choice(_PLANNERS),
        **_what(equipment, organization, random),
        **_money(equipment, random),
        **_dates(is_actualized, random),
        "isActualized": is_actualized,
        "isDiscontinued": not is_actualized and random.random() < 0.06 / 0.88,
        "isFundsTransferable": random.random() < 0.6,
        "hasPlan": True,
        "contract": f"C-{random.randrange(100, 160)}" if random.random() < 0.85 else None,
        "equipment": f"EQ-{random.randrange(100_000, 999_999)}" if is_actualized else None,
    }


def _what(equipment: Equipment, organization: str, random: Random) -> Record:
    return {
        "description": f"{equipment.class_name} {equipment.size}",
        "category": equipment.category,
        "class": equipment.class_name,
        "dor": "PROJECT" if random.random() < 0.62 else "BEO",
        "areaSilo": random.choice(_AREAS[organization]),
        "manufacturer": equipment.manufacturer,
        "model": equipment.model,
    }


def _money(equipment: Equipment, random: Random) -> Record:
    spread = random.uniform(0.85, 1.25)
    if random.random() < 0.70:
        return {"source": "Rental", "monthlyRate": _rounded(equipment.monthly_rate * spread), "purchasePrice": None}
    return {"source": "Purchase", "monthlyRate": None, "purchasePrice": _rounded(equipment.purchase_price * spread)}


def _rounded(amount: float) -> float:
    return round(round(amount * 2) / 2, 2)


def _dates(is_actualized: bool, random: Random) -> Record:
    """Plan, a forecast shifted from it, and actual dates where the equipment came (and, when actualized, went)."""
    length = int(random.triangular(20, 420, 120)) if not is_actualized else random.randrange(14, 80)
    original_start = _FIRST_DAY + timedelta(days=random.randrange(0, 80 if is_actualized else 600))
    original_end = original_start + timedelta(days=length)
    shift = 0 if random.random() < 0.45 else int(random.triangular(-30, 90, 10))
    stretch = 0 if random.random() < 0.6 else int(length * random.uniform(-0.2, 0.35))
    start = max(original_start + timedelta(days=shift), _FIRST_DAY)
    end = start + timedelta(days=length + stretch)
    came = is_actualized or (start < _STATUS_DAY and random.random() < 0.75)
    actual_start = min(start + timedelta(days=random.randrange(0, 10)), _STATUS_DAY) if came else None
    actual_end = max(actual_start, min(end, _STATUS_DAY)) if is_actualized and actual_start else None
    return {
        "originalStart": original_start.isoformat(),
        "originalEnd": original_end.isoformat(),
        "forecastStart": start.isoformat(),
        "forecastEnd": end.isoformat(),
        "actualStart": actual_start.isoformat() if actual_start else None,
        "actualEnd": actual_end.isoformat() if actual_end else None,
        "hasActuals": actual_start is not None,
    }
