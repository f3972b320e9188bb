set(CMAKE_CXX_STANDARD 23)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR})

set(PD_SANITIZE "" CACHE STRING "value for -fsanitize=, empty for none")
option(PD_FUZZ "build the libFuzzer targets (clang only)" OFF)

# -g1: line tables are enough for a stack trace, and full debug information triples the link time.
# NDEBUG takes DCHECK and the libraries' assertions out of what users run; sanitizer builds keep them.
if(PD_SANITIZE OR PD_FUZZ)
  set(CMAKE_CXX_FLAGS_RELWITHDEBINFO "-O1 -g1")
else()
  set(CMAKE_CXX_FLAGS_RELWITHDEBINFO "-O2 -g1 -DNDEBUG")
endif()

find_program(CCACHE ccache)
if(CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE})
endif()

add_compile_options(-Wall -Wextra -Wshadow -Wnon-virtual-dtor -Woverloaded-virtual -Wundef
                    -Wimplicit-fallthrough -Werror
                    # Designated initializers name what differs from the defaults; that is their point.
                    -Wno-missing-field-initializers)
# Exactness (docs/architecture.md, "the same answer") needs one rounding per operation as written.
add_compile_options(-ffp-contract=off)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # g++ 12 reports false positives of these inside libstdc++ and fmt at -O2.
  add_compile_options(-Wno-maybe-uninitialized -Wno-uninitialized -Wno-restrict -Wno-stringop-overflow -Wno-array-bounds)
endif()
if(CMAKE_UNITY_BUILD)
  # These speak of one file; that eight are compiled as one is nothing to be warned of.
  add_compile_options(-Wno-shadow $<$<CXX_COMPILER_ID:GNU>:-Wno-subobject-linkage>)
endif()
if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  # libstdc++ 12's stable_sort uses a helper that libstdc++ itself deprecates.
  add_compile_options(-Wno-deprecated-declarations)
endif()

if(PD_SANITIZE)
  add_compile_options(-fsanitize=${PD_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${PD_SANITIZE})
  if(PD_SANITIZE MATCHES "thread" AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    add_compile_options(-Wno-tsan)
  endif()
endif()
if(PD_FUZZ)
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()
