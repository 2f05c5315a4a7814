#pragma once

#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>

#include "datasets/dataset.h"
#include "experiments/error.h"
#include "experiments/unique_fd.h"

namespace tenfold {

// What one process read for another, through a stream socket. The values of a SampleStore are handed over as they
// lie, without a copy.
void send_parts(int socket, const Dataset::Parts& parts);
void send_error(int socket, const Error& error);

// The sender is not trusted. Throws what was sent as an error; nothing where the sender ended before it was through.
std::optional<Dataset::Parts> receive_parts(int socket, const std::string& name);

}  // namespace tenfold
