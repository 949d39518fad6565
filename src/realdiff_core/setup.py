from setuptools import find_packages, setup

package_name = "realdiff_core"

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
    description="What all RealD2iff packages share, without rclpy and torch: depth, camera, bags, provenance, errors.",
    license="Apache-2.0",
    entry_points={
        "console_scripts": [
            "import_frames = realdiff_core.import_frames:cli",
            "bag_info = realdiff_core.bag_info:cli",
            "bench = realdiff_core.bench:cli",
            "validate = realdiff_core.validate:cli",
        ]
    },
)
