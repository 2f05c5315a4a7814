#pragma once

#include <cstddef>
#include <span>
#include <string_view>

// What is fuzzed: every reader of files from elsewhere, and of what processes say to each other. Each function gives
// the input to the reader and returns whether it was read; false means refused with a word of what is wrong and where.
// Anything else is a finding and leaves the function as an exception, or ends the program.
namespace tenfold::fuzz {

using Input = std::span<const std::byte>;

bool npy(Input input);
bool npz(Input input);
bool idx(Input input);
bool csv(Input input);
bool safetensors(Input input);
bool hdf5(Input input);
bool mat(Input input);
bool wav(Input input);
bool tar(Input input);
bool text(Input input);
bool tokens(Input input);
bool sentencepiece(Input input);
bool minimal_pairs(Input input);
bool experiment(Input input);
bool frames(Input input);
bool messages(Input input);
bool diagnosis(Input input);
bool import_steps(Input input);
bool published(Input input);

struct Target {
  std::string_view name;  // of the corpus folder, too
  bool (*read)(Input);
};

inline constexpr Target kTargets[] = {
    {"npy", npy},
    {"npz", npz},
    {"idx", idx},
    {"csv", csv},
    {"safetensors", safetensors},
    {"hdf5", hdf5},
    {"mat", mat},
    {"wav", wav},
    {"tar", tar},
    {"text", text},
    {"tokens", tokens},
    {"sentencepiece", sentencepiece},
    {"minimal_pairs", minimal_pairs},
    {"experiment", experiment},
    {"frames", frames},
    {"messages", messages},
    {"diagnosis", diagnosis},
    {"import_steps", import_steps},
    {"published", published},
};

}  // namespace tenfold::fuzz
