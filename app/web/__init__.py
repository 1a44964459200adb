"""The live page: server-rendered HTML for those without Grafana.

A page is a function under ``pages/`` that asks the store and fills a template under ``templates/``;
``charts.py`` draws, ``words.py`` translates, ``access.py`` knows the caller and shows errors as pages. To
add a page: a module under ``pages/``, its line in ``router.py``, a template, and Chinese for every new
text in ``locale/zh.yaml``. There is no build step: one stylesheet and one script under ``static/``.
"""
