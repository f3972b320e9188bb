#include "model/model.h"

#include <gtest/gtest.h>

#include "model/chat_files.h"
#include "model/checkpoint/test_files.h"

namespace pd::model {
namespace {

using test::TempFolder;

const std::filesystem::path kStories =
    std::filesystem::path(PD_SOURCE_DIR) / "assets/models/stories260K";

TEST(Model, OpensFolderAndFileAlike) {
  const auto folder = Model::open(kStories);
  const auto file = Model::open(kStories / "stories260K-f32.gguf");
  ASSERT_TRUE(folder) << folder.error().message;
  ASSERT_TRUE(file) << file.error().message;
  EXPECT_EQ(folder->name, "stories260K");
  EXPECT_EQ(file->name, "stories260K-f32");
  for (const Model* model : {&*folder, &*file}) {
    EXPECT_EQ(model->eos, std::vector<TokenId>{2});
    EXPECT_EQ(model->bos_token, "<s>");
    EXPECT_EQ(model->eos_token, "</s>");
    EXPECT_EQ(model->template_variables.value("unk_token", ""), "<unk>");
    EXPECT_EQ(model->template_for(false), nullptr);
    EXPECT_EQ(model->chat_template_error, "");
    EXPECT_EQ(model->config().vocab, model->tokenizer.vocab_size());
  }
  EXPECT_EQ(*folder->tokenizer.encode("Once upon a time"),
            *file->tokenizer.encode("Once upon a time"));
}

TEST(Model, NameIsTheLastOfThePath) {
  const std::filesystem::path before = std::filesystem::current_path();
  EXPECT_EQ(Model::open(kStories.string() + "/")->name, "stories260K");
  std::filesystem::current_path(kStories);
  const auto here = Model::open(".");
  std::filesystem::current_path(before);
  ASSERT_TRUE(here) << here.error().message;
  EXPECT_EQ(here->name, "stories260K");
}

TEST(Model, ForeignTokenizerIsRefused) {
  const TempFolder folder;
  const ModelConfig config = test::tiny_config();  // 16 rows
  folder.write("config.json", test::tiny_json(config).dump());
  folder.write("model.safetensors", test::tiny_safetensors(config).bytes());
  std::filesystem::copy_file(kStories / "tokenizer.json", folder.path() / "tokenizer.json");
  const auto model = Model::open(folder.path());
  ASSERT_FALSE(model);
  EXPECT_EQ(model.error().code, ErrorCode::kIncompatible);
  EXPECT_EQ(model.error().message,
            folder.path().string() +
                ": the tokenizer has ids up to 511, but the embedding has only "
                "16 rows; it is another model's");
}

// stories260K with the chat files given: links to its weights and its own configuration.
class ChatModel {
 public:
  explicit ChatModel(std::string_view tokenizer_config) {
    for (const char* name : {"config.json", "model.safetensors", "tokenizer.json"}) {
      std::filesystem::create_symlink(kStories / name, folder_.path() / name);
    }
    folder_.write("tokenizer_config.json", tokenizer_config);
  }
  Model open() const {
    auto model = Model::open(folder_.path());
    EXPECT_TRUE(model) << model.error().message;
    return std::move(*model);
  }

 private:
  TempFolder folder_;
};

TEST(Model, RequestsWithToolsGetTheirOwnTemplate) {
  const Model two = ChatModel(R"({"chat_template": [{"name": "default", "template": "D"},
                                   {"name": "tool_use", "template": "U{{ bos_token }}"}]})")
                        .open();
  EXPECT_EQ(*two.template_for(false)->render(two.template_variables, 0), "D");
  EXPECT_EQ(*two.template_for(true)->render(two.template_variables, 0), "U<s>");
  const Model one = ChatModel(R"({"chat_template": "D"})").open();
  EXPECT_EQ(one.template_for(true), one.template_for(false));
}

TEST(Model, UnusableTemplateKeepsNoModelFromCompleting) {
  const Model model = ChatModel(R"({"chat_template": "{% block x %}{% endblock %}"})").open();
  EXPECT_EQ(model.template_for(false), nullptr);
  EXPECT_NE(model.chat_template_error, "");
  EXPECT_EQ(model.tokenizer.vocab_size(), 512);
}

TEST(TextModel, OpensTokenizersOfEveryForm) {
  for (const char* path : {"", "tokenizer.json", "stories260K-f32.gguf"}) {
    const auto text = TextModel::open(kStories / path);
    ASSERT_TRUE(text) << text.error().message;
    EXPECT_EQ(text->tokenizer.vocab_size(), 512);
  }
}

TEST(ChatFiles, AnEmptyFolderSaysNothing) {
  const TempFolder folder;
  const auto files = read_chat_files(folder.path(), nullptr);
  ASSERT_TRUE(files);
  EXPECT_EQ(files->base, "");
  EXPECT_EQ(files->tools, "");
  EXPECT_TRUE(files->special_tokens.empty());
}

TEST(ChatFiles, TokensAreStringsOrObjectsAndTheConfigurationComesFirst) {
  const TempFolder folder;
  folder.write("special_tokens_map.json",
               R"({"bos_token": "<old>", "pad_token": {"content": "<pad>", "lstrip": false}})");
  folder.write("tokenizer_config.json",
               R"({"bos_token": "<s>", "eos_token": {"content": "</s>"}, "unk_token": null,
                   "model_max_length": 1000000000000000019884624838656, "chat_template": "T"})");
  const auto files = read_chat_files(folder.path(), nullptr);
  ASSERT_TRUE(files) << files.error().message;
  const Json expected = {{"bos_token", "<s>"}, {"eos_token", "</s>"}, {"pad_token", "<pad>"}};
  EXPECT_EQ(nlohmann::json(files->special_tokens), nlohmann::json(expected));
  EXPECT_EQ(files->base, "T");
}

TEST(ChatFiles, NamedTemplatesAndTheirFiles) {
  const TempFolder folder;
  folder.write("tokenizer_config.json",
               R"({"chat_template": [{"name": "rag", "template": "R"},
                                     {"name": "default", "template": "D"},
                                     {"name": "tool_use", "template": "U"}]})");
  auto files = read_chat_files(folder.path(), nullptr);
  ASSERT_TRUE(files) << files.error().message;
  EXPECT_EQ(files->base, "D");
  EXPECT_EQ(files->tools, "U");
  EXPECT_EQ(*chat_template_source(folder.path(), nullptr), "D");

  folder.write("chat_template.jinja", "J");
  std::filesystem::create_directory(folder.path() / "additional_chat_templates");
  folder.write("additional_chat_templates/tool_use.jinja", "A");
  files = read_chat_files(folder.path(), nullptr);
  EXPECT_EQ(files->base, "J");
  EXPECT_EQ(files->tools, "A");
}

TEST(ChatFiles, ComeFromGgufMetadata) {
  test::GgufFile file;
  std::string tokens = test::raw(std::uint32_t{8}) + test::raw(std::uint64_t{2});
  tokens += test::GgufFile::text("<b>") + test::GgufFile::text("<e>");
  file.values = {
      test::GgufFile::str("tokenizer.chat_template", "T"),
      test::GgufFile::str("tokenizer.chat_template.tool_use", "U"),
      test::GgufFile::text("tokenizer.ggml.tokens") + test::raw(std::uint32_t{9}) + tokens,
      test::GgufFile::u32("tokenizer.ggml.bos_token_id", 0),
      test::GgufFile::u32("tokenizer.ggml.eos_token_id", 1),
      test::GgufFile::u32("tokenizer.ggml.padding_token_id", 2)};
  const std::string bytes = file.bytes();
  const auto gguf = Gguf::parse(test::as_bytes(bytes), "m.gguf");
  ASSERT_TRUE(gguf) << gguf.error().message;
  const auto files = read_chat_files("m.gguf", gguf->get());
  ASSERT_TRUE(files);
  EXPECT_EQ(files->base, "T");
  EXPECT_EQ(files->tools, "U");
  EXPECT_EQ(files->special_tokens, (Json{{"bos_token", "<b>"}, {"eos_token", "<e>"}}));
}

struct Mutation {
  const char* file;
  const char* text;
  const char* problem;
};

class ChatFilesMutation : public testing::TestWithParam<Mutation> {};

TEST_P(ChatFilesMutation, IsRefusedWithFileAndField) {
  const TempFolder folder;
  const std::string path = folder.write(GetParam().file, GetParam().text);
  const auto files = read_chat_files(folder.path(), nullptr);
  ASSERT_FALSE(files);
  EXPECT_EQ(files.error().message, path + ": " + GetParam().problem);
}

constexpr const char* kBadTemplate =
    "chat_template: expected a string or a list of objects with name and template";

INSTANTIATE_TEST_SUITE_P(
    Table, ChatFilesMutation,
    testing::Values(Mutation{"tokenizer_config.json", "[]", "expected a JSON object"},
                    Mutation{"tokenizer_config.json", R"({"a": 1, "a": 2})",
                             "the key 'a' occurs twice in one object"},
                    Mutation{"tokenizer_config.json", R"({"bos_token": 1})",
                             "bos_token: expected a string or an object with content"},
                    Mutation{"special_tokens_map.json", R"({"eos_token": {"content": 1}})",
                             "eos_token: expected a string or an object with content"},
                    Mutation{"tokenizer_config.json", R"({"chat_template": 1})", kBadTemplate},
                    Mutation{"tokenizer_config.json", R"({"chat_template": [1]})", kBadTemplate},
                    Mutation{"tokenizer_config.json", R"({"chat_template": [{"name": "default"}]})",
                             kBadTemplate}));

}  // namespace
}  // namespace pd::model
