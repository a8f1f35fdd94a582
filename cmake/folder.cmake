# What a folder under src/ becomes. Its CMakeLists.txt is one call:
#   kvmerger_folder(kernels LINKS kvmerger_core THIRD_PARTY hwy::hwy)
# library kvmerger_kernels from *.cc, executable kernels_test from *_test.cc, kernels_<name>_bench from each <name>_bench.cc.
# LINKS are the arrows of the architecture and visible to users of the folder; THIRD_PARTY stays inside it.
# tools/check_includes.py holds the same table for the headers.

set(KVMERGER_WARNINGS -Wall -Wextra -Wconversion -Werror)
if(CMAKE_CXX_COMPILER_ID STREQUAL GNU AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  # These two cry wolf on std::string of GCC 12 (its bug 105651).
  list(APPEND KVMERGER_WARNINGS -Wno-restrict -Wno-maybe-uninitialized)
endif()

# kvmerger_test(NAME SOURCES... [LIBRARIES ...] [LABEL label]): a doctest executable, each test case an entry of ctest.
function(kvmerger_test name)
  cmake_parse_arguments(arg "" "LABEL" "SOURCES;LIBRARIES" ${ARGN})
  add_executable(${name} ${arg_SOURCES})
  target_compile_options(${name} PRIVATE ${KVMERGER_WARNINGS})
  target_link_libraries(${name} PRIVATE doctest_main ${arg_LIBRARIES})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  # Several tests run at once: threads that wait for others should sleep, not spin.
  set(properties TIMEOUT 300 ENVIRONMENT OMP_WAIT_POLICY=passive)
  if(arg_LABEL)
    list(APPEND properties LABELS ${arg_LABEL} PROCESSORS 2)  # the model has threads of its own
  endif()
  doctest_discover_tests(${name} TEST_PREFIX ${name}: WORKING_DIRECTORY ${PROJECT_SOURCE_DIR}
                         PROPERTIES ${properties})
endfunction()

function(kvmerger_folder folder)
  cmake_parse_arguments(arg "" "" "LINKS;THIRD_PARTY" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS *.cc)
  file(GLOB tests CONFIGURE_DEPENDS *_test.cc)
  file(GLOB benches CONFIGURE_DEPENDS *_bench.cc)
  list(FILTER sources EXCLUDE REGEX "(_test|_bench|/main)\\.cc$")
  set(library kvmerger_${folder})

  if(sources)
    add_library(${library} STATIC ${sources})
    target_compile_options(${library} PRIVATE ${KVMERGER_WARNINGS})
    target_include_directories(${library} PUBLIC ${PROJECT_SOURCE_DIR}/src)
    target_link_libraries(${library} PUBLIC ${arg_LINKS} PRIVATE ${arg_THIRD_PARTY})
  else()  # headers only
    add_library(${library} INTERFACE)
    target_include_directories(${library} INTERFACE ${PROJECT_SOURCE_DIR}/src)
    target_link_libraries(${library} INTERFACE ${arg_LINKS})
  endif()

  if(tests)
    kvmerger_test(${folder}_test SOURCES ${tests} LIBRARIES ${library} ${arg_THIRD_PARTY})
  endif()
  foreach(bench ${benches})
    get_filename_component(name ${bench} NAME_WE)
    add_executable(${folder}_${name} EXCLUDE_FROM_ALL ${bench})
    target_compile_options(${folder}_${name} PRIVATE ${KVMERGER_WARNINGS})
    target_link_libraries(${folder}_${name} PRIVATE ${library} ${arg_THIRD_PARTY} benchmark::benchmark_main)
    set_target_properties(${folder}_${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/benches)
    add_dependencies(benches ${folder}_${name})
  endforeach()
endfunction()
