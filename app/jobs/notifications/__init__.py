"""Messages on their way out.

``send`` works the outbox off, ``channels`` are the ways out, ``outbound`` guards them.
"""
