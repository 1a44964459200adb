"""Reports: one document of figures, sections in the words of a language, and a renderer for each format.

``build.py`` makes the document (``document.py`` is its shape), ``sections/`` lay it out, ``render/`` writes
it.
"""
