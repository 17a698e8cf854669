# Compiler flags shared by every target, and descant_library().

add_library(descant_compile INTERFACE)
target_include_directories(descant_compile INTERFACE ${PROJECT_SOURCE_DIR})
target_compile_options(descant_compile INTERFACE
  -Wall -Wextra -Wno-unused-parameter -Wno-missing-field-initializers
  -fno-omit-frame-pointer)
if(CMAKE_CXX_COMPILER_ID MATCHES "Clang")
  target_compile_options(descant_compile INTERFACE -Wthread-safety)
endif()
if(DESCANT_WERROR)
  target_compile_options(descant_compile INTERFACE -Werror)
endif()

if(DESCANT_SANITIZE STREQUAL "address")
  set(sanitize -fsanitize=address,undefined -fno-sanitize-recover=undefined)
elseif(DESCANT_SANITIZE STREQUAL "thread")
  set(sanitize -fsanitize=thread)
elseif(NOT DESCANT_SANITIZE STREQUAL "")
  message(FATAL_ERROR "DESCANT_SANITIZE must be empty, address or thread")
endif()
if(DESCANT_FUZZ)
  # Coverage in every library: it is what libFuzzer steers by.
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()
if(sanitize)
  add_compile_options(${sanitize})
  add_link_options(${sanitize})
endif()

find_program(MOLD_PROGRAM mold)
if(MOLD_PROGRAM)
  add_link_options(-fuse-ld=mold)
endif()

# descant_library(<target> SOURCES ... LIBS ...): a static library that sees
# the repository root as its include path.
function(descant_library target)
  cmake_parse_arguments(ARG "" "" "SOURCES;LIBS" ${ARGN})
  add_library(${target} STATIC ${ARG_SOURCES})
  target_link_libraries(${target} PUBLIC descant_compile ${ARG_LIBS})
endfunction()
