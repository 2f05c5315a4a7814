# One place for the settings that every target of ours has.
add_library(tenfold_settings INTERFACE)
target_compile_options(tenfold_settings INTERFACE -Wall -Wextra -Werror)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  # False alarms of GCC 12 at -O3 on `"text" + std::string` (GCC bug 105651).
  target_compile_options(tenfold_settings INTERFACE -Wno-restrict)
endif()
if(TENFOLD_SANITIZE AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # False alarms inside <regex>: the sanitizers' own code hides from GCC what is initialised.
  target_compile_options(tenfold_settings INTERFACE -Wno-maybe-uninitialized)
endif()
target_include_directories(tenfold_settings INTERFACE ${PROJECT_SOURCE_DIR})

# tenfold_library(NAME SOURCES... PUBLIC libs... PRIVATE libs...)
function(tenfold_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;PUBLIC;PRIVATE" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  target_include_directories(${name} PUBLIC ${PROJECT_SOURCE_DIR})
  target_link_libraries(${name} PUBLIC ${ARG_PUBLIC} PRIVATE tenfold_settings ${ARG_PRIVATE})
endfunction()

# Before the command of each test that runs a program of ours.
set(TENFOLD_TEST_WRAPPER "")
if(TENFOLD_SANITIZE)
  set(TENFOLD_TEST_WRAPPER ${PROJECT_SOURCE_DIR}/tests/sanitize/without_findings.sh)
endif()

# tenfold_test(NAME SOURCES... LIBRARIES libs... [LABELS labels...] [TIMEOUT seconds])
# One GoogleTest program, registered as one ctest test: starting LibTorch for every case would take longer than the cases.
function(tenfold_test name)
  cmake_parse_arguments(ARG "" "TIMEOUT" "SOURCES;LIBRARIES;LABELS" ${ARGN})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 300)
  endif()
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE tenfold_settings ${ARG_LIBRARIES} GTest::gmock GTest::gtest_main)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/tests)
  add_test(NAME ${name} COMMAND ${TENFOLD_TEST_WRAPPER} $<TARGET_FILE:${name}>)
  set_tests_properties(${name} PROPERTIES TIMEOUT ${ARG_TIMEOUT} LABELS "${ARG_LABELS}"
    ENVIRONMENT "TENFOLD_SOURCE_DIR=${PROJECT_SOURCE_DIR};TENFOLD_BIN_DIR=${PROJECT_BINARY_DIR}/bin")
endfunction()
