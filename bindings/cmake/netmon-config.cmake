# find_package(netmon): the imported target netmon::netmon, found relative to this file (lib/cmake/netmon).
get_filename_component(_netmon_prefix "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)
if(NOT TARGET netmon::netmon)
  add_library(netmon::netmon SHARED IMPORTED)
  set_target_properties(netmon::netmon PROPERTIES
    IMPORTED_LOCATION "${_netmon_prefix}/lib/libnetmon.so"
    IMPORTED_SONAME "libnetmon.so"
    INTERFACE_INCLUDE_DIRECTORIES "${_netmon_prefix}/include")
endif()
unset(_netmon_prefix)
