// The requests before a load: which endpoint the server has, and how it counts tokens.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "cli/bench_command.h"

namespace pd::cli {
namespace {

class Probe {
 public:
  Probe(const Server& server, Endpoint endpoint, const std::string& model, Duration patience)
      : server_(server), endpoint_(std::move(endpoint)), model_(model), patience_(patience) {}

  // The answer to a prompt of so many words.
  Result<nlohmann::json> ask(std::uint32_t words) const {
    std::string text;
    load::append_words(text, /*seed=*/7, words);
    nlohmann::json body{{"model", model_}, {"max_tokens", 1}};
    if (endpoint_.api == "chat")
      body["messages"] = {{{"role", "user"}, {"content", text}}};
    else
      body["prompt"] = text;
    auto answer = net::fetch_blocking(server_.call("POST", endpoint_.path(), body.dump()),
                                      server_.client_options(), patience_);
    if (!answer && answer.error().code == ErrorCode::kDeadlineExceeded)
      return error(answer.error().code, fmt::format("POST {}{}: {} (--timeout)", server_.base,
                                                    endpoint_.path(), answer.error().message));
    if (!answer) return std::unexpected(answer.error());
    if (answer->status != 200)
      return error(ErrorCode::kUnavailable, refusal_message(answer->body, answer->status));
    return nlohmann::json::parse(answer->body, nullptr, false);
  }

  // Words are put together to prompts of the wanted number of tokens: two prompts of known length
  // show what a word and what the endpoint itself take.
  Result<load::TokenRate> token_rate() const {
    constexpr std::uint32_t kFew = 8, kMany = 40;
    const auto few = count_tokens(kFew);
    if (!few) return std::unexpected(few.error());
    const auto many = count_tokens(kMany);
    if (!many) return std::unexpected(many.error());
    load::TokenRate out;
    out.per_word = (static_cast<double>(*many) - *few) / (kMany - kFew);
    if (!(out.per_word > 0.1)) out.per_word = 1;  // a server that does not count
    out.overhead = std::max(0.0, *few - kFew * out.per_word);
    return out;
  }

 private:
  // How many tokens the server sees in a prompt of so many words.
  Result<std::uint32_t> count_tokens(std::uint32_t words) const {
    const auto json = ask(words);
    if (!json) return std::unexpected(json.error());
    const nlohmann::json::json_pointer count("/usage/prompt_tokens");
    if (!json->is_object() || !json->contains(count) || !(*json)[count].is_number_unsigned())
      return error(ErrorCode::kUnavailable,
                   "the answer does not say usage.prompt_tokens; give --tokens-per-word");
    return (*json)[count].get<std::uint32_t>();
  }

  const Server& server_;
  Endpoint endpoint_;
  const std::string& model_;
  Duration patience_;
};

}  // namespace

Result<Endpoint> find_endpoint(const Server& server, const BenchServeFlags& flags,
                               const std::string& model, Duration patience) {
  const bool counted = flags.tokens_per_word > 0;
  if (counted && flags.api != "auto") return Endpoint{flags.api, {flags.tokens_per_word, 0}};
  std::optional<Error> failure;
  for (const std::string api : {"chat", "completions"}) {
    if (flags.api != "auto" && flags.api != api) continue;
    Endpoint endpoint{api, {flags.tokens_per_word, 0}};
    const Probe probe(server, endpoint, model, patience);
    std::optional<Error> why;
    if (counted) {
      constexpr std::uint32_t kWords = 8;
      if (const auto answer = probe.ask(kWords); !answer) why = answer.error();
    } else if (const auto rate = probe.token_rate(); rate) {
      endpoint.tokens = *rate;
    } else {
      why = rate.error();
    }
    if (!why) return endpoint;
    if (!failure) failure = why;
    // It is the server that does not answer, not the endpoint that it does not have.
    if (why->code == ErrorCode::kDeadlineExceeded) break;
  }
  return error(
      failure->code,
      fmt::format("the first request, to learn {}, failed: {}",
                  counted ? "which endpoint there is" : "how it counts tokens", failure->message));
}

}  // namespace pd::cli
