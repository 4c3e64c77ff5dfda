"""Compiles the hot modules with mypyc while the distribution is built; everything else stands in
pyproject.toml.

This file exists because extension modules that are made by another program cannot be declared in
pyproject.toml. AMQP_BROKER_COMPILE says what to do: `auto` (the default) compiles where a C compiler and
Python's headers are found and otherwise, or if compiling fails, leaves the modules as they are: they work
either way. `yes` fails instead of falling back, `no` does not try.
"""

from __future__ import annotations

import os
import sys
import sysconfig
import tempfile
import traceback
from distutils.ccompiler import CCompiler, new_compiler
from distutils.errors import CompileError
from distutils.sysconfig import customize_compiler
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

HOT_MODULES = (
    "errors.py",
    "content/*.py",
    "wire/*.py",
    "broker/*.py",
    "broker/exchanges/*.py",
    "session/*.py",
    "store/records.py",
    "store/reader.py",
    "store/batch.py",
    "store/changes.py",
    "store/journal.py",
    "store/memory.py",
)

# These ask what there is to build without building it; generating C for them would triple the time.
METADATA_COMMANDS = frozenset({"egg_info", "dist_info", "sdist"})


def hot_modules() -> list[str]:
    """The source files to compile, relative to this file. Packages themselves stay importable from source."""
    package = Path("amqp_broker")
    found = {path for pattern in HOT_MODULES for path in package.glob(pattern)}
    return sorted(str(path) for path in found if path.name != "__init__.py")


def has_c_compiler() -> bool:
    """Whether an extension module could be compiled: a compiler that runs, and Python's headers."""
    compiler: CCompiler = new_compiler()
    customize_compiler(compiler)
    with tempfile.TemporaryDirectory() as directory:
        source = Path(directory, "probe.c")
        source.write_text("#include <Python.h>\nint probe(void) { return PY_MAJOR_VERSION; }\n")
        try:
            compiler.compile(
                [str(source)], output_dir=directory, include_dirs=[sysconfig.get_path("include")]
            )
        except (CompileError, OSError):
            return False
    return True


def extensions(mode: str) -> list[Extension]:
    """The extensions to build, none where they are not wanted or cannot be had."""
    if mode == "no" or METADATA_COMMANDS.intersection(sys.argv):
        return []
    if mode == "auto" and "editable_wheel" in sys.argv:
        # Extensions beside the source would go on running when the source has long been changed.
        return []
    if mode == "auto" and not has_c_compiler():
        warn("no C compiler or no Python headers found")
        return []
    try:
        from mypyc.build import mypycify

        # Without a configuration file: what the project's own checks are strict about must not stop a build.
        # pamqp and msgspec are typed where they are installed; where they are not, they may be anything.
        options = ["--config-file=", "--ignore-missing-imports", "--no-warn-no-return"]
        found = mypycify([*options, *hot_modules()], opt_level="3", debug_level="0")
    except (Exception, SystemExit):
        # mypycify leaves the process where it finds a type error.
        if mode == "yes":
            raise
        traceback.print_exc()
        warn("mypyc failed")
        return []
    for extension in found:
        # mypyc makes warnings errors, but a new compiler's new warning is no reason to run slowly.
        extension.extra_compile_args.append("-Wno-error")
    return list(found)


class BuildAllOrNothing(build_ext):
    """Builds every extension, or leaves none behind: half of them would not find the other half."""

    def run(self) -> None:
        try:
            super().run()
        except Exception:
            if MODE == "yes":
                raise
            traceback.print_exc()
            warn("the C compiler failed")
            for extension in self.extensions:
                Path(self.get_ext_fullpath(extension.name)).unlink(missing_ok=True)
            self.extensions = []
            self.distribution.ext_modules = []


def warn(reason: str) -> None:
    print(f"warning: {reason}: installing amqp_broker as pure Python, which is slower", file=sys.stderr)


MODE = os.environ.get("AMQP_BROKER_COMPILE", "auto")
if MODE not in ("auto", "yes", "no"):
    sys.exit(f"AMQP_BROKER_COMPILE={MODE}: expected auto, yes or no")

setup(ext_modules=extensions(MODE), cmdclass={"build_ext": BuildAllOrNothing})
