"""BACnet/IP devices: ``codec`` makes and reads packets, ``units`` translates engineering units, ``session``
asks a device, ``collector`` polls it, ``probe`` lists its objects that measure.
"""
