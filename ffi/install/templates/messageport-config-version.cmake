# Compatible versions have the same minor number before 1.0, and the same major number from 1.0 on.

set(PACKAGE_VERSION "@version@")
string(REGEX REPLACE "^(0\\.[0-9]+|[0-9]+).*$" "\\1" messageport_series "${PACKAGE_VERSION}")
string(REGEX REPLACE "^(0\\.[0-9]+|[0-9]+).*$" "\\1" messageport_wanted "${PACKAGE_FIND_VERSION}")

set(PACKAGE_VERSION_COMPATIBLE FALSE)
if(PACKAGE_FIND_VERSION STREQUAL "" OR PACKAGE_FIND_VERSION STREQUAL "0" OR
   (messageport_series STREQUAL messageport_wanted AND NOT PACKAGE_FIND_VERSION VERSION_GREATER PACKAGE_VERSION))
  set(PACKAGE_VERSION_COMPATIBLE TRUE)
endif()
if(PACKAGE_FIND_VERSION VERSION_EQUAL PACKAGE_VERSION)
  set(PACKAGE_VERSION_EXACT TRUE)
endif()
if(NOT CMAKE_SIZEOF_VOID_P STREQUAL "" AND NOT CMAKE_SIZEOF_VOID_P STREQUAL "8")
  set(PACKAGE_VERSION_UNSUITABLE TRUE)
endif()
