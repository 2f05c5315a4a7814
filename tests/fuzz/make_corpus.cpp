#include <archive.h>
#include <archive_entry.h>
#include <sndfile.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <stdexcept>

#include "datasets/dataset.h"
#include "runner/messages.h"
#include "tests/datasets/sound_files.h"
#include "tests/datasets/test_files.h"
#include "tests/fuzz/make_sequence_files.h"
#include "trainer/protocol.h"
#include "trainer/protocol_diagnose.h"

// Writes the sound inputs that are binary (those that are text are written by hand): fuzz_make_corpus FOLDER
namespace tenfold::fuzz {
namespace {

using test::npy;
using test::raw;

class Corpus {
 public:
  explicit Corpus(std::filesystem::path folder) : folder_(std::move(folder)) {}
  std::filesystem::path of(const std::string& target) const {
    std::filesystem::create_directories(folder_ / target);
    return folder_ / target;
  }
  void write(const std::string& target, const std::string& name, const std::string& content) const {
    std::ofstream out(of(target) / name, std::ios::binary);
    if (!(out << content).flush()) throw std::runtime_error("cannot write " + target + "/" + name);
  }

 private:
  std::filesystem::path folder_;
};

std::string texts(std::initializer_list<const char*> values, std::size_t width) {
  std::vector<std::uint32_t> letters;
  for (const char* value : values)
    for (std::size_t i = 0; i < width; ++i)
      letters.push_back(i < std::string_view(value).size() ? static_cast<std::uint32_t>(value[i]) : 0);
  return raw(letters);
}

void make_arrays(const Corpus& corpus) {
  const std::string rows = npy("<f4", "(4, 2)", raw<float>({1, 2, 3, 4, 5, 6, 7, 8}));
  const std::string classes = npy("<i8", "(4,)", raw<std::int64_t>({0, 1, 0, 1}));
  corpus.write("npy", "sound_rows.npy", rows);
  corpus.write("npy", "sound_columns.npy", npy(">f8", "(4, 2)", raw<double>({1, 2, 3, 4, 5, 6, 7, 8}), true));
  corpus.write("npy", "sound_images.npy", npy("<f2", "(4, 1, 2, 2)", std::string(2 * 16, '\0')));
  corpus.write("npy", "sound_labels.npy", classes);
  corpus.write("npy", "sound_texts.npy", npy("<U3", "(4,)", texts({"cat", "dog", "cat", "a"}, 3)));
  corpus.write("npy", "sound_bytes.npy", npy("|S2", "(4,)", std::string("aabbaab\0", 8)));
  corpus.write("npy", "sound_flags.npy", npy("|b1", "(4,)", std::string("\0\1\1\0", 4)));
  for (const bool zip64 : {false, true})
    corpus.write("npz", zip64 ? "sound_zip64.npz" : "sound.npz",
                 test::zip({{"x.npy", rows, true, zip64}, {"y.npy", classes, false, zip64}}));
  corpus.write("npz", "sound_ragged.npz",
               test::zip({{"x.npy", npy("<f4", "(5, 2)", raw<float>({1, 2, 3, 4, 5, 6, 7, 8, 9, 10})), true},
                          {"y.npy", npy("<i4", "(5,)", raw<std::int32_t>({0, 1, -1, 1, 0})), true},
                          {"groups.npy", npy("<u1", "(2,)", "ab"), false},
                          {"offsets.npy", npy("<i8", "(3,)", raw<std::int64_t>({0, 3, 5})), false}}));
  const std::string images = test::idx(0x08, {4, 2, 2}, "abcdefghijklmnop");
  corpus.write("idx", "sound_images.idx", images);
  corpus.write("idx", "sound_images.idx.gz", test::gzipped(images));
  corpus.write("idx", "sound_labels.idx", test::idx(0x08, {4}, std::string("\1\2\1\2", 4)));
  corpus.write("idx", "sound_floats.idx", test::idx(0x0D, {4, 3}, std::string(48, '\0')));
  corpus.write("csv", "sound.csv.gz", test::gzipped("a,b,label\n1,2,x\n3,4,y\n5,6,x\n"));

  const Dataset data({{2}, {1, 2, 3, 4, 5, 6}, {0, 1, 0}, {4, 4, 9}, {-1, 0, 1}, {"no", "yes"}, {false, true}});
  test::TemporaryFolder folder;
  corpus.write("safetensors", "sound_cache.safetensors", test::read_all(write_cached_dataset(data, folder.path())));
  const auto tensors = [](std::string header, const std::string& content) {
    return test::little(header.size(), 8) + header + content;
  };
  corpus.write("safetensors", "sound_small.safetensors",
               tensors(R"({"w":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]},)"
                       R"("b":{"dtype":"I64","shape":[],"data_offsets":[8,16]},"__metadata__":{"format":"pt"}})",
                       std::string(16, 'x')));
}

std::string flac() {
  test::TemporaryFolder folder;
  const std::string path = (folder / "x.flac").string();
  SF_INFO info{};
  info.samplerate = 8000;
  info.channels = 1;
  info.format = SF_FORMAT_FLAC | SF_FORMAT_PCM_16;
  SNDFILE* const file = sf_open(path.c_str(), SFM_WRITE, &info);
  if (file == nullptr) throw std::runtime_error("libsndfile cannot write flac");
  const std::vector<float> samples = test::sine(300, 8000, 400, 0.5);
  sf_write_float(file, samples.data(), static_cast<sf_count_t>(samples.size()));
  sf_close(file);
  return test::read_all(path);
}

std::string with_filter(const std::vector<std::pair<std::string, std::string>>& files, int filter, int format) {
  std::string out(std::size_t{1} << 16, '\0');
  std::size_t used = 0;
  archive* const made = archive_write_new();
  archive_write_add_filter(made, filter);
  archive_write_set_format(made, format);
  archive_write_set_bytes_in_last_block(made, 1);
  archive_write_open_memory(made, out.data(), out.size(), &used);
  for (const auto& [name, content] : files) {
    archive_entry* const entry = archive_entry_new();
    archive_entry_set_pathname(entry, name.c_str());
    archive_entry_set_size(entry, static_cast<la_int64_t>(content.size()));
    archive_entry_set_filetype(entry, AE_IFREG);
    archive_entry_set_perm(entry, 0644);
    if (archive_write_header(made, entry) != ARCHIVE_OK) throw std::runtime_error(archive_error_string(made));
    archive_write_data(made, content.data(), content.size());
    archive_entry_free(entry);
  }
  archive_write_close(made);
  archive_write_free(made);
  return out.substr(0, used);
}

void make_sound(const Corpus& corpus) {
  const std::string sound = test::wav_of_sine(500, 250);
  corpus.write("wav", "sound_16.wav", sound);
  corpus.write("wav", "sound_stereo.wav", test::wav16(8000, std::vector<std::int16_t>(40, 1000), 2));
  corpus.write("wav", "sound_floats.wav", test::wav(8000, 1, 3, 32, raw<float>({0.5f, -0.5f, 0.25f})));
  corpus.write("wav", "sound_8.wav", test::wav(8000, 1, 1, 8, "abcdefgh"));
  corpus.write("wav", "sound.flac", flac());

  const std::vector<std::pair<std::string, std::string>> files = {{"s/a_x_0.wav", test::wav_of_sine(500, 50)},
                                                                  {"s/notes.txt", "some"},
                                                                  {"s/b_y_0.wav", test::wav_of_sine(700, 60)}};
  std::vector<test::TarEntry> entries;
  for (const auto& [name, content] : files) entries.push_back({name, content});
  corpus.write("tar", "sound.tar", test::tar(entries));
  corpus.write("tar", "sound.tar.gz", with_filter(files, ARCHIVE_FILTER_GZIP, ARCHIVE_FORMAT_TAR_USTAR));
  corpus.write("tar", "sound.tar.xz", with_filter(files, ARCHIVE_FILTER_XZ, ARCHIVE_FORMAT_TAR_USTAR));
  corpus.write("tar", "sound.tar.bz2", with_filter(files, ARCHIVE_FILTER_BZIP2, ARCHIVE_FORMAT_TAR_USTAR));
  corpus.write("tar", "sound.tar.zst", with_filter(files, ARCHIVE_FILTER_ZSTD, ARCHIVE_FORMAT_TAR_USTAR));
  const std::string deep = "s/" + std::string(120, 'd') + "/";
  std::vector<std::pair<std::string, std::string>> long_names;
  for (const auto& [name, content] : files) long_names.emplace_back(deep + name.substr(2), content);
  corpus.write("tar", "sound_gnu.tar", with_filter(long_names, ARCHIVE_FILTER_NONE, ARCHIVE_FORMAT_TAR_GNUTAR));
  corpus.write("tar", "sound_pax.tar",
               with_filter(long_names, ARCHIVE_FILTER_NONE, ARCHIVE_FORMAT_TAR_PAX_INTERCHANGE));
}

void make_tokens(const Corpus& corpus) {
  corpus.write("tokens", "sound_u4.npy", npy("<u4", "(6,)", raw<std::uint32_t>({1, 2, 3, 4, 5, 299})));
  corpus.write("tokens", "sound_i8.npy", npy(">i8", "(2,)", test::raw<std::uint64_t>({0, std::uint64_t{7} << 56})));
  corpus.write("tokens", "sound_u1.npy", npy("|u1", "(40,)", std::string(40, 'q')));
  std::vector<test::Piece> pieces = {{"<unk>", 0, 2}, {"<s>", 0, 3}, {"</s>", 0, 3}};
  for (const char* piece : {"to", "be", "or", "not", "t", "o", "b", "e", "r", "n", "\xE2\x96\x81"})
    pieces.push_back({piece, -1.0f - static_cast<float>(pieces.size()), 1});
  corpus.write("sentencepiece", "sound_unigram.model", test::sentence_piece_model(pieces));
}

ArrayJob some_job() {
  ArrayJob job;
  job.stage = Stage::adapt;
  job.configurations = {"{}", R"({"name":"x"})"};
  JobMember member;
  member.unit = 7;
  member.configuration = 1;
  member.fold = 3;
  member.resume = CheckpointRef{"/c/a-1.safetensors", 2, 40, std::string(64, 'a')};
  member.fit = CheckpointRef{"/c/f-1.safetensors", 0, 100, std::string(64, 'b')};
  member.rate_scale = 0.5;
  job.members = {JobMember{}, member};
  job.fingerprint = std::string(64, 'c');
  job.checkpoint_folder = "/c";
  job.cache_folder = "/k";
  job.array = "a-1";
  job.group = {1, 2, "node", false};
  return job;
}

template <class Row>
std::string block(std::vector<Row> rows) {
  return encode_frame(FrameType::rows, 1, encode_rows<Row>(RowKindOf<Row>::value, 0, rows));
}

void make_frames(const Corpus& corpus) {
  corpus.write("frames", "sound_job", encode_frame(FrameType::job, 3, encode(some_job())));
  corpus.write("frames", "sound_notices",
               encode_frame(FrameType::ready, 0, encode(ReadyNotice{12, "cpu", "2.11.0", 1 << 30})) +
                   encode_frame(FrameType::heartbeat, 3, encode(Progress{4, 50, 12.5, 0.5, 0.25, 0.125})) +
                   encode_frame(FrameType::checkpoint, 3,
                                encode(CheckpointNotice{"/c/a", 40, std::string(64, 'd'), 1000, true, {0, 1}})) +
                   encode_frame(FrameType::member_done, 3,
                                encode(MemberOutcome{1, TrialStatus::failed, "why", false, true, 50, 1.5, 4096})) +
                   encode_frame(FrameType::failure, 3, encode(FailureNotice{"device", "out of memory"})) +
                   encode_frame(FrameType::meeting, 3, encode(GroupAddress{"127.0.0.1:7"})) +
                   encode_frame(FrameType::job_done, 3, "{}") + encode_frame(FrameType::drain, 3, ""));
  corpus.write("frames", "sound_rows",
               block<TrainStepRow>({{}, {}}) + block<TttStepRow>({{}}) + block<EvaluationRow>({{}}) +
                   block<InnerLossRow>({{}}) + block<GateRow>({{}}) + block<PositionLossRow>({{}}) +
                   block<GroupStepRow>({{}}));

  const auto chunked = [](const std::vector<Message>& messages) {
    ChunkWriter writer;
    std::string chunks;
    for (const Message& message : messages) {
      writer.add(message);
      const std::string chunk = writer.take();
      chunks += test::little(chunk.size(), 2) + chunk;
    }
    return chunks;
  };
  WorkerIntroduction introduction;
  introduction.host = "node";
  introduction.pid = 12;
  introduction.device = "cpu";
  introduction.slot = 1;
  introduction.log = "/l/1.log";
  corpus.write("messages", "sound_hello",
               chunked({{MessageKind::hello, {}, 0, encode(introduction)}, {MessageKind::heartbeat, {}, 0, ""}}));
  corpus.write("messages", "sound_frames",
               chunked({{MessageKind::frame, FrameType::heartbeat, 5, encode(Progress{1, 2, 3, 4, 5, 6})},
                        {MessageKind::trainer_lost, {}, 5, R"({"reason":"killed","dispatch":5})"}}));

  DiagnosedLayer layer;
  layer.kind = "mlp";
  layer.l0 = {1, 0.5};
  layer.lprev = {1, 0.4};
  layer.lafter = {0.9, 0.3};
  layer.gate_mean_abs = 0.1;
  DiagnoseResult result;
  result.layers = {layer};
  result.model.kind = "ttt_lm";
  result.model.layers = 2;
  result.model.position_loss = {5.5, 5.25};
  result.model.token_classes = {{"speech", 0.5, 0.25, 1.5}};
  result.model.missing = {"layers.1.w"};
  corpus.write("diagnosis", "sound_result.json", encode(result));
  DiagnoseJob job;
  job.checkpoint = "/c/a.safetensors";
  job.configuration = "{}";
  job.sample_shape = {64};
  job.classes = 10;
  job.fingerprint = std::string(64, 'c');
  job.cache_folder = "/k";
  job.output = "/o/result.json";
  corpus.write("diagnosis", "sound_job.json", encode(job));
}

void make_all(const Corpus& corpus) {
  make_arrays(corpus);
  make_sound(corpus);
  make_tokens(corpus);
  make_frames(corpus);
  make_hdf5_files(corpus.of("hdf5"));
  make_mat_files(corpus.of("mat"));
}

}  // namespace
}  // namespace tenfold::fuzz

int main(int count, char** arguments) {
  if (count != 2) {
    std::fprintf(stderr, "usage: %s FOLDER\n", arguments[0]);
    return 2;
  }
  try {
    tenfold::fuzz::make_all(tenfold::fuzz::Corpus(arguments[1]));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}
