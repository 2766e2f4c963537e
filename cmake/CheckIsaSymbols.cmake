# cmake -DNM=nm "-DOBJECTS=a.o;b.o" -DPATTERN=regex -P CheckIsaSymbols.cmake
#
# Fails if an object whose path matches PATTERN defines a weak symbol. Files compiled for a wide
# instruction set must not: of equal weak symbols the linker keeps one for everybody, and that one
# may be the copy that lesser machines cannot run.
list(FILTER OBJECTS INCLUDE REGEX "${PATTERN}")
if(NOT OBJECTS)
  message(FATAL_ERROR "no object matches ${PATTERN}")
endif()
foreach(object IN LISTS OBJECTS)
  execute_process(COMMAND "${NM}" --defined-only -C "${object}"
                  OUTPUT_VARIABLE symbols COMMAND_ERROR_IS_FATAL ANY)
  string(REGEX MATCHALL "[^\n]* [WVu] [^\n]*" weak "${symbols}")
  # What sanitizers add to every object stays out of the question.
  list(FILTER weak EXCLUDE REGEX " [WVu] (__asan|__ubsan|__tsan|__odr_asan|DW\\.ref)")
  if(weak)
    list(JOIN weak "\n" weak)
    message(FATAL_ERROR "${object} defines weak symbols:\n${weak}")
  endif()
endforeach()
