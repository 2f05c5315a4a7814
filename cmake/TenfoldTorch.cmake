# LibTorch from the torch wheel, as one target of ours. find_package(Torch) is not used: it demands a CUDA
# toolkit and picks architectures that nvcc 13 rejects, while the CPU libraries alone are enough to link.
find_path(TENFOLD_TORCH_LIB_DIR NAMES libtorch_cpu.so
  PATHS ${TENFOLD_TORCH}/lib ${TENFOLD_TORCH}/torch/lib NO_DEFAULT_PATH NO_CACHE)
if(NOT TENFOLD_TORCH_LIB_DIR)
  message(FATAL_ERROR "LibTorch not found under TENFOLD_TORCH='${TENFOLD_TORCH}': run ./tenfold setup, "
    "or pass -DTENFOLD_TORCH=<folder of the torch package>, or -DTENFOLD_WITH_TORCH=OFF")
endif()
get_filename_component(torch_root ${TENFOLD_TORCH_LIB_DIR} DIRECTORY)
add_library(tenfold_torch INTERFACE)
target_include_directories(tenfold_torch SYSTEM INTERFACE
  ${torch_root}/include ${torch_root}/include/torch/csrc/api/include)
# The wheel's libraries name their CUDA dependencies, which a CPU installation has only in part.
target_link_libraries(tenfold_torch INTERFACE
  ${TENFOLD_TORCH_LIB_DIR}/libtorch_cpu.so ${TENFOLD_TORCH_LIB_DIR}/libc10.so
  -Wl,--allow-shlib-undefined -Wl,-rpath,${TENFOLD_TORCH_LIB_DIR})
