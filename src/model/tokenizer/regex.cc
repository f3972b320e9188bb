#include "model/tokenizer/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <fmt/format.h>
#include <pcre2.h>

#include <algorithm>
#include <array>

#include "model/json_text.h"
#include "model/tokenizer/unicode.h"

namespace pd::model::tokenizing {
namespace {

constexpr std::size_t kPatternBytesMax = 64 * 1024;
// Steps of backtracking within one match. Honest expressions need a few times the text's length at
// most (a run of spaces is tried by two alternatives); a limit that grows with the text keeps a
// forged one from exponential time.
constexpr std::size_t kStepsFree = 100'000;
constexpr std::size_t kStepsPerByte = 16;
constexpr std::size_t kJitStackMin = 64 * 1024;
constexpr std::size_t kJitStackMax = 16 * 1024 * 1024;

std::string pcre2_message(int code) {
  std::array<PCRE2_UCHAR, 256> buffer{};
  pcre2_get_error_message(code, buffer.data(), buffer.size());
  return reinterpret_cast<const char*>(buffer.data());
}

}  // namespace

struct RegexScratch::State {
  pcre2_match_data* data = pcre2_match_data_create(1, nullptr);
  pcre2_match_context* context = pcre2_match_context_create(nullptr);
  pcre2_jit_stack* stack = nullptr;  // made when the 32 KiB on the machine stack do not suffice

  State() = default;
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State() {
    pcre2_jit_stack_free(stack);
    pcre2_match_context_free(context);
    pcre2_match_data_free(data);
  }
};

RegexScratch::RegexScratch() = default;
RegexScratch::~RegexScratch() = default;

struct Regex::Code {
  pcre2_code* code = nullptr;
  bool jit = false;

  Code() = default;
  Code(const Code&) = delete;
  Code& operator=(const Code&) = delete;
  ~Code() { pcre2_code_free(code); }
};

Regex::Regex(std::unique_ptr<const Code> code) : code_(std::move(code)) {}
Regex::Regex(Regex&&) noexcept = default;
Regex& Regex::operator=(Regex&&) noexcept = default;
Regex::~Regex() = default;

Result<Regex> Regex::create(std::string_view oniguruma) {
  if (oniguruma.size() > kPatternBytesMax) {
    return error(ErrorCode::kTooLarge,
                 fmt::format("a regular expression of {} bytes, more than the limit of {}",
                             oniguruma.size(), kPatternBytesMax));
  }
  const auto pattern = pcre2_pattern(oniguruma);
  if (!pattern) return std::unexpected(pattern.error());
  auto code = std::make_unique<Code>();
  pcre2_compile_context* context = pcre2_compile_context_create(nullptr);
  if (context != nullptr) pcre2_set_newline(context, PCRE2_NEWLINE_LF);
  int number = 0;
  PCRE2_SIZE offset = 0;
  code->code = pcre2_compile(
      reinterpret_cast<PCRE2_SPTR>(pattern->data()), pattern->size(),
      PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C | PCRE2_NO_AUTO_CAPTURE,
      &number, &offset, context);
  pcre2_compile_context_free(context);
  if (code->code == nullptr) {
    return error(ErrorCode::kInvalidArgument,
                 fmt::format("the regular expression {} does not compile: {}", quote(oniguruma),
                             pcre2_message(number)));
  }
  code->jit = pcre2_jit_compile(code->code, PCRE2_JIT_COMPLETE) == 0;
  return Regex(std::unique_ptr<const Code>(std::move(code)));
}

int Regex::match_at(std::string_view text, std::size_t at, RegexScratch& scratch) const {
  RegexScratch::State& state = *scratch.state_;
  const auto run = [&] {
    const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
    return code_->jit ? pcre2_jit_match(code_->code, subject, text.size(), at, PCRE2_NO_UTF_CHECK,
                                        state.data, state.context)
                      : pcre2_match(code_->code, subject, text.size(), at, PCRE2_NO_UTF_CHECK,
                                    state.data, state.context);
  };
  int found = run();
  if (found == PCRE2_ERROR_JIT_STACKLIMIT && state.stack == nullptr) {
    state.stack = pcre2_jit_stack_create(kJitStackMin, kJitStackMax, nullptr);
    if (state.stack != nullptr) pcre2_jit_stack_assign(state.context, nullptr, state.stack);
    found = run();
  }
  return found;
}

Status Regex::find_all(std::string_view text, RegexScratch& scratch, const Found& found) const {
  if (!scratch.state_) scratch.state_ = std::make_unique<RegexScratch::State>();
  if (scratch.state_->data == nullptr || scratch.state_->context == nullptr) {
    return error(ErrorCode::kNoCapacity, "no memory for a regular expression's match");
  }
  const std::size_t steps = kStepsFree + kStepsPerByte * text.size();
  pcre2_set_match_limit(scratch.state_->context,
                        static_cast<std::uint32_t>(std::min<std::size_t>(steps, UINT32_MAX)));
  const PCRE2_SIZE* span = pcre2_get_ovector_pointer(scratch.state_->data);
  std::size_t at = 0;
  std::size_t last_end = std::string_view::npos;
  while (at <= text.size()) {
    const int result = match_at(text, at, scratch);
    if (result == PCRE2_ERROR_NOMATCH) break;
    if (result < 0) {
      return error(ErrorCode::kInvalidArgument,
                   fmt::format("the tokenizer's regular expression fails on this text at byte {}: "
                               "{}; shorten runs of one kind of character",
                               at, pcre2_message(result)));
    }
    const std::size_t begin = span[0];
    const std::size_t end = span[1];
    if (begin > end || end > text.size()) {
      return error(ErrorCode::kUnsupported, "the tokenizer's regular expression matches backwards");
    }
    if (begin == end && end == last_end) {
      at += at < text.size() ? character_length(text[at]) : 1;
      continue;
    }
    found(begin, end);
    last_end = end;
    at = end;
  }
  return {};
}

}  // namespace pd::model::tokenizing
