"""SNMP agents.

``session`` asks, ``table`` finds what a profile describes, ``collector`` polls, ``probe`` recognises.
"""
