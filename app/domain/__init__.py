"""The domain: pure functions and frozen data on the standard library, NumPy and pandas.

No I/O, no clock, no framework. ``quantity`` holds the vocabulary, ``site`` what is measured,
``reading`` what arrives, ``period`` windows and calendars, ``energy`` readings to 15-minute energy,
``pue`` energy to PUE, ``limits`` the dated limits.
"""
