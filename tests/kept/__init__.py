"""A database of each revision, kept as its own code made it: what an upgrade has to bring through.

``python -m tests.kept TREE`` makes that of the source tree TREE (this one, or one that ``git worktree``
checked out): its own code measures, declares, finds, freezes a report and writes the audit log; then the
database is dumped.
"""
