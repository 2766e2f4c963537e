// ChatTemplate::Recognize; a template that is recognised must also render a conversation.
#include "fuzz.h"
#include "tokenizer/chat_template.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::optional<baleen::ChatTemplate> chat;
  const auto recognise = [&] {
    chat = baleen::ChatTemplate::Recognize(baleen::fuzz::Text(data, size));
  };
  if (!baleen::fuzz::Accepts(recognise)) return 0;
  baleen::ChatMessage user;
  user.role = "user";
  user.content =
      "<\xef\xbd\x9c"
      "User\xef\xbd\x9c>";
  const std::vector<baleen::ChatMessage> messages = {user};
  baleen::fuzz::Accepts([&] { chat->Render(messages, {}); });
  return 0;
}
