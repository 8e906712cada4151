"""The one thing pyproject.toml cannot say: every package below a layer's folder, by rule instead of by list.

The repository's root is the package `millstream`, so `topics/kafka` is `millstream.topics.kafka`. Tests, examples and
benchmarks are in no layer: they stay out of the wheel.
"""

from setuptools import find_packages, setup

LAYERS = ("topics", "state", "workers", "rag", "ops")

if __name__ == "__main__":
    setup(
        script_name="setup.py",  # so that build_py knows which file at the root is not the package's
        packages=[
            "millstream",
            *(f"millstream.{name}" for name in find_packages(include=[*LAYERS, *(f"{layer}.*" for layer in LAYERS)])),
        ],
        # Everything beside the code belongs to it: pages, prompts, sample documents, pinned checksums.
        package_data={"millstream": ["py.typed"], **{f"millstream.{layer}": ["**/*"] for layer in LAYERS}},
        exclude_package_data={"": ["*.pyc", "**/__pycache__/*"]},
        include_package_data=False,  # or MANIFEST.in, which serves the sdist, would put the tests into the wheel
    )
