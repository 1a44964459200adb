"""Wattline: data-centre energy and PUE, in figures that can be defended.

Where do I go to ...

==============================  =====================================================
add a reading kind, a role      ``domain/quantity.py``
change how energy is computed   ``domain/energy.py`` (pure; property-tested)
change what PUE means           ``domain/pue.py``
add a limit                     ``domain/limits.py`` (dated data)
add a query or a table          ``store/`` (one file per noun; all SQL lives there)
add a scheduled job             ``jobs/``
add an endpoint                 ``api/`` (one router per noun)
add a protocol or a meter       ``collectors/`` (a registry row; a profile YAML)
==============================  =====================================================
"""
