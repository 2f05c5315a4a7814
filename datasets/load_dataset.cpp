#include <new>
#include <stdexcept>

#include "datasets/loaders.h"
#include "experiments/error.h"

namespace tenfold {

Dataset load_dataset(const DatasetSpec& spec) {
  try {
    if (spec.kind == "digits") return Dataset(load_digits());
    if (spec.kind == "csv") return Dataset(load_csv(spec));
    if (spec.kind == "npy") return Dataset(load_npy(spec));
    if (spec.kind == "npz") return Dataset(load_npz(spec));
    if (spec.kind == "idx") return Dataset(load_idx(spec));
    if (spec.kind == "hdf5") return Dataset(load_hdf5(spec));
    if (spec.kind == "mat") return Dataset(load_mat(spec));
    if (spec.kind == "wav") return Dataset(load_wav(spec));
    if (spec.kind == "text") return Dataset(load_text(spec));
    if (spec.kind == "tokens") return Dataset(load_tokens(spec));
    if (spec.kind == "synthetic") return Dataset(load_synthetic(spec));
    if (spec.kind == "synthetic_sequences") return Dataset(load_synthetic_sequences(spec));
  } catch (const std::bad_alloc&) {
    throw Error(ErrorKind::data, (spec.path.empty() ? spec.kind : spec.path) +
                                     ": there is not enough memory to load it; use fewer samples or a larger machine");
  } catch (const std::length_error&) {
    throw Error(ErrorKind::data, (spec.path.empty() ? spec.kind : spec.path) + ": is larger than memory can hold");
  }
  throw Error(ErrorKind::config, "dataset.kind: '" + spec.kind +
                                     "' is not known; it may be digits, csv, npy, npz, idx, synthetic, "
                                     "hdf5, mat, wav, synthetic_sequences, text or tokens");
}

}  // namespace tenfold
