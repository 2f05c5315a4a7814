#include <new>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "datasets/apart.h"
#include "datasets/loaders.h"
#include "experiments/error.h"
#include "experiments/utf8.h"

namespace tenfold {
namespace {

Dataset::Parts load_parts(const DatasetSpec& spec) {
  if (spec.kind == "digits") return load_digits();
  if (spec.kind == "csv") return load_csv(spec);
  if (spec.kind == "npy") return load_npy(spec);
  if (spec.kind == "npz") return load_npz(spec);
  if (spec.kind == "idx") return load_idx(spec);
  if (spec.kind == "hdf5") return load_apart(spec.path, [&] { return load_hdf5(spec); });
  if (spec.kind == "mat") return load_apart(spec.path, [&] { return load_mat(spec); });
  if (spec.kind == "wav") return load_wav(spec);
  if (spec.kind == "text") return load_text(spec);
  if (spec.kind == "tokens") return load_tokens(spec);
  if (spec.kind == "synthetic") return load_synthetic(spec);
  if (spec.kind == "synthetic_sequences") return load_synthetic_sequences(spec);
  throw Error(ErrorKind::config, "dataset.kind: '" + spec.kind +
                                     "' is not known; it may be digits, csv, npy, npz, idx, synthetic, "
                                     "hdf5, mat, wav, synthetic_sequences, text or tokens");
}

// They come back in the store, in caches and in reports, which are UTF-8.
void require_utf8_names(const std::vector<std::string>& names, const char* what, const DatasetSpec& spec) {
  for (const std::string& name : names) {
    if (is_utf8(name)) continue;
    std::string shown;
    for (const char letter : name) shown += static_cast<unsigned char>(letter) < 0x80 ? std::string(1, letter) : "?";
    throw Error(ErrorKind::data, spec.path + ": the name of " + what + ", '" + shown +
                                     "', is not UTF-8; convert the file, for example with iconv");
  }
}

}  // namespace

Dataset load_dataset(const DatasetSpec& spec) {
  try {
    Dataset::Parts parts = load_parts(spec);
    require_utf8_names(parts.class_names, "a class", spec);
    require_utf8_names(parts.group_names, "a group", spec);
    return Dataset(std::move(parts));
  } catch (const std::bad_alloc&) {
    throw Error(ErrorKind::data, (spec.path.empty() ? spec.kind : spec.path) +
                                     ": there is not enough memory to load it; use fewer samples or a larger machine");
  } catch (const std::length_error&) {
    throw Error(ErrorKind::data, (spec.path.empty() ? spec.kind : spec.path) + ": is larger than memory can hold");
  }
}

}  // namespace tenfold
