"""Which of several workers measures a site: every worker comes to the same answer on its own.

Rendezvous hashing: a site goes to the candidate with the largest hash of site and worker. A worker that
comes or goes moves only the sites that it takes or leaves, and nobody has to agree on anything but who is
there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping


def chosen(site: str, workers: Mapping[str, frozenset[str] | None]) -> str | None:
    """The worker that measures `site`; None where no worker knows it.

    Parameters
    ----------
    site : str
    workers : mapping
        Workers that are there, each with the sites that its site file names; None: it has no file and
        knows every site.
    """
    candidates = (worker for worker, named in workers.items() if named is None or site in named)
    return max(candidates, key=lambda worker: _weight(site, worker), default=None)


def _weight(site: str, worker: str) -> bytes:
    return hashlib.sha256(f"{site}\0{worker}".encode()).digest()
