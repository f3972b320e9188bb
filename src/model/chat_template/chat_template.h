// Chat templates: the subset of Jinja2 that model vendors' templates use, rendered exactly as
// `transformers` does (trim_blocks, lstrip_blocks, loop controls, tojson without escaping).
// What is outside the subset is refused at parse time with a message that names it and its line.
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "base/result.h"

namespace pd::model {

// Keys keep their order: templates print dictionaries.
using Json = nlohmann::ordered_json;

class ChatTemplate {
 public:
  // Errors: kInvalidArgument (syntax), kUnsupported (valid Jinja2 outside the subset), with line
  // numbers.
  static Result<ChatTemplate> parse(std::string_view source);

  ChatTemplate(ChatTemplate&&) noexcept;
  ChatTemplate& operator=(ChatTemplate&&) noexcept;
  ~ChatTemplate();

  // `variables`: an object (messages, tools, add_generation_prompt, bos_token, ...). `unix_seconds`
  // is what strftime_now() formats (UTC). Bounded: at most 10 million evaluation steps, 64 MiB of
  // output and of each text, and values of some 16 million parts and 200 levels. Errors:
  // kInvalidArgument with the template's own text for raise_exception(), or a type error.
  Result<std::string> render(const Json& variables, std::int64_t unix_seconds) const;

 private:
  struct Impl;
  explicit ChatTemplate(std::unique_ptr<const Impl> impl);
  std::unique_ptr<const Impl> impl_;
};

}  // namespace pd::model
