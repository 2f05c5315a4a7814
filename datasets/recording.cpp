#include "datasets/recording.h"

#include <sndfile.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string_view>

#include "experiments/error.h"

namespace tenfold {
namespace {

constexpr sf_count_t kBlockFrames = 4096;
constexpr std::size_t kMostSamples = std::size_t{1} << 31;  // 12 hours at 48 kHz; flac packs silence 1 to 1000s
constexpr int kMostChannels = 256;

[[noreturn]] void fail(const std::string& name, const std::string& what) {
  throw Error(ErrorKind::data, name + ": " + what);
}

// What libsndfile reads from, through its virtual files.
struct Source {
  std::span<const std::byte> bytes;
  sf_count_t at = 0;
  sf_count_t size() const { return static_cast<sf_count_t>(bytes.size()); }
};

Source& source_of(void* data) { return *static_cast<Source*>(data); }

sf_count_t seek_in(sf_count_t offset, int whence, void* data) {
  Source& source = source_of(data);
  const sf_count_t base = whence == SEEK_SET ? 0 : whence == SEEK_CUR ? source.at : source.size();
  if (offset < -base || offset > source.size() - base) return -1;
  return source.at = base + offset;
}

sf_count_t read_from(void* to, sf_count_t count, void* data) {
  Source& source = source_of(data);
  count = std::clamp<sf_count_t>(count, 0, source.size() - source.at);
  if (count > 0) std::memcpy(to, source.bytes.data() + source.at, static_cast<std::size_t>(count));
  source.at += count;
  return count;
}

SF_VIRTUAL_IO memory_io() {
  return {.get_filelen = [](void* data) { return source_of(data).size(); },
          .seek = seek_in,
          .read = read_from,
          .write = [](const void*, sf_count_t, void*) -> sf_count_t { return 0; },
          .tell = [](void* data) { return source_of(data).at; }};
}

struct CloseSound {
  void operator()(SNDFILE* file) const { sf_close(file); }
};

// libsndfile knows two dozen formats more, among them old and rarely read ones: what is called .wav or .flac is to be
// that.
void require_wav_or_flac(std::span<const std::byte> bytes, const std::string& name) {
  const auto begins = [&](std::size_t at, std::string_view with) {
    return bytes.size() >= at + with.size() && std::memcmp(bytes.data() + at, with.data(), with.size()) == 0;
  };
  const bool wav = (begins(0, "RIFF") || begins(0, "RIFX") || begins(0, "RF64")) && begins(8, "WAVE");
  if (!wav && !begins(0, "fLaC"))
    fail(name, "is neither a wav nor a flac file, whatever its name says; convert it, for example with ffmpeg");
}

// libsndfile reads a wav file that is shorter than it says without a word. Sizes of 0 and 2^32 - 1 are those of
// programs that write to a pipe and cannot go back to fill them in.
void require_whole_riff(std::span<const std::byte> bytes, const std::string& name) {
  if (bytes.size() < 12 || std::memcmp(bytes.data(), "RIFF", 4) != 0) return;
  std::uint32_t claimed = 0;
  std::memcpy(&claimed, bytes.data() + 4, sizeof claimed);
  if (claimed != 0 && claimed != 0xFFFFFFFFu && std::uint64_t{claimed} + 8 > bytes.size())
    fail(name, "is cut off: it says that it has " + std::to_string(std::uint64_t{claimed} + 8) + " bytes, and has " +
                   std::to_string(bytes.size()) + "; fetch it again");
}

}  // namespace

std::vector<float> read_recording(std::span<const std::byte> bytes, int sample_rate, const std::string& name) {
  if (bytes.empty()) fail(name, "is empty");
  require_wav_or_flac(bytes, name);
  require_whole_riff(bytes, name);
  Source source{bytes};
  SF_VIRTUAL_IO io = memory_io();
  SF_INFO info{};
  const std::unique_ptr<SNDFILE, CloseSound> file(sf_open_virtual(&io, SFM_READ, &info, &source));
  if (file == nullptr) fail(name, std::string("cannot be read as sound: ") + sf_strerror(nullptr));
  if (info.samplerate != sample_rate)
    fail(name, "has " + std::to_string(info.samplerate) + " samples a second where dataset.sample_rate is " +
                   std::to_string(sample_rate) + "; set the key to what the files have, or convert the file");
  if (info.channels < 1 || info.channels > kMostChannels)
    fail(name, "has " + std::to_string(info.channels) + " channels, which cannot be meant");

  std::vector<float> mono, block(static_cast<std::size_t>(kBlockFrames) * static_cast<std::size_t>(info.channels));
  for (;;) {
    const sf_count_t got = sf_readf_float(file.get(), block.data(), kBlockFrames);
    if (got <= 0) break;
    const auto channels = static_cast<std::size_t>(info.channels);
    for (std::size_t i = 0; i < static_cast<std::size_t>(got); ++i) {
      double sum = 0;
      for (std::size_t c = 0; c < channels; ++c) sum += static_cast<double>(block[i * channels + c]);
      if (!std::isfinite(sum)) fail(name, "sample " + std::to_string(mono.size()) + " (from 0) is not finite");
      mono.push_back(static_cast<float>(sum / static_cast<double>(channels)));
    }
    if (mono.size() > kMostSamples)
      fail(name, "has more than the " + std::to_string(kMostSamples) + " samples that one recording may have; cut it");
  }
  if (sf_error(file.get()) != SF_ERR_NO_ERROR)
    fail(name,
         std::string("is damaged: ") + sf_strerror(file.get()) + " after " + std::to_string(mono.size()) + " samples");
  if (mono.empty()) fail(name, "holds no samples");
  if (info.frames > 0 && info.frames < SF_COUNT_MAX && static_cast<sf_count_t>(mono.size()) < info.frames)
    fail(name, "is cut off: it holds " + std::to_string(mono.size()) + " of its " + std::to_string(info.frames) +
                   " samples; fetch it again");
  return mono;
}

}  // namespace tenfold
