"""Reports in the database: ``revisions`` are frozen, ``orders`` are made in the background."""
