"""Servers, racks and PDUs that speak Redfish (DMTF DSP0266): chassis power and ``PowerEquipment``."""
