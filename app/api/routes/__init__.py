"""One router per noun. To add one: a module with ``router``, and its line in ``app.ROUTERS``."""
