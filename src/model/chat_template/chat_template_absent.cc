#include "model/chat_template/chat_template.h"
namespace pd::model {
struct ChatTemplate::Impl {};
Result<ChatTemplate> ChatTemplate::parse(std::string_view) { return error(ErrorCode::kUnsupported, "not yet"); }
ChatTemplate::ChatTemplate(ChatTemplate&&) noexcept = default;
ChatTemplate& ChatTemplate::operator=(ChatTemplate&&) noexcept = default;
ChatTemplate::~ChatTemplate() = default;
Result<std::string> ChatTemplate::render(const Json&, std::int64_t) const { return std::string(); }
}
