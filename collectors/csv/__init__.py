"""Export files, from raw bytes to readings: CSV and its kin, Green Button, NEM12/13 and JSON.

``source`` opens a file, ``rows`` cuts it into cells, ``understand`` makes the plan (with ``dialect``,
``time_formats``, ``number_marks``, ``columns`` and ``match``), ``reader`` reads by it, ``folder`` watches a
folder. ``layouts`` knows the headings of named exports, ``reshape`` turns those that are no table into one.
A format of its own is one file beside ``nem`` and ``green_button``, called by ``understand`` and
``reader``.
"""
