# baleen_module(NAME [COLD] [DEPENDS other...] [LIBRARIES target...] [SHARDS n] [COST seconds])
#
# One folder under src/ is one module: every *.cc becomes part of the object library
# baleen_NAME, every *_test.cc becomes part of the test program NAME_test. Subfolders belong to
# the module. New files need no edit here. A main.cc is left to the program that it makes. SHARDS and
# COST are of its test. COLD: it computes nothing, so BALEEN_COLD_OPTIONS will do for it, which are
# quicker to compile.
#
# Most presets compile several files of a module as one (CMAKE_UNITY_BUILD), which halves the
# compiler's work, so names in unnamed namespaces differ within a module; tsan compiles each alone,
# so that each names all that it includes.

add_library(baleen_flags INTERFACE)
target_include_directories(baleen_flags INTERFACE
  "${CMAKE_SOURCE_DIR}/include" "${CMAKE_SOURCE_DIR}/src")
# Contraction is chosen by the kernels with explicit fma; the compiler must not choose it for us,
# or the same source gives different sums in different files.
# Designated initialisers leave out what has a default; -Wrestrict of GCC 12 is wrong about strings.
target_compile_options(baleen_flags INTERFACE -Wall -Wextra -Wno-missing-field-initializers
  -ffp-contract=off $<$<CXX_COMPILER_ID:GNU>:-Wno-restrict>)
# What is unnamed in a file that is compiled with others is not in a header, as GCC then believes.
if(CMAKE_UNITY_BUILD AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  target_compile_options(baleen_flags INTERFACE -Wno-subobject-linkage)
endif()
if(BALEEN_WERROR)
  target_compile_options(baleen_flags INTERFACE -Werror)
endif()
target_link_libraries(baleen_flags INTERFACE fmt::fmt Threads::Threads)

set(BALEEN_COLD_OPTIONS "" CACHE STRING "Compiler options of modules that compute nothing")
set(BALEEN_TEST_OPTIONS "" CACHE STRING "Compiler options of tests")
set(BALEEN_SANITIZER "")  # of the modules
if(CMAKE_CXX_FLAGS_RELWITHDEBINFO MATCHES "-fsanitize=(address|thread)")
  set(BALEEN_SANITIZER ${CMAKE_MATCH_1})
endif()

function(baleen_module name)
  cmake_parse_arguments(ARG "COLD" "SHARDS;COST" "DEPENDS;LIBRARIES" ${ARGN})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/*.cc")
  set(tests ${sources})
  list(FILTER sources EXCLUDE REGEX "(_test|_fuzz|/main)\\.cc$")
  list(FILTER tests INCLUDE REGEX "_test\\.cc$")

  if(NOT sources)
    return()
  endif()
  add_library(baleen_${name} OBJECT ${sources})
  target_link_libraries(baleen_${name} PUBLIC baleen_flags ${ARG_LIBRARIES})
  if(ARG_COLD)
    target_compile_options(baleen_${name} PRIVATE ${BALEEN_COLD_OPTIONS})
  endif()
  set_property(GLOBAL APPEND PROPERTY BALEEN_MODULES ${name})

  # All modules that this one needs, itself included, for linking its tests.
  set(closure ${name})
  foreach(dependency IN LISTS ARG_DEPENDS)
    get_property(below GLOBAL PROPERTY BALEEN_CLOSURE_${dependency})
    list(APPEND closure ${below})
  endforeach()
  list(REMOVE_DUPLICATES closure)
  set_property(GLOBAL PROPERTY BALEEN_CLOSURE_${name} "${closure}")

  if(BALEEN_TESTS AND tests)
    baleen_test(${name}_test SHARDS ${ARG_SHARDS} COST ${ARG_COST} MODULES ${name} SOURCES ${tests})
  endif()
endfunction()

# baleen_program(NAME MODULES module... SOURCES file...): a program from sources and modules.
function(baleen_program name)
  cmake_parse_arguments(ARG "" "" "MODULES;SOURCES;LIBRARIES" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE baleen_flags ${ARG_LIBRARIES})
  set(all)
  foreach(module IN LISTS ARG_MODULES)
    get_property(closure GLOBAL PROPERTY BALEEN_CLOSURE_${module})
    list(APPEND all ${closure})
  endforeach()
  list(REMOVE_DUPLICATES all)
  foreach(module IN LISTS all)
    target_link_libraries(${name} PRIVATE baleen_${module})
    target_sources(${name} PRIVATE $<TARGET_OBJECTS:baleen_${module}>)
  endforeach()
endfunction()

# baleen_test(NAME [SHARDS n] [COST seconds] MODULES module... SOURCES file...): a GoogleTest program
# known to ctest, which runs a long one as several shards side by side. The longest begin first: COST
# is about what one shard takes with sanitizers.
function(baleen_test name)
  cmake_parse_arguments(ARG "" "SHARDS;COST" "MODULES;SOURCES;LIBRARIES" ${ARGN})
  baleen_program(${name} MODULES ${ARG_MODULES} SOURCES ${ARG_SOURCES}
                 LIBRARIES GTest::gtest_main ${ARG_LIBRARIES})
  # Most of what the compiler does for a test is to read headers that its neighbours read too, and to
  # optimise and instrument what runs once. A template that the modules have as well is theirs: their
  # objects come first.
  set_target_properties(${name} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 8)
  target_compile_options(${name} PRIVATE ${BALEEN_TEST_OPTIONS})
  target_compile_definitions(${name} PRIVATE BALEEN_SANITIZER="${BALEEN_SANITIZER}"
    BALEEN_SOURCE_DIR="${CMAKE_SOURCE_DIR}" BALEEN_BINARY_DIR="${CMAKE_BINARY_DIR}")
  if(NOT ARG_COST)
    set(ARG_COST 0)
  endif()
  if(NOT ARG_SHARDS)
    add_test(NAME ${name} COMMAND ${name})
    set_tests_properties(${name} PROPERTIES COST ${ARG_COST})
    return()
  endif()
  math(EXPR last "${ARG_SHARDS} - 1")
  foreach(shard RANGE ${last})
    add_test(NAME ${name}.${shard} COMMAND ${name})
    set_tests_properties(${name}.${shard} PROPERTIES COST ${ARG_COST}
      ENVIRONMENT "GTEST_TOTAL_SHARDS=${ARG_SHARDS};GTEST_SHARD_INDEX=${shard}")
  endforeach()
endfunction()
