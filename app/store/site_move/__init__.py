"""A site's rows on their way from the database of one cell to that of another.

``parts`` decides for every table whose its rows are; ``copying`` brings the rows over, slice by slice, and
compares both sides; ``obstacles`` says what stands in the way; ``sealing`` closes the site here, ``opening``
opens it there. How far a move is stands in ``app.store.site_moves``.
"""
