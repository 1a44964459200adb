"""Engineering units of BACnet (ASHRAE 135, BACnetEngineeringUnits) in the words of channels."""

from __future__ import annotations

NO_UNITS = 95

UNITS: dict[int, str] = {
    2: "mA",
    3: "A",
    5: "V",
    8: "VA",
    9: "kVA",
    10: "MVA",
    11: "var",
    12: "kvar",
    15: "pf",
    16: "J",
    18: "Wh",
    19: "kWh",
    27: "Hz",
    29: "%",
    47: "W",
    48: "kW",
    49: "MW",
    62: "degC",
    63: "K",
    64: "degF",
    73: "s",
    80: "m3",
    82: "l",
    95: "1",
    98: "%",
    124: "mV",
    126: "MJ",
    146: "MWh",
    239: "VAh",
    240: "kVAh",
    242: "varh",
    243: "kvarh",
}
"""Number of a unit -> unit of a channel. What is not here is asked for, never guessed."""
