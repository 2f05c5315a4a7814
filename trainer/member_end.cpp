#include "trainer/member_end.h"

#include <ATen/ATen.h>

#include <nlohmann/json.hpp>

#include "experiments/error.h"

namespace tenfold {
namespace {

using nlohmann::json;

constexpr const char* kTensor = "end";

}  // namespace

json describe_end(const MemberEnd& member) {
  return {{"stopped", member.stopped},
          {"nonfinite", member.nonfinite},
          {"put_back", member.put_back},
          {"measured", member.measured}};
}

void save_ends(const std::vector<json>& ends, StackedTensors& tensors) {
  std::vector<std::string> texts;
  std::size_t longest = 0;
  for (const json& end : ends) {
    texts.push_back(end.dump(-1, ' ', false, json::error_handler_t::replace));
    longest = std::max(longest, texts.back().size());
  }
  at::Tensor bytes = at::full({static_cast<std::int64_t>(texts.size()), static_cast<std::int64_t>(longest)}, ' ',
                              at::TensorOptions(at::kByte));
  for (std::size_t k = 0; k < texts.size(); ++k)
    std::copy(texts[k].begin(), texts[k].end(), bytes.mutable_data_ptr<std::uint8_t>() + k * longest);
  tensors[kTensor] = bytes;
}

json restore_end(const MemberTensors& saved, MemberEnd& member) {
  const auto found = saved.tensors.find(kTensor);
  if (found == saved.tensors.end()) return json::object();
  const auto nonsense = [&] {
    return Error(ErrorKind::data, saved.path + ": the checkpoint's tensor " + kTensor + " says nothing of an end");
  };
  const at::Tensor& bytes = found->second;
  if (bytes.scalar_type() != at::kByte) throw nonsense();
  const std::uint8_t* data = bytes.const_data_ptr<std::uint8_t>();
  json end = json::parse(data, data + bytes.numel(), nullptr, /*allow_exceptions=*/false);
  try {
    member.stopped = end.at("stopped").get<std::string>();
    member.nonfinite = end.at("nonfinite").get<bool>();
    member.put_back = end.at("put_back").get<int>();
    member.measured = end.value("measured", false);
  } catch (const json::exception&) {
    throw nonsense();
  }
  return end;
}

}  // namespace tenfold
