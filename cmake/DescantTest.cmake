# descant_test(NAME <target> SOURCES ... LIBS ... [LABELS ...] [TIMEOUT s]
#              [ENV K=V ...] [ONE_THREAD])
# One GoogleTest binary, one CTest entry. Tests find the checkout through
# DESCANT_SOURCE_DIR and the downloaded artefacts through DESCANT_DEPS_DIR.
# ONE_THREAD: neither the test nor what it tests starts a thread, so
# ThreadSanitizer, for which it is not built, has nothing to find.
function(descant_test)
  cmake_parse_arguments(ARG "ONE_THREAD" "NAME;TIMEOUT" "SOURCES;LIBS;LABELS;ENV" ${ARGN})
  if(ARG_ONE_THREAD AND DESCANT_SANITIZE STREQUAL "thread")
    return()
  endif()
  if(NOT ARG_LABELS)
    set(ARG_LABELS unit)
  endif()
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 120)
  endif()
  # Sanitizers make some tests ten times as slow.
  if(NOT DESCANT_SANITIZE STREQUAL "")
    math(EXPR ARG_TIMEOUT "${ARG_TIMEOUT} * 4")
  endif()
  add_executable(${ARG_NAME} ${ARG_SOURCES})
  target_link_libraries(${ARG_NAME} PRIVATE
    descant_compile ${ARG_LIBS} GTest::gmock GTest::gtest_main)
  set_target_properties(${ARG_NAME} PROPERTIES
    RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  add_test(NAME ${ARG_NAME} COMMAND ${ARG_NAME})
  set_tests_properties(${ARG_NAME} PROPERTIES
    LABELS "${ARG_LABELS}" TIMEOUT ${ARG_TIMEOUT}
    ENVIRONMENT "DESCANT_SOURCE_DIR=${PROJECT_SOURCE_DIR};DESCANT_DEPS_DIR=${DESCANT_DEPS_DIR};DESCANT_BIN_DIR=${CMAKE_BINARY_DIR}/bin;${ARG_ENV}")
endfunction()
