#include "leaks/command/request.hpp"

#include <charconv>
#include <nlohmann/json.hpp>
#include <stdexcept>

namespace weft::leaks {

namespace {

bool is_identifier(std::string_view text) {
  const auto may_begin = [](char c) {
    return isalpha(static_cast<unsigned char>(c)) || c == '_' || c & 0x80;
  };
  if (text.empty() || !may_begin(text[0])) return false;
  for (const char c : text)
    if (!may_begin(c) && !isdigit(static_cast<unsigned char>(c))) return false;
  return true;
}

// Names with dots between them.
bool is_dotted(std::string_view text) {
  for (;;) {
    const size_t dot = text.find('.');
    if (!is_identifier(text.substr(0, dot))) return false;
    if (dot == text.npos) return true;
    text.remove_prefix(dot + 1);
  }
}

}  // namespace

Target parse_target(const std::string& text) {
  Target target;
  target.text = text;
  const size_t colon = text.rfind(':');
  if (colon == text.npos) {
    if (text.empty() || text.find('/') == text.npos)
      throw std::invalid_argument("'" + text +
                                  "' is nothing to check; expected module:function, file.py:function, "
                                  "./program:function, ./library.so:function, ./program, or a command behind "
                                  "--");
    target.command = {text};
    return target;
  }
  target.place = text.substr(0, colon);
  target.function = text.substr(colon + 1);
  if (target.function.empty())
    throw std::invalid_argument("'" + text + "': the name of the function is missing behind the colon");
  const std::string file = target.place.substr(target.place.rfind('/') + 1);
  target.library = file.ends_with(".so") || file.find(".so.") != file.npos;
  const bool is_file = target.library || file != target.place;
  const bool is_source = target.place.ends_with(".py");
  target.kind = is_file && !is_source ? Target::Kind::kNative : Target::Kind::kPython;
  if (target.kind == Target::Kind::kPython && !is_source && !is_dotted(target.place))
    throw std::invalid_argument("'" + target.place +
                                "' is no name of a module; a program or library is named with its folder, as "
                                "in ./" +
                                target.place + ":" + target.function);
  if (target.kind == Target::Kind::kPython && !is_dotted(target.function))
    throw std::invalid_argument("'" + target.function +
                                "' is no name of a function; expected one as in parse, or Parser.feed");
  return target;
}

uint64_t parse_size(const std::string& text) {
  uint64_t value = 0;
  const char* const end = text.data() + text.size();
  auto [at, error] = std::from_chars(text.data(), end, value);
  unsigned shift = 0;
  if (error == std::errc() && at + 1 == end) {
    const size_t unit = std::string_view("KMG").find(static_cast<char>(toupper(*at)));
    if (unit != std::string_view::npos) {
      shift = 10 * (static_cast<unsigned>(unit) + 1);
      ++at;
    }
  }
  if (error != std::errc() || at != end || value > UINT64_MAX >> shift)
    throw std::invalid_argument("'" + text + "' is no size; expected bytes, as in 512, 4K or 256M");
  return value << shift;
}

std::string to_json(const Target& target, const Request& request) {
  nlohmann::json json = {{"place", target.place},
                         {"library", target.library},
                         {"function", target.function},
                         {"call_limit", request.call_limit.count()},
                         {"arguments", request.arguments},
                         {"warm_up", request.warm_up},
                         {"runs", request.runs},
                         {"tolerance", request.tolerance},
                         {"time_limit", request.time_limit},
                         {"memory_limit", request.memory_limit},
                         {"search", request.search},
                         {"only", request.only}};
  if (request.calls != 0) json["calls"] = request.calls;
  return json.dump(-1, ' ', true);
}

}  // namespace weft::leaks
