"""OPC UA servers: ``session`` asks a server through asyncua (an extra), ``collector`` polls it, and ``probe``
lists its variables that measure.
"""
