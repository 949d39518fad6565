from setuptools import find_packages, setup

package_name = "realdiff_sim_bridge"

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
    description="Simulated Franka FR3 and RealSense D435 behind the names of the real drivers: scenes, tasks, experts, episode recording, bridge node.",
    license="Apache-2.0",
    entry_points={
        "console_scripts": [
            "calibrate = realdiff_sim_bridge.commands.calibrate:entry",
            "calibration_overlay = realdiff_sim_bridge.commands.calibration_overlay:entry",
            "mimicgen = realdiff_sim_bridge.commands.mimicgen:entry",
            "record = realdiff_sim_bridge.commands.record:entry",
            "recorder = realdiff_sim_bridge.commands.recorder:entry",
            "simulate_pairs = realdiff_sim_bridge.commands.simulate_pairs:entry",
            "sim_bridge = realdiff_sim_bridge.commands.sim_bridge:entry",
            "validate_stereo = realdiff_sim_bridge.commands.validate_stereo:entry",
        ]
    },
)
