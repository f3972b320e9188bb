// The packed image on disk: found, or packed once by whoever comes first.
#pragma once

#include <filesystem>
#include <functional>

#include "base/mapped_file.h"
#include "base/result.h"
#include "engine/weights_image.h"

namespace pd::engine {

// Maps `directory`/NAME, NAME from (weights digest, type, version); packs it first if it is not
// there or is not the image that `plan` describes. `on_bytes` is told the bytes written so far.
// Processes that call this at once pack once: the others wait for the lock's holder, and take over
// if it dies. Errors as Weights::open.
Result<MappedFile> open_packed_image(const model::Checkpoint& checkpoint, const ImagePlan& plan,
                                     const std::filesystem::path& directory,
                                     const std::function<void(std::int64_t)>& on_bytes);

// kTooLarge, with both numbers, if the machine has less than `bytes` of memory available.
Status check_memory(std::int64_t bytes);

}  // namespace pd::engine
