# Sanitized, a target that is hardly ever the one waited for takes longer to optimize than it gains by it.
function(pd_not_worth_optimizing target)
  if(PD_SANITIZE)
    target_compile_options(${target} PRIVATE -O0)
  endif()
endfunction()

# pd_module(NAME LAYER n
#           DEPS   lower pdserve modules
#           LIBS   external libraries, linked privately: their headers stay in .cc files
#           PUBLIC_LIBS external libraries that appear in this module's headers
#           SRCS   sources
#           TESTS  *_test.cc, linked into one GoogleTest binary NAME_test
#           HEAVY_TESTS   these compute for long by themselves: optimized in sanitized builds, too
#           BENCHES *_bench.cc, each a Google Benchmark binary (not built by default: target `benches`)
#           FUZZERS *_fuzz.cc, each a libFuzzer binary (preset fuzz only))
#
# Makes the library pd_NAME. A dependency of the same or a higher layer is refused here, and
# tools/tidy refuses an #include of a module that is not among the dependencies.
function(pd_module name)
  cmake_parse_arguments(ARG "HEAVY_TESTS" "LAYER" "DEPS;LIBS;PUBLIC_LIBS;SRCS;TESTS;BENCHES;FUZZERS" ${ARGN})
  if(ARG_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "pd_module(${name}): unknown arguments ${ARG_UNPARSED_ARGUMENTS}")
  endif()
  set_property(GLOBAL PROPERTY PD_LAYER_${name} ${ARG_LAYER})

  add_library(pd_${name} STATIC ${ARG_SRCS})
  target_include_directories(pd_${name} PUBLIC ${CMAKE_SOURCE_DIR}/src)
  foreach(dep ${ARG_DEPS})
    get_property(dep_layer GLOBAL PROPERTY PD_LAYER_${dep})
    if(dep_layer STREQUAL "" OR NOT dep_layer LESS ARG_LAYER)
      message(FATAL_ERROR "module ${name} (layer ${ARG_LAYER}) must not depend on ${dep} (layer '${dep_layer}')")
    endif()
    target_link_libraries(pd_${name} PUBLIC pd_${dep})
  endforeach()
  target_link_libraries(pd_${name} PUBLIC ${ARG_PUBLIC_LIBS} PRIVATE ${ARG_LIBS})

  if(ARG_TESTS)
    add_executable(${name}_test ${ARG_TESTS})
    target_link_libraries(${name}_test PRIVATE pd_${name} ${ARG_LIBS} GTest::gtest GTest::gmock GTest::gtest_main)
    target_compile_definitions(${name}_test PRIVATE PD_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
    # Tests beside each other use the same names.
    set_target_properties(${name}_test PROPERTIES UNITY_BUILD OFF)
    if(NOT ARG_HEAVY_TESTS)
      pd_not_worth_optimizing(${name}_test)
    endif()
    add_test(NAME ${name}_test COMMAND ${name}_test)
    if(PD_SANITIZE MATCHES "thread")
      # UCX hooks madvise when it is loaded; a thread that ends calls it after TSan's part of it has.
      set_tests_properties(${name}_test PROPERTIES ENVIRONMENT UCX_MEM_EVENTS=n)
    endif()
  endif()
  foreach(source ${ARG_BENCHES})
    get_filename_component(target ${source} NAME_WE)
    add_executable(${target} EXCLUDE_FROM_ALL ${source})
    target_link_libraries(${target} PRIVATE pd_${name} ${ARG_LIBS} benchmark::benchmark)
    if(NOT TARGET benches)
      add_custom_target(benches)
    endif()
    add_dependencies(benches ${target})
  endforeach()
  if(PD_FUZZ)
    foreach(source ${ARG_FUZZERS})
      get_filename_component(target ${source} NAME_WE)
      add_executable(${target} ${source})
      target_link_libraries(${target} PRIVATE pd_${name} ${ARG_LIBS})
      target_link_options(${target} PRIVATE -fsanitize=fuzzer)
    endforeach()
  endif()
endfunction()
