"""Alarms over time.

``judge`` looks at the present, ``replay`` and ``history`` at the past, ``announce`` tells of changes.
"""
