// Where the program finds what it ships and keeps what it makes.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "base/result.h"

namespace pd::cli {

// This program's own file.
std::filesystem::path program_path();

// `model` as given by the user: a folder, a .gguf file, or the name of a model that ships
// ("stories260K"). Errors name what was looked for and where.
Result<std::filesystem::path> find_model(std::string_view model);

// Where packed weights are kept: ~/.cache/pdserve, or a folder of this user's under the temporary
// one.
std::filesystem::path default_weights_directory();

// Writes a file that only this user can read, whole or not at all.
Status write_private_file(const std::filesystem::path& path, std::string_view content);

// 64 bits from the system's generator: boot ids, secrets, seeds.
std::uint64_t random_bits();

}  // namespace pd::cli
