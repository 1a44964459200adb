"""Several cells as one fleet: which there are, asking them all at once, and what they are together.

A *cell* is a Wattline of its own: some sites and their database. Nothing here keeps figures; a cell that does
not answer is named, and no total is said as if it were complete.
"""
