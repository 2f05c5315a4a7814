#include <ATen/ATen.h>
#include <ATen/cuda/CUDAContext.h>
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAStream.h>

#include <algorithm>

#include "experiments/error.h"
#include "trainer/compute.h"
#include "trainer/cuda/kernels.h"
#include "trainer/cuda/nccl_collective.h"

namespace tenfold {
namespace {

static_assert(cuda::kGroups == kParameterGroups);

constexpr int kWarmUps = 2;  // cuBLAS makes its handles and workspaces outside the capture

class CudaCompute final : public Compute {
 public:
  explicit CudaCompute(int index) : device_(at::kCUDA, static_cast<c10::DeviceIndex>(index)) {
    c10::cuda::set_device(device_.index());
    // Convolutions in whole float32, as matrix products are by default: rounding to TF32 is 1,000 times coarser.
    at::globalContext().setAllowTF32CuDNN(false);
    // Everything runs on one stream of our own: the default stream cannot be captured.
    c10::cuda::setCurrentCUDAStream(c10::cuda::getStreamFromPool(/*isHighPriority=*/false, device_.index()));
  }

  at::Device device() const override { return device_; }
  std::string description() const override { return at::cuda::getDeviceProperties(device_.index())->name; }

  std::function<void()> repeatable(std::function<void()> body, StepCounter& counter) override {
    set_counter(counter, 0);
    // One pool of memory for the graphs of an array: they are replayed one after another, and what outlives a replay
    // was made before. It goes with the last of them.
    std::shared_ptr<Pool> pool = pool_.lock();
    // An array's later graphs differ in length alone: what they call has been made ready by the first.
    const int warm_ups = pool ? 1 : kWarmUps;
    if (!pool) pool_ = pool = std::make_shared<Pool>(at::cuda::graph_pool_handle());
    for (int i = 0; i < warm_ups; ++i) body();
    synchronise();
    auto graph = std::make_shared<at::cuda::CUDAGraph>();
    // Thread-local: autograd's own thread and other threads of this process go on calling CUDA while we capture.
    graph->capture_begin(*pool, cudaStreamCaptureModeThreadLocal);
    body();
    counter.device.add_(1);
    graph->capture_end();
    return [graph, pool] { graph->replay(); };
  }

  StepCounter make_counter() const override {
    return {0, at::zeros({1}, at::TensorOptions(at::kLong).device(device_))};
  }
  void set_counter(StepCounter& counter, std::int64_t step) const override { counter.device.fill_(step); }
  at::Tensor row(const at::Tensor& table, const StepCounter& counter) const override {
    return table.index_select(0, counter.device).squeeze(0);
  }
  void store(at::Tensor& table, const StepCounter& counter, const at::Tensor& value) const override {
    table.index_copy_(0, counter.device, value.unsqueeze(0));
  }

  void dropout_mask(at::Tensor& mask, const DropoutTables& tables, const StepCounter& counter,
                    std::uint32_t site) const override {
    cuda::dropout_mask(mask.mutable_data_ptr<float>(), mask.size(0), mask.size(1), mask.size(2),
                       tables.device_keys.const_data_ptr<std::int64_t>(),
                       tables.device_probability.const_data_ptr<float>(), tables.epoch.const_data_ptr<std::int64_t>(),
                       tables.position.const_data_ptr<std::int64_t>(), counter.device.const_data_ptr<std::int64_t>(),
                       site, stream());
  }

  void update(const UpdateArguments& a) const override {
    const std::int64_t members = a.applied.size(0);
    const auto tensors = static_cast<int>(a.parameters.size());
    std::vector<at::Tensor> gradients;
    for (const at::Tensor& gradient : a.gradients) gradients.push_back(gradient.contiguous());
    const auto options = a.applied.options();
    at::Tensor partial = at::empty({tensors, members}, options.dtype(at::kDouble));
    at::Tensor coefficients = at::empty({members, 4}, options);
    std::vector<cuda::TensorList> lists;
    for (int first = 0; first < tensors; first += cuda::kMostTensors) {
      cuda::TensorList& list = lists.emplace_back();
      list.count = std::min(cuda::kMostTensors, tensors - first);
      for (int i = 0; i < list.count; ++i) {
        const auto at = static_cast<std::size_t>(first + i);
        list.parameter[i] = a.parameters[at].mutable_data_ptr<float>();
        list.gradient[i] = gradients[at].const_data_ptr<float>();
        list.moment1[i] = a.moment1[at].mutable_data_ptr<float>();
        list.moment2[i] = a.adam ? a.moment2[at].mutable_data_ptr<float>() : nullptr;
        list.size[i] = gradients[at].numel() / members;
        list.group[i] = a.groups.empty() ? 0 : a.groups[at];
      }
      cuda::squares(list, members, first, partial.mutable_data_ptr<double>(), stream());
    }
    const float* rules = a.device_rules.const_data_ptr<float>();
    const at::Tensor lr = a.lr.contiguous(), active = a.active.contiguous();
    cuda::prepare_update(partial.const_data_ptr<double>(), tensors, members, rules, lr.const_data_ptr<float>(),
                         active.const_data_ptr<float>(), a.applied.mutable_data_ptr<float>(),
                         a.grad_norm.mutable_data_ptr<float>(), coefficients.mutable_data_ptr<float>(), a.adam,
                         stream());
    // Zeros: a small tensor fills fewer places than there are.
    at::Tensor changes;
    if (a.group_update_norms.defined())
      changes = at::zeros({tensors, members, cuda::kMostBlocks}, options.dtype(at::kDouble));
    for (std::size_t i = 0; i < lists.size(); ++i)
      cuda::update(lists[i], members, rules, lr.const_data_ptr<float>(), coefficients.const_data_ptr<float>(),
                   a.rate_factors.defined() ? a.rate_factors.const_data_ptr<float>() : nullptr,
                   static_cast<int>(i) * cuda::kMostTensors,
                   changes.defined() ? changes.mutable_data_ptr<double>() : nullptr, a.adam, stream());
    if (changes.defined())
      cuda::group_norms(partial.const_data_ptr<double>(), changes.const_data_ptr<double>(),
                        a.device_groups.const_data_ptr<std::int32_t>(), tensors, members,
                        a.group_grad_norms.mutable_data_ptr<float>(), a.group_update_norms.mutable_data_ptr<float>(),
                        stream());
  }

  void set_precision(const std::string& precision) const override {
    at::globalContext().setAllowTF32CuBLAS(precision == "tf32");
  }

  std::unique_ptr<Collective> make_collective(std::unique_ptr<GroupLink> link) const override {
#ifdef TENFOLD_WITH_NCCL
    return make_nccl_collective(std::move(link), device_);
#else
    (void)link;
    throw Error(ErrorKind::device,
                "this build has no NCCL, which trials over several GPUs need: install the wheel nvidia-nccl-cu13 or "
                "CUDA's nccl.h and build again, or set resources.ranks_per_trial to 1");
#endif
  }

  void synchronise() const override { c10::cuda::getCurrentCUDAStream(device_.index()).synchronize(); }
  std::int64_t peak_memory_bytes() const override {
    const auto stats = c10::cuda::CUDACachingAllocator::getDeviceStats(device_.index());
    return stats.allocated_bytes[0].peak;
  }
  std::int64_t memory_bytes() const override {
    return static_cast<std::int64_t>(at::cuda::getDeviceProperties(device_.index())->totalGlobalMem);
  }

 private:
  using Pool = at::cuda::MempoolId_t;
  std::weak_ptr<Pool> pool_;  // of the graphs that live
  cudaStream_t stream() const { return c10::cuda::getCurrentCUDAStream(device_.index()).stream(); }
  at::Device device_;
};

}  // namespace
}  // namespace tenfold

// What trainer/compute.cpp looks up.
extern "C" tenfold::Compute* tenfold_make_cuda_compute(int device, std::string* error) {
  try {
    const int devices = static_cast<int>(c10::cuda::device_count());
    if (device < 0 || device >= devices) {
      *error = "there is no GPU cuda:" + std::to_string(device) + ": CUDA shows " + std::to_string(devices) +
               " (nvidia-smi, CUDA_VISIBLE_DEVICES); use --device cpu to go without";
      return nullptr;
    }
    return new tenfold::CudaCompute(device);
  } catch (const std::exception& failure) {
    *error = std::string("the GPU cannot be used: ") + failure.what();
    return nullptr;
  }
}
