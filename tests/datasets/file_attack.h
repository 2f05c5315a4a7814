#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "datasets/philox.h"
#include "experiments/spec.h"
#include "tests/datasets/test_files.h"

namespace tenfold::test {

// A format's file, cut off at every length and with bytes changed: an Error of the data or a sound dataset, nothing
// else. Run under sanitizers, this is where reads beyond the end show.
class FileAttack : public testing::Test {
 protected:
  // load: reads the file of this name in the folder. at_least: so many of 1,500 changes must be noticed; of formats
  // that are mostly numbers few are.
  template <class Load>
  void attack(const std::string& name, const std::string& sound, Load load, int at_least = 100) {
    folder_.write(name, sound);
    load();  // the file itself is sound
    int refused = 0, accepted = 0;
    const auto attempt = [&](const std::string& content) {
      folder_.write(name, content);
      try {
        load();
        ++accepted;
      } catch (const Error& error) {
        ++refused;
        EXPECT_TRUE(error.kind() == ErrorKind::data || error.kind() == ErrorKind::config) << error.what();
        EXPECT_NE(std::string(error.what()).find(name), std::string::npos) << error.what();
      }
    };
    const std::size_t step = std::max<std::size_t>(1, sound.size() / 400);
    for (std::size_t length = 0; length < sound.size(); length += step) attempt(sound.substr(0, length));
    EXPECT_GT(refused, 0);
    refused = 0;
    const RandomStream stream(0, Purpose::query, 0, 0, site_of(name));
    for (std::uint64_t i = 0; i < 1500; ++i) {
      std::string content = sound;
      const std::uint64_t changes = 1 + random_below(stream, 16 * i, 3);
      for (std::uint64_t change = 0; change < changes; ++change) {
        const auto place = static_cast<std::size_t>(random_below(stream, 16 * i + 1 + 2 * change, content.size()));
        const std::uint64_t value = random_below(stream, 16 * i + 2 + 2 * change, 259);
        // A bit flipped, a byte of any value, or an extreme.
        content[place] = value < 8      ? static_cast<char>(content[place] ^ (1 << value))
                         : value < 256  ? static_cast<char>(value)
                         : value == 256 ? '\xFF'
                                        : '\0';
      }
      attempt(content);
    }
    EXPECT_GE(refused, at_least);
    RecordProperty("refused", refused);
    RecordProperty("accepted", accepted);
  }

  DatasetSpec spec(const std::string& kind, const std::string& name) {
    DatasetSpec result;
    result.kind = kind;
    result.path = (folder_ / name).string();
    return result;
  }

  TemporaryFolder folder_;
};

}  // namespace tenfold::test
