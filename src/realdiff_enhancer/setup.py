from setuptools import find_packages, setup

package_name = "realdiff_enhancer"

setup(
    name=package_name,
    version="0.1.0",
    packages=find_packages(exclude=["test"]),
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/" + package_name]),
        ("share/" + package_name, ["package.xml"]),
    ],
    package_data={package_name: ["py.typed", "weights/*/*"]},
    install_requires=["setuptools"],
    extras_require={"test": ["pytest"]},
    zip_safe=False,
    maintainer="RealD2iff developers",
    maintainer_email="realdiff@example.org",
    description="Learns how a real depth camera corrupts depth (two-stage diffusion, coarse to fine) and enhances clean depth: models, trainer, metrics, bag enhancer, node.",
    license="Apache-2.0",
    entry_points={
        "console_scripts": [
            "depth_enhancer = realdiff_enhancer.node:main",
            "bench = realdiff_enhancer.bench:cli",
            "enhance = realdiff_enhancer.commands.enhance:cli",
            "evaluate = realdiff_enhancer.commands.evaluate:main",
            "pack_pairs = realdiff_enhancer.commands.pack_pairs:main",
            "make_pairs = realdiff_enhancer.commands.make_pairs:main",
            "statistics = realdiff_enhancer.commands.statistics:main",
            "report = realdiff_enhancer.commands.report:main",
            "fit_camera = realdiff_enhancer.commands.fit_camera:main",
            "fit_disparity = realdiff_enhancer.commands.fit_disparity:main",
            "train = realdiff_enhancer.commands.train:main",
        ]
    },
)
