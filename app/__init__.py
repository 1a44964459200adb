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

from __future__ import annotations

__version__ = "0.1.0"
"""The one place that says it; the package, ``--version``, the API and /metrics read it here."""
__distribution__ = "wattline"  # looked for by wattline.py
