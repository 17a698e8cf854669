# DESCANT_HAS_CUDA: whether runtime/kernels/cuda is built or its null twin.
set(DESCANT_HAS_CUDA OFF)
if(NOT DESCANT_CUDA STREQUAL "OFF" AND NOT DESCANT_CORE_ONLY)
  include(CheckLanguage)
  if(NOT CMAKE_CUDA_COMPILER)
    find_program(nvcc_program nvcc HINTS /usr/local/cuda/bin)
    if(nvcc_program)
      set(CMAKE_CUDA_COMPILER ${nvcc_program})
    endif()
  endif()
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    set(CMAKE_CUDA_ARCHITECTURES 80-real 90)
    enable_language(CUDA)
    # (CMake 3.25 does not know that nvcc 13 can.)
    set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
    set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
    list(APPEND CMAKE_CUDA_COMPILE_FEATURES cuda_std_20)
    set(CMAKE_CUDA_STANDARD 20)
    # The one that LibTorch has.
    set(CMAKE_CUDA_RUNTIME_LIBRARY Shared)
    set(DESCANT_HAS_CUDA ON)
  elseif(DESCANT_CUDA STREQUAL "ON")
    message(FATAL_ERROR "DESCANT_CUDA=ON but no CUDA compiler was found")
  endif()
endif()
# How kernels are compiled. ptxas says where a kernel spills registers or has
# local memory, and a warning is an error: it would cost more than it computes.
# (More than 48 KB of shared arrays is an error anyway.)
set(DESCANT_CUDA_FLAGS -Werror all-warnings --expt-relaxed-constexpr
  -Xptxas=-warn-spills,-warn-lmem-usage)
message(STATUS "CUDA backend: ${DESCANT_HAS_CUDA}")

# descant_torch_cuda: what the module that reaches a GPU is linked to. At run
# time it needs what `deploy/setup.sh --cuda` fetches. A LibTorch for CPUs has
# none of it: then there is no module, and kernels are compiled all the same.
if(DESCANT_HAS_CUDA)
  foreach(library torch_cuda c10_cuda)
    find_library(DESCANT_${library}_LIBRARY ${library}
      HINTS ${descant_torch_lib_dir})
  endforeach()
  if(DESCANT_torch_cuda_LIBRARY AND DESCANT_c10_cuda_LIBRARY)
    add_library(descant_torch_cuda INTERFACE)
    target_link_libraries(descant_torch_cuda INTERFACE
      descant_torch ${DESCANT_torch_cuda_LIBRARY} ${DESCANT_c10_cuda_LIBRARY}
      ${DESCANT_CUDART})
  else()
    message(STATUS "LibTorch has no CUDA: --device=cuda will not work")
  endif()
endif()
