#include <fmt/format.h>

#include <chrono>
#include <iostream>

#include "base/mapped_file.h"
#include "cli/commands.h"
#include "cli/files.h"
#include "cli/render_command.h"
#include "cli/settings.h"
#include "cli/tokenize_command.h"
#include "model/checkpoint/gguf.h"
#include "model/model.h"

namespace pd::cli {
namespace {

constexpr std::size_t kTemplateBytesMax = 4 * 1024 * 1024;

int tokenize(const std::string& path) {
  auto found = find_model(path);
  if (!found) return fail(found.error());
  auto text = model::TextModel::open(*found);
  if (!text) return fail(text.error());
  return run_tokenize(std::cin, std::cout, text->tokenizer);
}

Result<std::string> template_source(const std::string& model, const std::string& file) {
  if (!file.empty()) return read_file(file, kTemplateBytesMax);
  auto found = find_model(model);
  if (!found) return std::unexpected(found.error());
  Result<std::string> source = std::string();
  if (found->extension() == ".gguf") {
    auto gguf = model::Gguf::open(*found);
    if (!gguf) return std::unexpected(gguf.error());
    source = model::chat_template_source(*found, gguf->get());
  } else {
    source = model::chat_template_source(*found, nullptr);
  }
  if (source && source->empty())
    return error(ErrorCode::kNotFound,
                 fmt::format("{}: this model has no chat template", found->string()));
  return source;
}

int render(const std::string& model, const std::string& file) {
  if (model.empty() == file.empty()) return fail("give either --model PATH or --template FILE");
  auto source = template_source(model, file);
  if (!source) return fail(source.error());
  auto parsed = model::ChatTemplate::parse(*source);
  if (!parsed) return fail(parsed.error());
  const auto now = std::chrono::duration_cast<std::chrono::seconds>(
      std::chrono::system_clock::now().time_since_epoch());
  return run_render(std::cin, std::cout, *parsed, now.count());
}

}  // namespace

Command add_tokenize(CLI::App& root) {
  CLI::App* app = root.add_subcommand(
      "tokenize", "JSON lines in: {\"text\": ...} or {\"ids\": [...]}; ids or text out");
  app->footer(
      "Example:\n"
      "  echo '{\"text\": \"Hello\", \"add_special_tokens\": false}' | pdserve tokenize --model "
      "stories260K\n"
      "  {\"ids\": [...]}");
  auto model = std::make_shared<std::string>();
  app->add_option("--model", *model, "model folder, .gguf file or tokenizer.json")
      ->type_name("PATH")
      ->required();
  return {app, [model] { return tokenize(*model); }};
}

Command add_render(CLI::App& root) {
  CLI::App* app = root.add_subcommand(
      "render", "JSON lines in, each the variables of a chat template; the rendered text out");
  app->footer(
      "Example:\n"
      "  echo '{\"messages\": [{\"role\": \"user\", \"content\": \"Hello\"}], "
      "\"add_generation_prompt\": true}' |\n"
      "    pdserve render --model DIR\n"
      "  {\"text\": ...}, or {\"error\": ...} for one that the template refuses");
  auto model = std::make_shared<std::string>();
  auto file = std::make_shared<std::string>();
  app->add_option("--model", *model, "the template of this model")->type_name("PATH");
  app->add_option("--template", *file, "a template file")->type_name("FILE");
  return {app, [model, file] { return render(*model, *file); }};
}

}  // namespace pd::cli
