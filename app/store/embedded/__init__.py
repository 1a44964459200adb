"""The PostgreSQL of our own.

``server`` starts and watches it, ``launch`` becomes it, ``paths`` says where its files lie.
"""
