"""Alarm rules.

``observation`` is what a rule sees, ``alarm`` judges it, ``text`` and ``notification`` say it.
"""
