"""Modbus meters: ``link`` speaks to a line, ``codec`` and ``decode`` read registers, ``plan`` groups them,
``collector`` polls a meter, ``probe`` recognises one.
"""
