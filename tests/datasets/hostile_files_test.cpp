#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>

#include "datasets/dataset.h"
#include "datasets/safetensors.h"
#include "tests/datasets/file_attack.h"
#include "tests/datasets/test_files.h"

namespace tenfold {
namespace {

using test::npy;
using test::raw;

using HostileFiles = test::FileAttack;

std::string samples_npy() { return npy("<f8", "(6, 2)", raw<double>({1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}), true); }
std::string labels_npy() {
  return npy("<U3", "(6,)",
             raw<std::uint32_t>({'a', 'b', 0, 'a', 'b', 0, 'c', 0, 0, 'c', 0, 0, 'd', 'e', 'f', 'c', 0, 0}));
}

TEST_F(HostileFiles, Csv) {
  DatasetSpec csv = spec("csv", "d.csv");
  csv.label_column = "label";
  csv.group_column = "who";
  attack("d.csv",
         "\xEF\xBB\xBFsize,\"the colour\",who,label\r\n1.5,red,a,x\r\n-2e3,\"dark "
         "\"\"red\"\"\",b,y\r\n7,\"two\r\nlines\",a,x\r\n0,red,c,y\r\n",
         [&] { load_dataset(csv); });
}

TEST_F(HostileFiles, GzippedCsv) {
  DatasetSpec csv = spec("csv", "d.csv.gz");
  csv.label_column = "y";
  std::string content = "a,b,y\n";
  for (int i = 0; i < 50; ++i) content += std::to_string(i * i % 37) + ".5,red," + std::to_string(i % 3) + "\n";
  attack("d.csv.gz", test::gzipped(content), [&] { load_dataset(csv); });
}

TEST_F(HostileFiles, NpySamplesAndLabels) {
  DatasetSpec arrays = spec("npy", "x.npy");
  arrays.labels = folder_.write("y.npy", labels_npy());
  attack("x.npy", samples_npy(), [&] { load_dataset(arrays); });
  folder_.write("x.npy", samples_npy());
  attack("y.npy", labels_npy(), [&] { load_dataset(arrays); });
}

TEST_F(HostileFiles, Npz) {
  const DatasetSpec archive = spec("npz", "d.npz");
  for (const bool zip64 : {false, true})
    attack("d.npz", test::zip({{"x.npy", samples_npy(), true, zip64}, {"y.npy", labels_npy(), false, zip64}}),
           [&] { load_dataset(archive); });
}

TEST_F(HostileFiles, Idx) {
  DatasetSpec images = spec("idx", "images");
  images.labels = folder_.write("labels", test::idx(0x08, {4}, std::string("\1\2\1\2", 4)));
  const std::string sound = test::idx(0x08, {4, 2, 2}, "abcdefghijklmnop");
  attack("images", sound, [&] { load_dataset(images); });
  attack("images", test::gzipped(sound), [&] { load_dataset(images); });
}

TEST_F(HostileFiles, SafetensorsAndCachedDatasets) {
  const Dataset data({{2}, {1, 2, 3, 4, 5, 6}, {0, 1, 0}, {4, 4, 9}, {-1, 0, 1}, {"no", "yes"}, {false, true}});
  const auto file = write_cached_dataset(data, folder_.path());
  const std::string sound = test::read_all(file);
  // Nothing but the data as they were may come out of the cache.
  attack("cache.safetensors", sound, [&] {
    const Dataset read = read_cached_dataset(folder_ / "cache.safetensors");
    EXPECT_EQ(read.fingerprint(), data.fingerprint());
  });
  attack("plain.safetensors", sound, [&] {
    const SafetensorsFile stored = SafetensorsFile::open(folder_ / "plain.safetensors");
    unsigned sum = 0;
    for (const auto& [name, tensor] : stored.tensors())
      for (const std::byte byte : tensor.data) sum += std::to_integer<unsigned>(byte);
    EXPECT_GT(sum, 0u);
  });
}

// A few kilobytes that inflate to gigabytes are stopped at what the header asks for.
TEST_F(HostileFiles, DecompressionBombs) {
  std::string content = test::idx(0x08, {4, 2, 2}, std::string(100'000'000, '\0'));
  DatasetSpec images = spec("idx", "images");
  folder_.write("images", test::gzipped(content));
  images.labels = folder_.write("labels", test::idx(0x08, {4}, std::string("\1\2\1\2", 4)));
  const std::string message = test::error_of(ErrorKind::data, [&] { load_dataset(images); });
  EXPECT_NE(message.find("inflates to more than the 32 bytes"), std::string::npos) << message;
}

// A table of a few megabytes whose categories would take 100 GiB as 0/1 features.
TEST_F(HostileFiles, CategoriesThatFillTheMemory) {
  if (static_cast<double>(::sysconf(_SC_PHYS_PAGES)) * static_cast<double>(::sysconf(_SC_PAGESIZE)) > 100e9)
    GTEST_SKIP() << "this machine has the memory";
  std::string content = "a,b,c,d,e,f,g,h,y\n";
  for (int row = 0; row < 60'000; ++row) {
    for (int column = 0; column < 8; ++column) content += std::to_string(row) + ",";
    content += row % 2 == 0 ? "x\n" : "z\n";
  }
  DatasetSpec csv = spec("csv", "d.csv");
  folder_.write("d.csv", content);
  csv.label_column = "y";
  csv.categorical_columns = {"a", "b", "c", "d", "e", "f", "g", "h"};
  const std::string message = test::error_of(ErrorKind::data, [&] { load_dataset(csv); });
  EXPECT_NE(message.find("d.csv: takes 107 GiB of memory"), std::string::npos) << message;
}

}  // namespace
}  // namespace tenfold
