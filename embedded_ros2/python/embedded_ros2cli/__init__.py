"""The ros2 command of the embedded ROS 2: the verbs that users type, with the output that they know."""
