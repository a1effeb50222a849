"""Equipment that belongs together: class, maker, model, size, usual rent a month and price."""

from typing import NamedTuple


class Equipment(NamedTuple):
    category: str
    class_name: str
    manufacturer: str
    model: str
    size: str
    monthly_rate: int
    purchase_price: int
    weight: int
    """How often it is planned, relative to the others."""


_TABLE = """
Earthmoving|Excavator|CAT|330|30T|5500|285000|9
Earthmoving|Excavator|Komatsu|PC300LC|30T|5300|279000|6
Earthmoving|Excavator|Volvo|EC480E|50T|8900|465000|4
Earthmoving|Mini Excavator|Kubota|KX080|8T|2600|98000|6
Earthmoving|Wheel Loader|CAT|966M|4.2 m3|7200|410000|5
Earthmoving|Wheel Loader|Komatsu|WA380|3.5 m3|6100|335000|3
Earthmoving|Bulldozer|CAT|D6|22T|9800|520000|4
Earthmoving|Motor Grader|CAT|140|14 ft|7900|415000|2
Earthmoving|Roller|BOMAG|BW211|11T|3400|128000|4
Earthmoving|Articulated Truck|Volvo|A40G|40T|11200|610000|3
Lifting|Crawler Crane|Liebherr|LR1300|300T|62000|3900000|2
Lifting|Crawler Crane|Manitowoc|MLC165|165T|41000|2250000|2
Lifting|All Terrain Crane|Liebherr|LTM1100|100T|34000|1450000|3
Lifting|Rough Terrain Crane|Grove|RT890E|90T|18500|720000|4
Lifting|Telehandler|JLG|1055|10K|3100|142000|9
Lifting|Telehandler|Manitou|MT1840|4T|2900|131000|5
Lifting|Forklift|Toyota|8FD45|4.5T|1900|62000|6
Access|Boom Lift|JLG|860SJ|86 ft|3300|158000|10
Access|Boom Lift|Genie|S-85 XC|85 ft|3250|154000|7
Access|Scissor Lift|Genie|GS-3246|32 ft|780|23500|8
Access|Scissor Lift|Skyjack|SJ6832|32 ft|1050|39000|4
Transport|Flatbed Truck|Freightliner|M2 106|26K|3600|118000|5
Transport|Water Truck|Kenworth|T380|4000 gal|5200|165000|3
Transport|Crew Bus|Blue Bird|Vision|44 seats|4100|132000|3
Transport|Pickup|Ford|F-250|3/4T|1450|58000|12
Transport|Utility Vehicle|Kubota|RTV-X1140|4 seats|640|21500|8
Power|Generator|CAT|XQ230|200 kW|4200|126000|5
Power|Generator|Atlas Copco|QAS 150|120 kW|2900|84000|5
Power|Generator|Cummins|C500|500 kW|8600|248000|2
Power|Light Tower|Generac|MLT6S|4x LED|620|14500|10
Power|Transformer|Schneider|Trihal 1600|1600 kVA|2400|68000|2
Air|Compressor|Atlas Copco|XAS 185|185 cfm|950|24500|7
Air|Compressor|Sullair|900XH|900 cfm|3900|118000|3
Air|Air Dryer|Ingersoll Rand|D950IN|950 cfm|780|19800|2
Welding|Welder|Lincoln|Vantage 500|500 A|690|23800|9
Welding|Welder|Miller|Big Blue 600|600 A|740|26500|6
Welding|Heat Treatment Unit|Miller|ProHeat 35|35 kW|2300|71000|2
Concrete|Concrete Pump|Putzmeister|BSF 36Z|36 m|16500|640000|2
Concrete|Batch Plant|Liebherr|Betomix 2.5|100 m3/h|24000|980000|1
Pumps|Dewatering Pump|Godwin|CD150M|6 in|1350|42000|5
Pumps|Test Pump|Weir|SPM 250|10K psi|2600|83000|2
Site|Office Trailer|WillScot|6020|60x20|980|46000|6
Site|Storage Container|Conex|40HC|40 ft|160|5200|8
"""


def _row(line: str) -> Equipment:
    category, class_name, manufacturer, model, size, rate, price, weight = line.split("|")
    return Equipment(category, class_name, manufacturer, model, size, int(rate), int(price), int(weight))


CATALOGUE = tuple(_row(line) for line in _TABLE.strip().splitlines())
WEIGHTS = tuple(equipment.weight for equipment in CATALOGUE)
