from setuptools import find_packages, setup

package_name = "realdiff_experiments"

setup(
    name=package_name,
    version="0.1.0",
    packages=find_packages(exclude=["test"]),
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/" + package_name]),
        ("share/" + package_name, ["package.xml"]),
    ],
    package_data={package_name: ["py.typed"]},
    install_requires=["setuptools"],
    extras_require={"test": ["pytest"]},
    zip_safe=False,
    maintainer="RealD2iff developers",
    maintainer_email="realdiff@example.org",
    description="What needs several rooms at once: the demonstration, closed-loop rollouts, benchmarks.",
    license="Apache-2.0",
    entry_points={
        "console_scripts": [
            "bench = realdiff_experiments.commands.bench:cli",
            "demo = realdiff_experiments.commands.demo:cli",
            "rollout = realdiff_experiments.commands.rollout:cli",
        ]
    },
)
