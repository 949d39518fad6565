# Included after project() of each package that the embedded ROS 2 builds (CMAKE_PROJECT_INCLUDE).
#
# All nodes of this workspace are Python and only C type support is loaded by rclpy, while two thirds of the time that an
# interface package takes go into C++ headers and type support. So the C++ generators are not registered here. On an
# installed ROS 2 this file is not used and the packages are built with every generator, as usual.
find_package(ament_cmake_core QUIET REQUIRED)

macro(ament_register_extension extension_point package_name cmake_filename)
  if(NOT ("${extension_point}" STREQUAL "rosidl_generate_idl_interfaces" AND "${package_name}" MATCHES "_cpp$"))
    list(APPEND AMENT_EXTENSIONS_${extension_point} "${package_name}:${cmake_filename}")
  endif()
endmacro()
