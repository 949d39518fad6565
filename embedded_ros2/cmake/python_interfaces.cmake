# Included after project() of each package that the embedded ROS 2 builds (CMAKE_PROJECT_INCLUDE), to build interface
# packages in a third of the time. On an installed ROS 2 this file is not used: there they are built as usual.
find_package(ament_cmake_core QUIET REQUIRED)

# All nodes of this workspace are Python, and rclpy loads C type support only. So the C++ generators are not registered.
macro(ament_register_extension extension_point package_name cmake_filename)
  if(NOT ("${extension_point}" STREQUAL "rosidl_generate_idl_interfaces" AND "${package_name}" MATCHES "_cpp$"))
    list(APPEND AMENT_EXTENSIONS_${extension_point} "${package_name}:${cmake_filename}")
  endif()
endmacro()

# Most of what is left is reading the same headers for every interface: one compilation for all of them.
function(_realdiff_compile_together)
  foreach(kind typesupport_c typesupport_fastrtps_c typesupport_introspection_c)
    if(TARGET ${PROJECT_NAME}__rosidl_${kind})
      set_target_properties(${PROJECT_NAME}__rosidl_${kind} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 0)
    endif()
  endforeach()
endfunction()
if(CMAKE_VERSION VERSION_GREATER_EQUAL 3.19)
  cmake_language(DEFER CALL _realdiff_compile_together)
endif()
