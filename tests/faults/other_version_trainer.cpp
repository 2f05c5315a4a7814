// A trainer of a later build: it says ready in a protocol that this one does not know.
#include <sys/socket.h>
#include <unistd.h>

#include <string>

#include "trainer/protocol.h"

int main() {
  std::string frame = tenfold::encode_frame(tenfold::FrameType::ready, 0, "{}");
  frame[4] = static_cast<char>(frame[4] + 1);  // FrameHeader::version
  char rest[256];
  if (::send(3, frame.data(), frame.size(), MSG_NOSIGNAL) < 0) return 1;
  while (::recv(3, rest, sizeof rest, 0) > 0) {
  }
  return 0;
}
