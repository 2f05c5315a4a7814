#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "datasets/dataset.h"
#include "experiments/spec.h"

// One function per `dataset.kind`; each lives in the file of its name. load_dataset() chooses.
namespace tenfold {

Dataset::Parts load_digits();
Dataset::Parts load_csv(const DatasetSpec& spec);
Dataset::Parts load_npy(const DatasetSpec& spec);
Dataset::Parts load_npz(const DatasetSpec& spec);
Dataset::Parts load_idx(const DatasetSpec& spec);
Dataset::Parts load_synthetic(const DatasetSpec& spec);
Dataset::Parts load_hdf5(const DatasetSpec& spec);
Dataset::Parts load_mat(const DatasetSpec& spec);
Dataset::Parts load_wav(const DatasetSpec& spec);
Dataset::Parts load_synthetic_sequences(const DatasetSpec& spec);
Dataset::Parts load_text(const DatasetSpec& spec);    // kind text
Dataset::Parts load_tokens(const DatasetSpec& spec);  // kind tokens

// The first tokens, at most `most`, of an npy file of tokens below `vocabulary`, or of a UTF-8 text (tokenizer as
// DatasetSpec::tokenizer). No more of the file is read than it takes. Throws Error(data).
std::vector<std::int32_t> first_tokens(const std::string& path, std::int64_t vocabulary, std::int64_t most);
std::vector<std::int32_t> first_tokens_of_text(const std::string& path, const std::string& tokenizer,
                                               std::int64_t vocabulary, std::int64_t most);

// What a Dataset promises, checked: sizes that agree, labels in range, finite samples. Throws Error(data).
void validate_dataset(const Dataset& dataset);
// Of shape, samples, labels, groups, given folds, one-hot mask and class names.
Digest dataset_fingerprint(const Dataset& dataset);

// Throws Error(data) naming the first sample and feature that is NaN or infinite.
void require_finite(std::span<const float> samples, std::int64_t features, const std::string& name);

// Number of elements of a shape. Throws Error(data) where a dimension is negative or the product above `limit`.
std::int64_t checked_elements(std::span<const std::int64_t> shape, std::int64_t limit, const std::string& name);

}  // namespace tenfold
