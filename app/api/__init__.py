"""The HTTP interface: endpoints, shapes of answers, problem documents, keys and sign-in.

``app.py`` wires it together; a router per noun is under ``routes/``, and ``context.py`` shows the pattern.
"""
