# The Python package: the extension module, and beside it the libraries and the program `weft`, from this build or from
# WEFT_ENGINE.
if(WEFT_ENGINE)
  set(engine_library ${WEFT_ENGINE}/src/install/libweft.so.${PROJECT_VERSION})
  set(engine_preload ${WEFT_ENGINE}/preload/libweft-preload.so)
  set(engine_leaks_agent ${WEFT_ENGINE}/preload/libweft-leaks.so)
  set(engine_program ${WEFT_ENGINE}/cli/weft)
  set(engine_keeper ${WEFT_ENGINE}/keeper/weft-keeper)
  foreach(file ${engine_library} ${engine_preload} ${engine_leaks_agent} ${engine_program} ${engine_keeper})
    if(NOT EXISTS ${file})
      message(FATAL_ERROR "${file} is missing: build ${WEFT_ENGINE} first, or leave WEFT_ENGINE out")
    endif()
  endforeach()
  set(WEFT_LIBRARY ${engine_library})
else()
  set(WEFT_LIBRARY weft_shared)
  set(engine_library $<TARGET_FILE:weft_shared>)
  set(engine_preload $<TARGET_FILE:weft_preload>)
  set(engine_leaks_agent $<TARGET_FILE:weft_leaks_agent>)
  set(engine_program $<TARGET_FILE:weft_cli>)
  set(engine_keeper $<TARGET_FILE:weft_keeper>)
endif()

install(FILES ${engine_library} DESTINATION weft/lib RENAME libweft.so.${WEFT_SOVERSION} COMPONENT python)
# For extension modules that are linked to the same library.
install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/weft DESTINATION weft/include COMPONENT python)
install(FILES ${engine_preload} ${engine_leaks_agent} DESTINATION weft/lib COMPONENT python)
install(PROGRAMS ${engine_keeper} DESTINATION weft/lib COMPONENT python)
install(PROGRAMS ${engine_program} DESTINATION ${SKBUILD_SCRIPTS_DIR} COMPONENT python)
if(CMAKE_STRIP)
  # Debugging information would make the package ten times as large; the build tree has it.
  install(CODE "execute_process(COMMAND ${CMAKE_STRIP} --strip-debug
      \${CMAKE_INSTALL_PREFIX}/weft/lib/libweft.so.${WEFT_SOVERSION}
      \${CMAKE_INSTALL_PREFIX}/weft/lib/libweft-preload.so
      \${CMAKE_INSTALL_PREFIX}/weft/lib/libweft-leaks.so
      \${CMAKE_INSTALL_PREFIX}/weft/lib/weft-keeper ${SKBUILD_SCRIPTS_DIR}/weft COMMAND_ERROR_IS_FATAL ANY)"
      COMPONENT python)
endif()
# After the libraries: making its stub loads them.
add_subdirectory(bindings)
