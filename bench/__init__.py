"""Repeatable ratios against named peers, each measured in one run on one machine.

``make bench`` runs every module in :data:`bench.__main__.MODULES` (or those named: ``python -m bench
ingest snmp``) and rewrites its section of ``bench/RESULTS.md``. A module defines ``TITLE`` and
``run() -> list[Row]``. Nothing here is imported by the service, and no test asserts on time.
"""
