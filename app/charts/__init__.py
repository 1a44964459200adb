"""Charts: data in, SVG out.

``live`` draws those of the pages: light, coloured by the stylesheet, as wide as they are shown.
``report`` draws those of reports (HTML and PDF) with Vega-Lite, each an SVG of its own; it imports the
renderer, so pages do not import it.
"""
