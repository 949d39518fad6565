from setuptools import find_packages, setup

package_name = "realdiff_policy"

setup(
    name=package_name,
    version="0.1.0",
    packages=find_packages(exclude=["test"]),
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/" + package_name]),
        ("share/" + package_name, ["package.xml"]),
    ],
    package_data={package_name: ["py.typed", "bundles/*/*"]},
    install_requires=["setuptools"],
    extras_require={"test": ["pytest"]},
    zip_safe=False,
    maintainer="RealD2iff developers",
    maintainer_email="realdiff@example.org",
    description="RGB-D policies for the FR3: training, export, run time, safety gate, robot adapter.",
    license="Apache-2.0",
    entry_points={
        "console_scripts": [
            "go_home = realdiff_policy.commands.go_home:entry",
            "recover = realdiff_policy.commands.recover:entry",
            "trial = realdiff_policy.commands.trial:entry",
            "fci_driver = realdiff_policy.commands.fci_driver:entry",
            "diffusion_policy = realdiff_policy.commands.diffusion_policy:entry",
            "train = realdiff_policy.commands.train:entry",
            "export = realdiff_policy.commands.export:entry",
            "inspect = realdiff_policy.commands.inspect:entry",
            "bench = realdiff_policy.bench:cli",
        ]
    },
)
