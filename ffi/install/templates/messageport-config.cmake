# messageport for CMake: messageport::messageport is the shared library, messageport::static the static one. Where no
# shared library is installed, both are the static one.

get_filename_component(messageport_prefix "${CMAKE_CURRENT_LIST_DIR}/@up@" ABSOLUTE)

if(NOT TARGET messageport::static)
  add_library(messageport::static STATIC IMPORTED)
  set_target_properties(messageport::static PROPERTIES
    IMPORTED_LOCATION "${messageport_prefix}/@libdir@/libmessageport.a"
    IMPORTED_LINK_INTERFACE_LANGUAGES C
    INTERFACE_INCLUDE_DIRECTORIES "${messageport_prefix}/@includedir@"
    INTERFACE_LINK_LIBRARIES "pthread;m;dl")
endif()

if(NOT TARGET messageport::messageport)
  if(@has_shared@)
    add_library(messageport::messageport SHARED IMPORTED)
    set_target_properties(messageport::messageport PROPERTIES
      IMPORTED_LOCATION "${messageport_prefix}/@libdir@/@real@"
      IMPORTED_SONAME "@soname@"
      INTERFACE_INCLUDE_DIRECTORIES "${messageport_prefix}/@includedir@")
  else()
    add_library(messageport::messageport INTERFACE IMPORTED)
    set_target_properties(messageport::messageport PROPERTIES INTERFACE_LINK_LIBRARIES messageport::static)
  endif()
endif()

unset(messageport_prefix)
