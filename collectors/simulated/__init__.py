"""Data centres that do not exist, measured by devices that speak real protocols.

Where do I go to add a ...

=================  ==========================================================================
load or source     ``physics``: what uses how much power, as a pure function of time
meter              ``demo_site.yaml``; its id names the signal it measures
defect             ``defects``: one table with where, when and what it does
channel            ``meters``: what a meter says, defects included
past               ``history``: months of readings in a second
live device        ``devices``: starts all of them; ``modbus_server``, ``snmp_agent``, ``exports``
fault on the line  ``fault_proxy``, and the ``faults`` of every simulated device
=================  ==========================================================================
"""
