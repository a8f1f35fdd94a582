# The libraries we stand on, each as one imported target whose headers count as system headers (no warnings from them):
#   llama::ggml, llama::llama, llama::common   built by tools/fetch_deps
#   hwy::hwy, Eigen3::Eigen, xxhash::xxhash, CLI11::CLI11, nlohmann_json::nlohmann_json, doctest::doctest, benchmark::benchmark   from packages

set(deps ${KVMERGER_DEPS_DIR})
if(NOT deps)
  # Asked at every configuration and not cached, so that a new pin or another machine is noticed.
  set(own "")
  if(KVMERGER_LLAMA_CPP_DIR)
    set(own ${CMAKE_COMMAND} -E env KVMERGER_LLAMA_CPP_DIR=${KVMERGER_LLAMA_CPP_DIR})
  endif()
  execute_process(COMMAND ${own} ${PROJECT_SOURCE_DIR}/tools/fetch_deps
                  OUTPUT_VARIABLE deps OUTPUT_STRIP_TRAILING_WHITESPACE RESULT_VARIABLE failed)
  if(failed)
    message(FATAL_ERROR "tools/fetch_deps could not provide llama.cpp; its message is above")
  endif()
endif()
message(STATUS "llama.cpp: ${deps}")
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tools/fetch_deps)

get_filename_component(source ${deps}/source REALPATH)
if(NOT EXISTS ${source}/include/llama.h)
  message(FATAL_ERROR "${deps} is not a folder of tools/fetch_deps: it holds no source/include/llama.h; check KVMERGER_DEPS_DIR")
endif()
file(GLOB llama_archives ${deps}/src/lib*.a ${deps}/common/lib*.a ${deps}/vendor/*/lib*.a
     ${deps}/ggml/src/lib*.a ${deps}/ggml/src/*/lib*.a)
foreach(name llama llama-common ggml ggml-base ggml-cpu)
  if(NOT llama_archives MATCHES "/lib${name}\\.a")
    message(FATAL_ERROR "${deps} holds no lib${name}.a; delete that folder and run tools/fetch_deps again")
  endif()
endforeach()

find_package(Threads REQUIRED)
find_package(OpenMP REQUIRED COMPONENTS CXX)  # ggml's thread pool
add_library(llama_archives INTERFACE)
# The archives call each other in circles, hence the group.
target_link_libraries(llama_archives INTERFACE -Wl,--start-group ${llama_archives} -Wl,--end-group
                      $<LINK_ONLY:OpenMP::OpenMP_CXX> Threads::Threads ${CMAKE_DL_LIBS})

function(add_llama_target name)
  add_library(llama_${name} INTERFACE)
  add_library(llama::${name} ALIAS llama_${name})
  target_include_directories(llama_${name} SYSTEM INTERFACE ${ARGN})
  target_link_libraries(llama_${name} INTERFACE llama_archives)
endfunction()
add_llama_target(ggml ${source}/ggml/include)
add_llama_target(llama ${source}/ggml/include ${source}/include)
add_llama_target(common ${source}/ggml/include ${source}/include ${source}/common ${source}/vendor)

# A library that a package brings without CMake files.
function(add_packaged_library target header library package)
  find_path(${library}_INCLUDE ${header})
  find_library(${library}_LIBRARY ${library})
  if(NOT ${library}_INCLUDE OR NOT ${library}_LIBRARY)
    message(FATAL_ERROR "${header} or lib${library} was not found; run tools/install_packages (Debian package ${package})")
  endif()
  add_library(${target} UNKNOWN IMPORTED)
  set_target_properties(${target} PROPERTIES IMPORTED_LOCATION ${${library}_LIBRARY}
                        INTERFACE_SYSTEM_INCLUDE_DIRECTORIES ${${library}_INCLUDE})
endfunction()
add_packaged_library(hwy::hwy hwy/highway.h hwy libhwy-dev)
add_packaged_library(xxhash::xxhash xxhash.h xxhash libxxhash-dev)

foreach(package CLI11 nlohmann_json doctest benchmark)
  find_package(${package} QUIET)
  if(NOT ${package}_FOUND)
    message(FATAL_ERROR "the library ${package} was not found; run tools/install_packages")
  endif()
endforeach()
find_package(Eigen3 QUIET NO_MODULE)
if(NOT Eigen3_FOUND)
  message(FATAL_ERROR "the library Eigen was not found; run tools/install_packages (Debian package libeigen3-dev)")
endif()
include(${doctest_DIR}/doctest.cmake)  # doctest_discover_tests
