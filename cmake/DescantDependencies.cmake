# Third-party libraries. Debian 12 packages, except LibTorch, which comes from
# deploy/setup.sh (.deps/) or from any LibTorch on CMAKE_PREFIX_PATH.

set(DESCANT_DEPS_DIR ${PROJECT_SOURCE_DIR}/.deps CACHE PATH
  "Folder that deploy/setup.sh fills")

find_package(Threads REQUIRED)
find_package(absl REQUIRED)
find_package(spdlog REQUIRED)
find_package(OpenSSL REQUIRED)
find_package(PkgConfig REQUIRED)
find_package(nlohmann_json REQUIRED)
pkg_check_modules(re2 REQUIRED IMPORTED_TARGET re2)
pkg_check_modules(pcre2 REQUIRED IMPORTED_TARGET libpcre2-8)
pkg_check_modules(utf8proc REQUIRED IMPORTED_TARGET libutf8proc)
find_path(EIGEN3_INCLUDE_DIR Eigen/Core PATH_SUFFIXES eigen3 REQUIRED)

if(DESCANT_TESTS)
  find_package(GTest REQUIRED)
  find_package(benchmark REQUIRED)
endif()

if(DESCANT_CORE_ONLY)
  return()
endif()

find_package(yaml-cpp REQUIRED)
pkg_check_modules(libjwt REQUIRED IMPORTED_TARGET libjwt)
find_package(CLI11 REQUIRED)
find_package(prometheus-cpp REQUIRED)
find_package(Boost 1.74 REQUIRED)
find_package(Protobuf REQUIRED)
# Debian's gRPC links to re2::re2, and its RE2 has only a pkg-config file.
if(NOT TARGET re2::re2)
  add_library(re2::re2 ALIAS PkgConfig::re2)
endif()
find_package(gRPC CONFIG REQUIRED)

# The wheel's own TorchConfig.cmake enables CUDA and wants cuDNN, so the CPU
# libraries are imported by hand.
find_path(DESCANT_TORCH_INCLUDE_DIR torch/csrc/api/include/torch/torch.h
  HINTS ${DESCANT_DEPS_DIR}/torch-2.11.0/torch PATH_SUFFIXES include REQUIRED)
find_library(DESCANT_TORCH_CPU_LIBRARY torch_cpu
  HINTS ${DESCANT_DEPS_DIR}/torch-2.11.0/torch PATH_SUFFIXES lib REQUIRED)
find_library(DESCANT_C10_LIBRARY c10
  HINTS ${DESCANT_DEPS_DIR}/torch-2.11.0/torch PATH_SUFFIXES lib REQUIRED)
get_filename_component(descant_torch_lib_dir
  ${DESCANT_TORCH_CPU_LIBRARY} DIRECTORY)

add_library(descant_torch INTERFACE)
target_include_directories(descant_torch SYSTEM INTERFACE
  ${DESCANT_TORCH_INCLUDE_DIR}
  ${DESCANT_TORCH_INCLUDE_DIR}/torch/csrc/api/include)
target_link_libraries(descant_torch INTERFACE
  ${DESCANT_TORCH_CPU_LIBRARY} ${DESCANT_C10_LIBRARY})

# libtorch_cpu of a CUDA wheel needs the CUDA runtime and CUPTI at load time,
# also where nothing uses CUDA: the toolkit's, or the ones setup.sh fetched.
find_library(DESCANT_CUDART NAMES libcudart.so.13 cudart
  HINTS ${DESCANT_DEPS_DIR}/cuda/lib /usr/local/cuda/lib64)
find_library(DESCANT_CUPTI NAMES libcupti.so.13 cupti
  HINTS ${DESCANT_DEPS_DIR}/cuda/lib /usr/local/cuda/lib64
        /usr/local/cuda/extras/CUPTI/lib64)
set(descant_rpath ${descant_torch_lib_dir})
foreach(library ${DESCANT_CUDART} ${DESCANT_CUPTI})
  get_filename_component(dir ${library} DIRECTORY)
  list(APPEND descant_rpath ${dir})
  target_link_options(descant_torch INTERFACE "LINKER:-rpath-link,${dir}")
endforeach()
list(REMOVE_DUPLICATES descant_rpath)
# (bin has the module that reaches a GPU; .deps/cuda/lib what that needs.)
set(CMAKE_BUILD_RPATH
  ${descant_rpath} ${DESCANT_DEPS_DIR}/cuda/lib "$ORIGIN/../bin")
list(REMOVE_DUPLICATES CMAKE_BUILD_RPATH)
# An installed tree brings its libraries: deploy/docker/install_tree.sh.
set(CMAKE_INSTALL_RPATH "$ORIGIN/../lib/descant")
