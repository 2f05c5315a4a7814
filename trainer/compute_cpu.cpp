#include <ATen/ATen.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <map>
#include <tuple>

#include "experiments/error.h"
#include "trainer/compute.h"
#include "trainer/kernels_cpu.h"

namespace tenfold {
namespace {

class CpuCompute final : public Compute {
 public:
  at::Device device() const override { return at::kCPU; }
  std::string description() const override { return "cpu"; }

  std::function<void()> repeatable(std::function<void()> body, StepCounter& counter) override {
    return [body = std::move(body), &counter] {
      body();
      ++counter.host;
    };
  }

  StepCounter make_counter() const override { return {}; }
  void set_counter(StepCounter& counter, std::int64_t step) const override { counter.host = step; }
  at::Tensor row(const at::Tensor& table, const StepCounter& counter) const override {
    return table.select(0, counter.host);
  }
  void store(at::Tensor& table, const StepCounter& counter, const at::Tensor& value) const override {
    table.select(0, counter.host).copy_(value);
  }

  void dropout_mask(at::Tensor& mask, const DropoutTables& tables, const StepCounter& counter,
                    std::uint32_t site) const override {
    const std::int64_t members = mask.size(0), rows = mask.size(1), units = mask.size(2), block = rows * units;
    const std::int64_t* epoch = tables.epoch.const_data_ptr<std::int64_t>() + counter.host * tables.epoch.size(1);
    const std::int64_t* position =
        tables.position.const_data_ptr<std::int64_t>() + counter.host * tables.position.size(1);
    float* data = mask.mutable_data_ptr<float>();
    // Members of one fold draw the same numbers: made once, then copied.
    std::map<std::tuple<PhiloxKey, std::int64_t, std::int64_t, float>, std::int64_t> made;
    for (std::int64_t k = 0; k < members; ++k) {
      const auto index = static_cast<std::size_t>(k);
      const float p = tables.probability[index];
      const auto [place, is_new] = made.try_emplace({tables.keys[index], epoch[k], position[k], p}, k);
      if (!is_new) {
        std::copy_n(data + place->second * block, block, data + k * block);
        continue;
      }
      const auto threshold = static_cast<std::uint32_t>(std::lround(static_cast<double>(p) * 0x1p24));
      cpu::dropout_rows(data + k * block, rows, units, tables.keys[index], static_cast<std::uint32_t>(epoch[k]), site,
                        position[k], threshold, p < 1 ? 1.0f / (1.0f - p) : 0.0f);
    }
  }

  void update(const UpdateArguments& a) const override {
    const float* lr = a.lr.const_data_ptr<float>();
    const float* active = a.active.const_data_ptr<float>();
    float* applied = a.applied.mutable_data_ptr<float>();
    float* grad_norm = a.grad_norm.mutable_data_ptr<float>();
    const std::int64_t members = a.applied.size(0);
    const bool wants_norms = a.group_grad_norms.defined();
    std::vector<at::Tensor> gradients;
    for (const at::Tensor& gradient : a.gradients) gradients.push_back(gradient.contiguous());
    std::vector<float> before;  // a parameter, where the norm of its change is wanted
    for (std::int64_t k = 0; k < members; ++k) {
      double squares = 0;
      std::array<double, kParameterGroups> group_squares{}, change_squares{};
      for (std::size_t i = 0; i < gradients.size(); ++i) {
        const std::int64_t n = gradients[i].numel() / members;
        const double own = cpu::sum_of_squares(gradients[i].const_data_ptr<float>() + k * n, n);
        squares += own;
        if (wants_norms) group_squares[group_of(a, i)] += own;
      }
      const double norm = std::sqrt(squares);
      grad_norm[k] = static_cast<float>(norm);
      if (active[k] != 0) {
        const UpdateRule& rule = (*a.rules)[static_cast<std::size_t>(k)];
        const float scale =
            rule.clip_norm > 0 ? static_cast<float>(std::min(1.0, rule.clip_norm / (norm + 1e-6))) : 1.0f;
        applied[k] += 1;
        const double correction1 = 1 - std::pow(static_cast<double>(rule.beta1), applied[k]);
        const double correction2 = 1 - std::pow(static_cast<double>(rule.beta2), applied[k]);
        for (std::size_t i = 0; i < gradients.size(); ++i) {
          const std::int64_t n = gradients[i].numel() / members;
          float* parameter = a.parameters[i].mutable_data_ptr<float>() + k * n;
          const float* gradient = gradients[i].const_data_ptr<float>() + k * n;
          float* moment1 = a.moment1[i].mutable_data_ptr<float>() + k * n;
          if (wants_norms) before.assign(parameter, parameter + n);
          const float rate = a.rate_factors.defined() ? lr[k] * factor_of(a, k, i) : lr[k];
          if (a.adam)
            cpu::adam(parameter, gradient, moment1, a.moment2[i].mutable_data_ptr<float>() + k * n, n, rule, rate,
                      scale, static_cast<float>(correction1), static_cast<float>(std::sqrt(correction2)));
          else
            cpu::sgd(parameter, gradient, moment1, n, rule, rate, scale);
          if (wants_norms)
            change_squares[group_of(a, i)] += cpu::sum_of_squared_differences(parameter, before.data(), n);
        }
      }
      if (wants_norms)
        for (std::size_t g = 0; g < kParameterGroups; ++g) {
          const auto place = k * kParameterGroups + static_cast<std::int64_t>(g);
          a.group_grad_norms.mutable_data_ptr<float>()[place] = static_cast<float>(std::sqrt(group_squares[g]));
          a.group_update_norms.mutable_data_ptr<float>()[place] = static_cast<float>(std::sqrt(change_squares[g]));
        }
    }
  }

  void set_precision(const std::string&) const override {}
  std::unique_ptr<Collective> make_collective(std::unique_ptr<GroupLink> link) const override {
    return make_tcp_collective(std::move(link));
  }
  void synchronise() const override {}
  std::int64_t peak_memory_bytes() const override {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    return static_cast<std::int64_t>(usage.ru_maxrss) * 1024;
  }
  // What the host allows this process: the machine's memory, or less inside a container or a SLURM job.
  std::int64_t memory_bytes() const override {
    std::int64_t bytes = std::int64_t{sysconf(_SC_PHYS_PAGES)} * sysconf(_SC_PAGE_SIZE);
    for (const char* file : {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"}) {
      std::int64_t limit = 0;
      if (std::ifstream(file) >> limit && limit > 0) bytes = std::min(bytes, limit);
    }
    return bytes;
  }

 private:
  static std::size_t group_of(const UpdateArguments& a, std::size_t parameter) {
    return static_cast<std::size_t>(a.groups[parameter]);
  }
  static float factor_of(const UpdateArguments& a, std::int64_t k, std::size_t parameter) {
    return a.rate_factors.const_data_ptr<float>()[k * kParameterGroups + a.groups[parameter]];
  }
};

}  // namespace

std::unique_ptr<Compute> make_cpu_compute() {
  // MKL picks its kernels by the alignment of a matrix in memory, which for a member depends on its place in the array:
  // its conditional reproducibility gives the same bits wherever. Read by MKL at its first matrix product.
  setenv("MKL_CBWR", "AUTO", /*overwrite=*/0);
  return std::make_unique<CpuCompute>();
}

}  // namespace tenfold
