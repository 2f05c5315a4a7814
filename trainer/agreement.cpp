#include "trainer/agreement.h"

#include <ATen/ATen.h>

#include "experiments/error.h"

namespace tenfold {
namespace {

// Sums of integers: the same in any order, so on any device.
std::uint64_t digest(const std::vector<at::Tensor>& tensors) {
  std::uint64_t whole = 0;
  for (const at::Tensor& tensor : tensors) {
    const at::Tensor flat = tensor.detach().contiguous().flatten();
    const at::Tensor bits = flat.element_size() == 8 ? flat.view(at::kLong) : flat.view(at::kInt).to(at::kLong);
    // Places count, or two values could change theirs unseen.
    const at::Tensor place = at::arange(bits.numel(), bits.options()).remainder(8191) + 1;
    whole = whole * 1'000'003 + static_cast<std::uint64_t>((bits * place).sum().item<std::int64_t>());
  }
  return whole;
}

}  // namespace

void expect_agreement(Collective& group, const std::vector<at::Tensor>& tensors) {
  const auto own = static_cast<std::int64_t>(digest(tensors));
  if (group.leaders(own) != own)
    throw Error(ErrorKind::internal, "rank " + std::to_string(group.rank()) +
                                         " of the trial's group has come apart from its leader: ranks need processors "
                                         "of one model");
}

at::Tensor of_all_ranks(const ArrayContext& context, const at::Tensor& rows) {
  if (context.group == nullptr) return rows;
  const WatchedWork watched(context.group);
  const at::Tensor all = gathered(*context.group, rows, 2);
  context.compute.synchronise();
  return all;
}

}  // namespace tenfold
