# The libraries Weft builds on; docs/design/dependencies.md says why each one. Static, so that libweft-preload.so
# brings nothing into the process it is loaded into.
find_package(Threads REQUIRED)

function(weft_static_library name archive header)
  find_library(${name}_ARCHIVE ${archive} REQUIRED)
  find_path(${name}_INCLUDE ${header} REQUIRED)
  add_library(${name} STATIC IMPORTED)
  set_target_properties(${name} PROPERTIES IMPORTED_LOCATION ${${name}_ARCHIVE}
                                           INTERFACE_INCLUDE_DIRECTORIES ${${name}_INCLUDE})
endfunction()

weft_static_library(boost_context libboost_context.a boost/context/detail/fcontext.hpp)
weft_static_library(uring liburing.a liburing.h)
weft_static_library(pcre2 libpcre2-8.a pcre2.h)
find_package(nlohmann_json 3.11 REQUIRED)
find_package(CLI11 2.1 REQUIRED)
# Its headers only: Debian's library, and the CMake target that names it, are not linked.
find_path(tomlplusplus_INCLUDE toml++/toml.h REQUIRED)
if(WEFT_TESTS)
  find_package(GTest 1.12 REQUIRED)
  find_package(OpenSSL 3.0 REQUIRED) # for servers that the tests ask; Weft itself is not linked to it
endif()
if(WEFT_BENCH)
  find_package(benchmark 1.7 REQUIRED)
  find_package(Boost 1.74 REQUIRED COMPONENTS fiber)
  # Debian's package has no CMake or pkg-config file.
  find_library(caf_core_LIBRARY caf_core REQUIRED)
  find_path(caf_core_INCLUDE caf/all.hpp REQUIRED)
  add_library(caf_core SHARED IMPORTED)
  set_target_properties(caf_core PROPERTIES IMPORTED_LOCATION ${caf_core_LIBRARY}
                                            INTERFACE_INCLUDE_DIRECTORIES ${caf_core_INCLUDE})
endif()
