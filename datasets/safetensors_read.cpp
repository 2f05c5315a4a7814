#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "datasets/file_content.h"
#include "datasets/safetensors.h"
#include "experiments/error.h"

namespace tenfold {
namespace {

using Json = nlohmann::json;

constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;
constexpr std::size_t kMaxDimensions = 32;

struct Placed {
  std::uint64_t begin = 0, end = 0;
  std::string name;
};

// One reading of a file: what it throws names the file.
class Reader {
 public:
  Reader(const std::filesystem::path& file, std::span<const std::byte> bytes) : file_(file), bytes_(bytes) {}

  void read(std::map<std::string, std::string>& metadata, std::map<std::string, TensorView>& tensors) {
    const Json header = parse_header();
    std::vector<Placed> placed;
    for (const auto& [name, entry] : header.items()) {
      if (name == "__metadata__") {
        read_metadata(entry, metadata);
        continue;
      }
      tensors.emplace(name, read_tensor(name, entry, placed));
    }
    require_gapless(placed);
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw Error(ErrorKind::data, file_.string() + ": not a sound safetensors file: " + what);
  }

  Json parse_header() {
    if (bytes_.size() < 8) fail("it is shorter than 8 bytes");
    std::uint64_t length = 0;
    for (int i = 7; i >= 0; --i)
      length = (length << 8) | std::to_integer<std::uint64_t>(bytes_[static_cast<std::size_t>(i)]);
    if (length > kMaxHeaderBytes) fail("its header claims " + std::to_string(length) + " bytes");
    if (length > bytes_.size() - 8) fail("it ends inside its header");
    const auto header = bytes_.subspan(8, static_cast<std::size_t>(length));
    data_ = bytes_.subspan(8 + static_cast<std::size_t>(length));
    const char* begin = reinterpret_cast<const char*>(header.data());
    std::vector<std::set<std::string>> keys;  // of the objects around the place being read
    // The parser would take the last of two equal names and any depth; neither has a place here.
    const auto watch = [&](int depth, Json::parse_event_t event, Json& value) {
      if (depth > 4) fail("its header is nested too deeply");
      if (event == Json::parse_event_t::object_start) keys.emplace_back();
      if (event == Json::parse_event_t::object_end) keys.pop_back();
      if (event == Json::parse_event_t::key && !keys.back().insert(value.get<std::string>()).second)
        fail("the name '" + value.get<std::string>() + "' is there twice");
      return true;
    };
    try {
      Json json = Json::parse(begin, begin + header.size(), watch);
      if (!json.is_object()) fail("its header is not a JSON object");
      return json;
    } catch (const Json::exception&) {
      fail("its header is not JSON");
    }
  }

  void read_metadata(const Json& entry, std::map<std::string, std::string>& metadata) const {
    if (!entry.is_object()) fail("__metadata__ is not an object");
    for (const auto& [key, value] : entry.items()) {
      if (!value.is_string()) fail("__metadata__ '" + key + "' is not a text");
      metadata.emplace(key, value.get<std::string>());
    }
  }

  std::uint64_t read_count(const Json& value, const std::string& what) const {
    if (!value.is_number_unsigned()) fail(what + " is not a whole number");
    const auto count = value.get<std::uint64_t>();
    if (count > static_cast<std::uint64_t>(INT64_MAX)) fail(what + " is too large");
    return count;
  }

  TensorView read_tensor(const std::string& name, const Json& entry, std::vector<Placed>& placed) const {
    const std::string where = "tensor '" + name + "'";
    if (!entry.is_object() || !entry.contains("dtype") || !entry.contains("shape") || !entry.contains("data_offsets"))
      fail(where + " lacks dtype, shape or data_offsets");
    const Json& dtype = entry["dtype"];
    const Json& shape = entry["shape"];
    const Json& offsets = entry["data_offsets"];
    if (!dtype.is_string() || dtype_bytes(dtype.get<std::string>()) == 0) fail(where + " has an unknown dtype");
    if (!shape.is_array() || shape.size() > kMaxDimensions) fail(where + " has no sound shape");
    if (!offsets.is_array() || offsets.size() != 2) fail(where + " has no sound data_offsets");

    TensorView view;
    view.dtype = dtype.get<std::string>();
    const std::uint64_t begin = read_count(offsets[0], where + " begin");
    const std::uint64_t end = read_count(offsets[1], where + " end");
    if (begin > end || end > data_.size()) fail(where + " lies outside the file");
    std::uint64_t bytes = dtype_bytes(view.dtype);
    for (const Json& dimension : shape) {
      const std::uint64_t extent = read_count(dimension, where + " dimension");
      if (extent != 0 && bytes > static_cast<std::uint64_t>(INT64_MAX) / extent) fail(where + " has too large a shape");
      bytes *= extent;
      view.shape.push_back(static_cast<std::int64_t>(extent));
    }
    if (bytes != end - begin)
      fail(where + " has " + std::to_string(end - begin) + " bytes where its shape needs " + std::to_string(bytes));
    view.data = data_.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin));
    placed.push_back({begin, end, name});
    return view;
  }

  void require_gapless(std::vector<Placed>& placed) const {
    std::sort(placed.begin(), placed.end(),
              [](const Placed& a, const Placed& b) { return std::tie(a.begin, a.end) < std::tie(b.begin, b.end); });
    std::uint64_t reached = 0;
    for (const Placed& tensor : placed) {
      if (tensor.begin < reached) fail("tensor '" + tensor.name + "' overlaps another");
      if (tensor.begin > reached) fail("there is a gap before tensor '" + tensor.name + "'");
      reached = tensor.end;
    }
    if (reached != data_.size()) fail("there are bytes that belong to no tensor");
  }

  const std::filesystem::path& file_;
  std::span<const std::byte> bytes_;
  std::span<const std::byte> data_;
};

template <class T>
std::span<const T> typed(const std::filesystem::path& file, const std::string& name, const TensorView& view,
                         const char* dtype) {
  if (view.dtype != dtype)
    throw Error(ErrorKind::data,
                file.string() + ": tensor '" + name + "' is " + view.dtype + " where " + dtype + " is needed");
  if (reinterpret_cast<std::uintptr_t>(view.data.data()) % alignof(T) != 0)
    throw Error(ErrorKind::data, file.string() + ": tensor '" + name +
                                     "' does not begin at a multiple of its element's size; write the file anew");
  return {reinterpret_cast<const T*>(view.data.data()), view.data.size() / sizeof(T)};
}

}  // namespace

std::size_t dtype_bytes(const std::string& dtype) {
  if (dtype == "F64" || dtype == "I64" || dtype == "U64") return 8;
  if (dtype == "F32" || dtype == "I32" || dtype == "U32") return 4;
  if (dtype == "F16" || dtype == "BF16" || dtype == "I16" || dtype == "U16") return 2;
  if (dtype == "I8" || dtype == "U8" || dtype == "BOOL") return 1;
  return 0;
}

SafetensorsFile SafetensorsFile::open(const std::filesystem::path& file) {
  const MappedFile mapped = map_file(file);
  SafetensorsFile result;
  result.file_ = file;
  result.mapping_ = mapped.owner;
  Reader(file, mapped.bytes).read(result.metadata_, result.tensors_);
  return result;
}

const TensorView& SafetensorsFile::tensor(const std::string& name) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) throw Error(ErrorKind::data, file_.string() + ": holds no tensor '" + name + "'");
  return found->second;
}

std::span<const float> SafetensorsFile::floats(const std::string& name) const {
  return typed<float>(file_, name, tensor(name), "F32");
}

std::span<const std::int64_t> SafetensorsFile::integers(const std::string& name) const {
  return typed<std::int64_t>(file_, name, tensor(name), "I64");
}

std::span<const std::int32_t> SafetensorsFile::small_integers(const std::string& name) const {
  return typed<std::int32_t>(file_, name, tensor(name), "I32");
}

}  // namespace tenfold
