#include "cli/console.h"

namespace pd::cli {

void put(std::FILE* file, std::string_view text) {
  (void)std::fwrite(text.data(), 1, text.size(), file);
  (void)std::fflush(file);
}

}  // namespace pd::cli
