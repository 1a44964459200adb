"""The sections of the reports: which figures stand where, in the words of a language.

``site`` and ``institution`` say the order; a section is a function from the words of a report to its blocks.
"""
