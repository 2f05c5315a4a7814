#include "trainer/checkpoint.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <filesystem>
#include <limits>
#include <system_error>

#include "experiments/error.h"
#include "experiments/storage_advice.h"
#include "trainer/protocol_checkpoint.h"

namespace tenfold {
namespace {

struct TypeName {
  at::ScalarType type;
  const char* name;
};
constexpr TypeName kTypes[] = {{at::kFloat, "F32"}, {at::kDouble, "F64"}, {at::kLong, "I64"}, {at::kByte, "U8"}};

}  // namespace

CheckpointNotice write_checkpoint(const ArrayJob& job, std::int64_t step, const StackedTensors& tensors,
                                  const std::string& suffix) {
  std::map<std::string, at::Tensor> host;  // keeps the bytes alive
  std::map<std::string, TensorView> views;
  std::int64_t members = 0;
  for (const auto& [name, tensor] : tensors) {
    const at::Tensor& copy = host[name] = tensor.detach().cpu().contiguous();
    members = copy.size(0);
    TensorView view;
    for (const TypeName& type : kTypes)
      if (type.type == copy.scalar_type()) view.dtype = type.name;
    if (view.dtype.empty()) throw Error(ErrorKind::internal, "checkpoint tensor " + name + " has an unforeseen type");
    view.shape.assign(copy.sizes().begin(), copy.sizes().end());
    view.data = {static_cast<const std::byte*>(copy.const_data_ptr()), copy.nbytes()};
    views[name] = view;
  }
  const std::filesystem::path folder = job.checkpoint_folder;
  std::error_code failed;
  std::filesystem::create_directories(folder, failed);
  if (failed) throw storage_error(folder, "the folder of checkpoints cannot be made", failed.value());
  CheckpointNotice notice;
  notice.path = (folder / (job.array + '-' + std::to_string(step) + suffix + ".safetensors")).string();
  notice.step = step;
  notice.sha256 = write_safetensors(notice.path, views,
                                    {{"format", std::string(kCheckpointFormat)}, {"step", std::to_string(step)}})
                      .hex();
  notice.bytes = static_cast<std::int64_t>(std::filesystem::file_size(notice.path, failed));
  if (failed) throw Error(ErrorKind::storage, notice.path + ": " + failed.message());
  for (std::int64_t member = 0; member < members; ++member) notice.members.push_back(static_cast<std::int32_t>(member));
  return notice;
}

MemberTensors CheckpointReader::read(const CheckpointRef& ref) {
  auto found = files_.find({ref.path, ref.sha256});
  if (found == files_.end()) {
    if (!std::filesystem::exists(ref.path)) throw Error(ErrorKind::data, ref.path + ": the checkpoint is gone");
    if (const std::string hash = sha256_file(ref.path).hex(); hash != ref.sha256)
      throw Error(ErrorKind::data, ref.path + ": the checkpoint is damaged (SHA-256 " + hash.substr(0, 12) +
                                       ", recorded " + ref.sha256.substr(0, 12) + ")");
    found = files_.emplace(std::pair(ref.path, ref.sha256), SafetensorsFile::open(ref.path)).first;
    const auto format = found->second.metadata().find("format");
    if (format == found->second.metadata().end() || format->second != kCheckpointFormat)
      throw Error(ErrorKind::data,
                  ref.path + ": the checkpoint is of another version (" +
                      (format == found->second.metadata().end() ? "it names none" : "'" + format->second + "'") +
                      "; this program reads '" + std::string(kCheckpointFormat) + "')");
  }
  MemberTensors member{ref.path, {}};
  for (const auto& [name, view] : found->second.tensors()) {
    const TypeName* known = nullptr;
    for (const TypeName& type : kTypes)
      if (view.dtype == type.name) known = &type;
    if (known == nullptr || view.shape.empty() || ref.array_index < 0 || ref.array_index >= view.shape[0])
      throw Error(ErrorKind::data, ref.path + ": tensor " + name + " is not of a checkpoint with member " +
                                       std::to_string(ref.array_index));
    std::vector<std::int64_t> shape = view.shape;
    shape[0] = 1;
    const std::size_t bytes = view.data.size() / static_cast<std::size_t>(view.shape[0]);
    at::Tensor slice = at::empty(shape, known->type);
    if (slice.nbytes() != bytes) throw Error(ErrorKind::internal, ref.path + ": tensor " + name + " has an odd size");
    std::copy_n(view.data.data() + bytes * static_cast<std::size_t>(ref.array_index), bytes,
                static_cast<std::byte*>(slice.mutable_data_ptr()));
    member.tensors[name] = slice;
  }
  return member;
}

void restore(const MemberTensors& member, const std::string& name, at::Tensor& into, std::int64_t k) {
  const auto found = member.tensors.find(name);
  if (found == member.tensors.end())
    throw Error(ErrorKind::data, member.path + ": the checkpoint has no tensor " + name);
  at::Tensor slot = into.narrow(0, k, 1);
  if (found->second.sizes() != slot.sizes() || found->second.scalar_type() != into.scalar_type())
    throw Error(ErrorKind::data, member.path + ": the checkpoint's tensor " + name + " has another shape or type");
  at::NoGradGuard no_grad;
  slot.copy_(found->second);
}

CheckpointClock::CheckpointClock(const CheckpointSpec& spec, std::int64_t step)
    : every_s_(spec.every_s),
      every_steps_(spec.every_steps.value_or(0)),
      keep_every_steps_(spec.keep_every_steps.value_or(0)),
      last_step_(step),
      last_(std::chrono::steady_clock::now()) {}

bool CheckpointClock::due(std::int64_t step) const {
  if (step <= last_step_) return false;
  if (every_steps_ > 0 && step - last_step_ >= every_steps_) return true;
  if (keep_every_steps_ > 0 && step % keep_every_steps_ == 0) return true;
  const std::chrono::duration<double> since = std::chrono::steady_clock::now() - last_;
  return every_s_ > 0 && since.count() >= every_s_;
}

std::int64_t CheckpointClock::steps_until_due(std::int64_t step) const {
  std::int64_t steps = std::numeric_limits<std::int64_t>::max();
  if (every_steps_ > 0) steps = std::max<std::int64_t>(1, last_step_ + every_steps_ - step);
  if (keep_every_steps_ > 0) steps = std::min(steps, keep_every_steps_ - step % keep_every_steps_);
  return steps;
}

void CheckpointClock::written(std::int64_t step) {
  last_step_ = step;
  last_ = std::chrono::steady_clock::now();
}

}  // namespace tenfold
