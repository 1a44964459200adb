"""What runs at a site: meters and folders are read, readings wait on disk, and a cell gets them.

No database, no figures: nothing here imports the store. ``process`` puts the parts together, ``sender``
empties the spool, ``transport`` is the only way out.
"""
