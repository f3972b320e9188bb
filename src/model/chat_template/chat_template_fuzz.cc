// Any source must parse or be refused, and what parses must end within its bounds, whatever it is
// given: a template, and after a zero byte its variables (without one: a fixed conversation).
// Valid UTF-8 stays valid.
#include "model/chat_template/chat_template.h"

#include "base/check.h"
#include "base/text.h"
#include "model/chat_template/fuzz_variables.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace pd::model;
  static const Json fixed = Json::parse(
      R"({"messages":[{"role":"user","content":"hi"},{"role":"assistant","content":null}],"tools":null,)"
      R"("add_generation_prompt":true,"bos_token":"<s>","eos_token":"</s>","n":3})");
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const std::string_view source = input.substr(0, input.find('\0'));
  const auto parsed = ChatTemplate::parse(source);
  if (!parsed) return 0;
  if (source.size() == input.size()) {
    (void)parsed->render(fixed, 0);
  } else if (const auto variables = variables_of(input.substr(source.size() + 1))) {
    const auto text = parsed->render(*variables, 0);
    if (text && pd::is_valid_utf8(source)) CHECK(pd::is_valid_utf8(*text));
  }
  return 0;
}
