"""The fault run: a simulated site under load while everything around it breaks, and the reckoning afterwards.

::

    collector.py  the collector's process, which keeps a journal of what its spool accepted
    senders.py    whoever delivers over HTTP and in files, again until it is confirmed
    world.py      devices, database, disk, network and processes, and how each of them breaks
    account.py    what was acknowledged against what is stored and what stands in the ledger
    run.py        one run by a seed; `python -m tests.faults` for as long as wanted
"""
