"""``make sbom``: what is inside, as a CycloneDX document, from the lock file and the licences.

No address of an index, no path of the machine and no time is in it: it says the same wherever and whenever
it is made, and its serial number follows from what it says. So it is committed (``deploy/sbom.json``) and the
container image carries it. The hashes of a package are those of all its published files, one of which is
installed.
"""

from __future__ import annotations

import argparse
import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID, uuid5

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from app import __version__
from tools.licences import licence_of
from tools.locked import ROOT, SHIPPED, Locked, locked

_NAMESPACE = UUID("6f0c5d0e-6f5b-4b39-9f0e-0a5a8d1f3c77")
"""Of serial numbers; any fixed one would do."""


def document(packages: Sequence[Locked]) -> str:
    """The bill of materials, as CycloneDX 1.6 JSON."""
    root = _project()
    parts = {package: _component(package) for package in packages}
    bom = Bom(components=parts.values())
    bom.metadata.component = root
    for wanting, component in (("wattline", root), *((p.name, c) for p, c in parts.items())):
        bom.register_dependency(component, [c for p, c in parts.items() if wanting in p.wanted_by])
    written = json.loads(JsonV1Dot6(bom).output_as_string())
    del written["serialNumber"], written["metadata"]["timestamp"]
    serial = uuid5(_NAMESPACE, json.dumps(written, sort_keys=True))
    return json.dumps(written | {"serialNumber": serial.urn}, indent=1, sort_keys=True) + "\n"


def runtime() -> str:
    """The bill of materials of the container image, which has every extra."""
    return document(locked(SHIPPED))


def _project() -> Component:
    about = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return Component(
        name=about["name"],
        version=__version__,
        description=about["description"],
        type=ComponentType.APPLICATION,
        bom_ref=about["name"],
    )


def _component(package: Locked) -> Component:
    licence = licence_of(package)
    address = PackageURL("pypi", name=package.name, version=package.version)
    return Component(
        name=package.name,
        version=package.version,
        purl=address,
        bom_ref=address.to_string(),
        licenses=[LicenseFactory().make_from_string(licence)] if licence else [],
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=one) for one in package.hashes],
    )


def main() -> None:
    """Write the document."""
    parser = argparse.ArgumentParser(prog="python -m tools.sbom", description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "build" / "sbom.json")
    parser.add_argument("--lock", type=Path, default=SHIPPED, help="lock file; default: what the image has")
    asked = parser.parse_args()
    packages = locked(asked.lock)
    asked.output.parent.mkdir(parents=True, exist_ok=True)
    asked.output.write_text(document(packages), encoding="utf-8")
    print(f"{asked.output}: {len(packages)} packages")


if __name__ == "__main__":
    main()
