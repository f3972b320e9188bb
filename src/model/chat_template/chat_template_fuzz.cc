#include "model/chat_template/chat_template.h"

// Any source must parse or be refused, and what parses must end within its bounds.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace pd::model;
  static const Json variables = Json::parse(
      R"({"messages":[{"role":"user","content":"hi"},{"role":"assistant","content":null}],"tools":null,)"
      R"("add_generation_prompt":true,"bos_token":"<s>","eos_token":"</s>","n":3})");
  const auto parsed =
      ChatTemplate::parse(std::string_view(reinterpret_cast<const char*>(data), size));
  if (parsed) (void)parsed->render(variables, 0);
  return 0;
}
