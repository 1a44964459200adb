"""What a person does: one function each, called by the HTTP interface, the pages and the command line.

Each takes the caller's :class:`~app.actions.view.View`, one transaction. It checks that the caller may do it,
does it, and writes it into the audit log, so that an act is refused and recorded alike however it was done.
What belongs to a site that the caller may not know of is answered like what does not exist.
"""
