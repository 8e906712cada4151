"""What pyproject.toml cannot say: every package below a layer's folder, by rule instead of by list, and the native library.

The repository's root is the package `millstream`, so `topics/kafka` is `millstream.topics.kafka`. Tests, examples and
benchmarks are in no layer: they stay out of the wheel, but for the example that the demo runs.

The native library (native) is plain C without Python's headers, so any compiler will do: $CC, the machine's `cc`, or
the one in the package `ziglang` where that is installed. Where there is none the package works without it, more slowly.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

LAYERS = ("native", "topics", "state", "workers", "rag", "ops")
NATIVE = Path("native")
WITHOUT = "Millstream is built without its native library, and does the same more slowly"
FLAGS = ("-std=c11", "-O2", "-fPIC", "-shared", "-fvisibility=hidden", "-Wall", "-Wextra", "-Werror")


def compiler() -> list[str] | None:
    """The command that compiles C, if there is one. Baseline instructions only: a wheel runs on other machines too."""
    if os.environ.get("CC"):
        return os.environ["CC"].split()
    if shutil.which("cc"):
        return ["cc"]
    zig = [sys.executable, "-m", "ziglang"]
    found = subprocess.run([*zig, "version"], capture_output=True, check=False).returncode == 0
    return [*zig, "cc", "-mcpu=baseline"] if found else None


class BuildNative(build_ext):
    """Compiles native/*.c into one library that `ctypes` loads."""

    def get_ext_filename(self, fullname: str) -> str:
        return str(Path(*fullname.split("."))) + ".so"

    def get_export_symbols(self, ext: Extension) -> list[str]:
        return []  # no PyInit: it is no Python module

    def build_extension(self, ext: Extension) -> None:
        command = compiler()
        if command is None:
            print(f"no C compiler found (install one, or: pip install ziglang): {WITHOUT}", file=sys.stderr)
            return
        target = Path(self.get_ext_fullpath(ext.name))
        target.parent.mkdir(parents=True, exist_ok=True)
        made = target.with_suffix(f".{os.getpid()}")  # a library that is being used is replaced, never written into
        if subprocess.run([*command, *FLAGS, "-o", str(made), *ext.sources], check=False).returncode:
            print(f"{' '.join(command)} failed: {WITHOUT}", file=sys.stderr)
            return
        made.replace(target)

    def copy_extensions_to_source(self) -> None:
        """An editable install has the library in the checkout."""
        for ext in self.extensions:
            built = Path(self.build_lib, self.get_ext_filename(ext.name))
            if built.exists():
                shutil.copy(built, (copied := NATIVE / f"{built.name}.{os.getpid()}"))
                copied.replace(NATIVE / built.name)


class AnyPython(bdist_wheel):
    """A wheel for each platform, whatever the Python."""

    def get_tag(self) -> tuple[str, str, str]:
        return ("py3", "none", super().get_tag()[2])


if __name__ == "__main__":
    setup(
        script_name="setup.py",  # so that build_py knows which file at the root is not the package's
        packages=[
            "millstream",
            *(f"millstream.{name}" for name in find_packages(include=[*LAYERS, *(f"{layer}.*" for layer in LAYERS)])),
        ],
        # Everything beside the code belongs to it: pages, prompts, pinned checksums, and what `millstream demo` shows.
        package_data={
            "millstream": ["py.typed", "examples/shop/**/*"],
            **{f"millstream.{layer}": ["**/*"] for layer in LAYERS},
        },
        exclude_package_data={"": ["*.pyc", "*.so", "**/__pycache__/*"]},
        include_package_data=False,  # or MANIFEST.in, which serves the sdist, would put the tests into the wheel
        ext_modules=[
            Extension(
                "millstream.native.libmillstream",
                sorted(map(str, NATIVE.glob("*.c"))),
                depends=[str(NATIVE / "columns.h")],
            )
        ],
        cmdclass={"build_ext": BuildNative, "bdist_wheel": AnyPython},
    )
