#include "datasets/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>
#include <thread>

#include "tests/datasets/test_files.h"

namespace tenfold {
namespace {

using test::error_of;
using test::little;
using testing::HasSubstr;

template <class T>
TensorView view(const char* dtype, std::vector<std::int64_t> shape, const std::vector<T>& values) {
  return {dtype, std::move(shape), std::as_bytes(std::span<const T>(values))};
}

std::string file_of(const std::string& header, const std::string& data) {
  return little(header.size(), 8) + header + data;
}

TEST(Safetensors, ComesBackAsItWasWritten) {
  const test::TemporaryFolder folder;
  const std::vector<float> floats{1.5f, -2, 3, 4, 5, 6};
  const std::vector<std::int64_t> integers{-1, 1LL << 40};
  const std::vector<std::uint8_t> bytes{7, 8, 9};
  const auto file = folder / "a.safetensors";
  const Digest digest = write_safetensors(file,
                                          {{"b", view("U8", {3}, bytes)},
                                           {"w", view("F32", {2, 3}, floats)},
                                           {"n", view("I64", {2}, integers)},
                                           {"empty", view("F32", {0, 4}, std::vector<float>{})},
                                           {"scalar", view("F32", {}, std::vector<float>{0.5f})}},
                                          {{"step", "12"}, {"text", "ä\"\n"}});
  EXPECT_EQ(digest, sha256_file(file));
  const SafetensorsFile stored = SafetensorsFile::open(file);
  EXPECT_EQ(stored.metadata(), (std::map<std::string, std::string>{{"step", "12"}, {"text", "ä\"\n"}}));
  EXPECT_THAT(stored.floats("w"), testing::ElementsAreArray(floats));
  EXPECT_THAT(stored.integers("n"), testing::ElementsAreArray(integers));
  EXPECT_EQ(stored.tensor("w").shape, (std::vector<std::int64_t>{2, 3}));
  EXPECT_EQ(stored.tensor("empty").shape, (std::vector<std::int64_t>{0, 4}));
  EXPECT_THAT(stored.floats("scalar"), testing::ElementsAre(0.5f));
  EXPECT_EQ(stored.tensors().size(), 5u);
  std::uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, test::read_all(file).data(), 8);
  EXPECT_EQ((8 + header_bytes) % 64, 0u);
}

// Trainers of one machine may make the same cache: a reader never sees half a file.
TEST(Safetensors, WritersOfOneNameDoNotDisturbEachOtherOrReaders) {
  const test::TemporaryFolder folder;
  const auto file = folder / "a.safetensors";
  const std::vector<float> floats(5000, 1.25f);
  const auto write = [&] { write_safetensors(file, {{"w", view("F32", {5000}, floats)}}, {}, false); };
  write();
  {
    std::vector<std::jthread> threads;
    for (int writer = 0; writer < 3; ++writer)
      threads.emplace_back([&] {
        for (int i = 0; i < 20; ++i) write();
      });
    threads.emplace_back([&] {
      for (int i = 0; i < 60; ++i) EXPECT_EQ(SafetensorsFile::open(file).floats("w").back(), 1.25f);
    });
  }
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 1);
}

TEST(Safetensors, ViewsOutliveTheObject) {
  const test::TemporaryFolder folder;
  const std::vector<float> floats{1, 2, 3};
  write_safetensors(folder / "a", {{"w", view("F32", {3}, floats)}}, {});
  std::shared_ptr<const void> mapping;
  std::span<const float> values;
  {
    const SafetensorsFile stored = SafetensorsFile::open(folder / "a");
    mapping = stored.mapping();
    values = stored.floats("w");
  }
  std::filesystem::remove(folder / "a");
  EXPECT_THAT(values, testing::ElementsAreArray(floats));
}

TEST(Safetensors, ReplacesAFileAsAWholeAndLeavesNothingBeside) {
  const test::TemporaryFolder folder;
  const std::vector<float> floats{1};
  write_safetensors(folder / "a", {{"w", view("F32", {1}, floats)}}, {});
  write_safetensors(folder / "a", {{"v", view("F32", {1}, floats)}}, {}, false);
  EXPECT_TRUE(SafetensorsFile::open(folder / "a").tensors().contains("v"));
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 1);
}

TEST(Safetensors, TellsWhereItCannotWrite) {
  const test::TemporaryFolder folder;
  const std::string message = error_of(ErrorKind::storage, [&] { write_safetensors(folder / "no/such/a", {}, {}); });
  EXPECT_THAT(message, HasSubstr("no/such/a"));
  EXPECT_THAT(message, HasSubstr("No such file"));
}

TEST(Safetensors, WrongTypeAndNameAreToldWithTheFile) {
  const test::TemporaryFolder folder;
  const std::vector<float> floats{1};
  write_safetensors(folder / "a", {{"w", view("F32", {1}, floats)}}, {});
  const SafetensorsFile stored = SafetensorsFile::open(folder / "a");
  EXPECT_THAT(error_of(ErrorKind::data, [&] { stored.integers("w"); }), HasSubstr("'w' is F32 where I64"));
  EXPECT_THAT(error_of(ErrorKind::data, [&] { stored.tensor("x"); }), HasSubstr("holds no tensor 'x'"));
  EXPECT_THAT(error_of(ErrorKind::data, [&] { SafetensorsFile::open(folder / "b"); }), HasSubstr("No such file"));
  EXPECT_THAT(error_of(ErrorKind::data, [&] { SafetensorsFile::open(folder.path()); }), HasSubstr("is a folder"));
}

TEST(Safetensors, RefusesUnsoundFiles) {
  const test::TemporaryFolder folder;
  const std::string data(16, '\0');
  const auto entry = [](const std::string& name, const std::string& shape, int begin, int end) {
    std::ostringstream text;
    text << '"' << name << R"(":{"dtype":"F32","shape":)" << shape << R"(,"data_offsets":[)" << begin << ',' << end
         << "]}";
    return text.str();
  };
  const std::string open = "{";
  const std::pair<std::string, std::string> cases[] = {
      {"", "shorter than 8 bytes"},
      {little(200'000'000, 8), "header claims"},
      {little(UINT64_MAX, 8), "header claims"},
      {little(100, 8) + "{}", "ends inside its header"},
      {file_of("[]", ""), "not a JSON object"},
      {file_of("{", ""), "not JSON"},
      {file_of("{\"a\":[[[[[[1]]]]]]}", ""), "nested too deeply"},
      {file_of(open + entry("a", "[4]", 0, 20) + "}", data), "lies outside the file"},
      {file_of(open + entry("a", "[4]", 16, 0) + "}", data), "lies outside the file"},
      {file_of(open + entry("a", "[3]", 0, 16) + "}", data), "its shape needs 12"},
      {file_of(open + entry("a", "[-4]", 0, 16) + "}", data), "not a whole number"},
      {file_of(open + entry("a", "[4294967296,4294967296,4]", 0, 16) + "}", data), "too large a shape"},
      {file_of(open + entry("a", "[2]", 0, 8) + "," + entry("b", "[3]", 4, 16) + "}", data), "overlaps"},
      {file_of(open + entry("a", "[1]", 0, 4) + "," + entry("b", "[2]", 8, 16) + "}", data), "gap before tensor 'b'"},
      {file_of(open + entry("a", "[2]", 0, 8) + "}", data), "belong to no tensor"},
      {file_of(open + entry("a", "[4]", 0, 16) + "," + entry("a", "[4]", 0, 16) + "}", data), "'a' is there twice"},
      {file_of("{\"a\":{\"dtype\":\"F12\",\"shape\":[4],\"data_offsets\":[0,16]}}", data), "unknown dtype"},
      {file_of("{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,16]}}", data), "lacks dtype, shape"},
      {file_of("{\"__metadata__\":{\"a\":1}}", ""), "'a' is not a text"},
  };
  for (const auto& [content, told] : cases) {
    const std::string file = folder.write("bad", content);
    const std::string message = error_of(ErrorKind::data, [&] { SafetensorsFile::open(file); });
    EXPECT_THAT(message, HasSubstr(told));
    EXPECT_THAT(message, HasSubstr(file));
  }
}

TEST(Safetensors, UnalignedDataAreRefusedAsNumbersButReadableAsBytes) {
  const test::TemporaryFolder folder;
  std::string header = "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}";
  while (header.size() % 4 != 1) header += ' ';
  const SafetensorsFile stored = SafetensorsFile::open(folder.write("a", file_of(header, "abcd")));
  EXPECT_EQ(stored.tensor("a").data.size(), 4u);
  EXPECT_THAT(error_of(ErrorKind::data, [&] { stored.floats("a"); }), HasSubstr("write the file anew"));
}

}  // namespace
}  // namespace tenfold
