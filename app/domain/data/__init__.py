"""Dated tables that a regulator or a supplier can change: limits, emission factors, conversions, benchmarks.

Every row says from when it holds, where it comes from and whether that source was checked. To change
one without a new release, give the same record in the configuration; it replaces the row of that id.
"""
