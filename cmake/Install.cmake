# What `cmake --install` puts on a machine: the program, its man page and shell completions, and the
# library baleen::engine with its headers, found by find_package(baleen) or pkg-config.
include(CMakePackageConfigHelpers)

# The library is the modules up to runtime in one archive. What links it needs the standard library,
# fmt, simdjson and threads; nothing of the command line's or a server's.
get_property(engine_modules GLOBAL PROPERTY BALEEN_CLOSURE_runtime)
set(engine_objects)
foreach(module IN LISTS engine_modules)
  list(APPEND engine_objects $<TARGET_OBJECTS:baleen_${module}>)
endforeach()
add_library(baleen_engine STATIC ${engine_objects})
add_library(baleen::engine ALIAS baleen_engine)
set_target_properties(baleen_engine PROPERTIES
  OUTPUT_NAME baleen EXPORT_NAME engine LINKER_LANGUAGE CXX)
target_compile_features(baleen_engine PUBLIC cxx_std_20)
target_include_directories(baleen_engine INTERFACE
  $<BUILD_INTERFACE:${CMAKE_SOURCE_DIR}/include> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
target_link_libraries(baleen_engine PRIVATE fmt::fmt simdjson::simdjson Threads::Threads)

install(TARGETS baleen RUNTIME)
install(TARGETS baleen_engine EXPORT baleen ARCHIVE)
install(DIRECTORY include/baleen TYPE INCLUDE FILES_MATCHING PATTERN "*.h")

set(package_dir "${CMAKE_INSTALL_LIBDIR}/cmake/baleen")
install(EXPORT baleen NAMESPACE baleen:: DESTINATION "${package_dir}" FILE baleen-targets.cmake)
configure_package_config_file(cmake/baleen-config.cmake.in
  "${CMAKE_BINARY_DIR}/baleen-config.cmake" INSTALL_DESTINATION "${package_dir}")
write_basic_package_version_file("${CMAKE_BINARY_DIR}/baleen-config-version.cmake"
  COMPATIBILITY SameMinorVersion)
install(FILES "${CMAKE_BINARY_DIR}/baleen-config.cmake"
  "${CMAKE_BINARY_DIR}/baleen-config-version.cmake" DESTINATION "${package_dir}")

file(RELATIVE_PATH pc_to_prefix "/${CMAKE_INSTALL_LIBDIR}/pkgconfig" "/")
configure_file(cmake/baleen.pc.in "${CMAKE_BINARY_DIR}/baleen.pc" @ONLY)
install(FILES "${CMAKE_BINARY_DIR}/baleen.pc" DESTINATION "${CMAKE_INSTALL_LIBDIR}/pkgconfig")

install(FILES docs/man/baleen.1 DESTINATION "${CMAKE_INSTALL_MANDIR}/man1")
install(FILES tools/completions/baleen.bash RENAME baleen
  DESTINATION "${CMAKE_INSTALL_DATADIR}/bash-completion/completions")
install(FILES tools/completions/_baleen
  DESTINATION "${CMAKE_INSTALL_DATADIR}/zsh/vendor-completions")
install(FILES tools/completions/baleen.fish
  DESTINATION "${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d")
install(FILES README.md CHANGELOG.md DESTINATION "${CMAKE_INSTALL_DOCDIR}")
install(FILES LICENSE RENAME copyright DESTINATION "${CMAKE_INSTALL_DOCDIR}")  # Debian's name
