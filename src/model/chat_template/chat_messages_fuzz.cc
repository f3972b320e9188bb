// What a request brings (messages, chat_template_kwargs) through the templates of vendors: the
// first byte says which, the rest is {"messages": ..., and the options}. Whatever a client sends,
// the template renders or refuses it within its bounds, and the text is valid UTF-8.
#include <algorithm>
#include <filesystem>
#include <vector>

#include "base/check.h"
#include "base/mapped_file.h"
#include "base/text.h"
#include "model/chat_template/chat_template.h"
#include "model/chat_template/fuzz_variables.h"

namespace pd::model {
namespace {

// In the order of their names.
std::vector<ChatTemplate> shipped_templates() {
  const std::filesystem::path folder =
      std::filesystem::path(PD_SOURCE_DIR) / "tests/data/chat_template/templates";
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    files.push_back(entry.path());
  std::ranges::sort(files);
  std::vector<ChatTemplate> out;
  for (const auto& file : files)
    out.push_back(ChatTemplate::parse(read_file(file, 1 << 20).value()).value());
  return out;
}

}  // namespace
}  // namespace pd::model

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace pd::model;
  static const std::vector<ChatTemplate> templates = shipped_templates();
  if (size == 0) return 0;
  auto variables =
      variables_of(std::string_view(reinterpret_cast<const char*>(data) + 1, size - 1));
  if (!variables) return 0;
  // Last, as gateway::prepare does: a request cannot replace the model's own.
  variables->update(Json{{"bos_token", "<s>"}, {"eos_token", "</s>"}});
  const auto text = templates[data[0] % templates.size()].render(*variables, 0);
  if (text) CHECK(pd::is_valid_utf8(*text));
  return 0;
}
