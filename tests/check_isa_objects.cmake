# Files compiled for one instruction set must not define a symbol that the linker could take for
# another file's use (src/engine/kernels/kernels.h): no weak symbol, that is no inline function or
# template of the standard library or of the project.
#   cmake -DNM=nm -DOBJECTS=a.o,b.o -P check_isa_objects.cmake
string(REPLACE "," ";" objects "${OBJECTS}")
if(NOT objects)
  message(FATAL_ERROR "no objects given")
endif()
foreach(object ${objects})
  execute_process(COMMAND ${NM} --defined-only --demangle ${object}
                  OUTPUT_VARIABLE symbols COMMAND_ERROR_IS_FATAL ANY)
  string(REGEX MATCHALL "[^\n]* [VWuvw] [^\n]*" weak "${symbols}")
  if(weak)
    string(REPLACE ";" "\n" weak "${weak}")
    message(SEND_ERROR "${object} defines weak symbols:\n${weak}")
  endif()
endforeach()
