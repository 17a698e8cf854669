// A kernel that can't do with the registers it may have. The test
// cuda_resources expects nvcc to refuse it under the flags of
// runtime/kernels/cuda: so a kernel of ours that spilled would not build.
__global__ void __launch_bounds__(1024) Spilling(const float* from, float* to) {
  constexpr int kValues = 128;
  float values[kValues];
#pragma unroll
  for (int i = 0; i < kValues; ++i) {
    values[i] = from[i * blockDim.x + threadIdx.x];
  }
  __syncthreads();
#pragma unroll
  for (int i = 0; i < kValues; ++i) {
    to[threadIdx.x * kValues + i] = values[kValues - 1 - i] * values[i];
  }
}
