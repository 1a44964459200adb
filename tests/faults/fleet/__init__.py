"""The fault run of the whole: three cells, three servers of a hub and six edges, each a process of its own.

::

    process.py   cells and edges with a journal; what is planted in them to see the run fail
    consumer.py  a worker that is killed between commit and acknowledgement, again and again
    parts.py     cells, edges and lines, and how each of them breaks
    world.py     all of them together, at work
    faults.py    what breaks, what has to be true then, and what is measured
    run.py       faults in the order of a seed, and the reckoning in every cell
"""
