#include <algorithm>
#include <exception>
#include <iostream>
#include <new>
#include <string>

#include "experiments/error.h"
#include "runner/command_line.h"

namespace {

// Problems of an experiment file stand as `file:line:column: ...`, one a line, as editors and CI read them; every other
// message says who speaks.
void print_error(const std::string& message) {
  const bool is_list = message.find('\n') != std::string::npos;
  const auto first_space = message.find(' ');
  const bool has_place = first_space != std::string::npos && first_space > 0 && message[first_space - 1] == ':' &&
                         std::count(message.begin(), message.begin() + static_cast<long>(first_space), ':') >= 2;
  std::cerr << (is_list || has_place ? "" : "tenfold: ") << message << '\n';
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return tenfold::run_command_line(argc, argv);
  } catch (const tenfold::Error& error) {
    print_error(error.what());
    return tenfold::exit_code(error.kind());
  } catch (const std::bad_alloc&) {
    print_error("out of memory: run fewer slots (--slots) or smaller arrays (--set resources.max_array=N)");
    return tenfold::exit_code(tenfold::ErrorKind::device);
  } catch (const std::exception& error) {
    print_error(std::string("internal error: ") + error.what());
    return tenfold::exit_code(tenfold::ErrorKind::internal);
  } catch (...) {
    print_error("internal error: an exception of an unknown type");
    return tenfold::exit_code(tenfold::ErrorKind::internal);
  }
}
