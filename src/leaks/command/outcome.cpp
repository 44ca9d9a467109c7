#include "leaks/command/outcome.hpp"

#include <cmath>
#include <cstdarg>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "leaks/xml.hpp"

namespace weft::leaks {

namespace {

[[gnu::format(printf, 1, 2)]] std::string format(const char* form, ...) {
  char text[256];
  va_list values;
  va_start(values, form);
  const int size = vsnprintf(text, sizeof text, form, values);
  va_end(values);
  return {text, std::min(static_cast<size_t>(size), sizeof text - 1)};
}

// What is no UTF-8 is replaced: a program may write anything.
std::string readable(const std::string& text) {
  return nlohmann::json::parse(
      nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
}

std::string escaped(const std::string& text, bool lines = false) {
  return escape_xml(readable(text), lines);
}

std::string first_line(const std::string& text) {
  return text.substr(0, text.find('\n'));
}

size_t count(const std::vector<Outcome>& outcomes, Outcome::Verdict verdict) {
  size_t found = 0;
  for (const Outcome& outcome : outcomes) found += outcome.verdict == verdict;
  return found;
}

const char* name_of(Target::Kind kind) noexcept {
  switch (kind) {
    case Target::Kind::kPython:
      return "python";
    case Target::Kind::kNative:
      return "native";
    case Target::Kind::kCommand:
      break;
  }
  return "command";
}

std::string summary(const Outcome& outcome) {
  std::string text = outcome.verdict == Outcome::Verdict::kClean   ? "no leak"
                     : outcome.verdict == Outcome::Verdict::kLeaks ? "LEAKS"
                                                                   : "not checked";
  const char* const unit = outcome.target.kind == Target::Kind::kCommand ? "run" : "call";
  if (outcome.calls > 0)
    text += format(" (%llu %s%s, %.2f s)", static_cast<unsigned long long>(outcome.calls), unit,
                   outcome.calls == 1 ? "" : "s", outcome.seconds);
  if (outcome.uncertain) text += ", but time or memory were used up before it was certain";
  if (!outcome.exact) text += "; allocations could not be counted, the allocator's own figures had to do";
  return text;
}

}  // namespace

const char* name_of(Outcome::Verdict verdict) noexcept {
  switch (verdict) {
    case Outcome::Verdict::kClean:
      return "clean";
    case Outcome::Verdict::kLeaks:
      return "leaks";
    case Outcome::Verdict::kFailed:
      break;
  }
  return "failed";
}

std::string to_text(const Outcome& outcome) {
  std::string text = outcome.target.text + ": " + summary(outcome) + "\n";
  for (size_t at = 0; at < outcome.text.size();) {
    const size_t end = std::min(outcome.text.find('\n', at), outcome.text.size());
    text += end > at ? "  " + outcome.text.substr(at, end - at) + "\n" : "\n";
    at = end + 1;
  }
  return text;
}

std::string to_json(const std::vector<Outcome>& outcomes) {
  nlohmann::ordered_json results = nlohmann::ordered_json::array();
  for (const Outcome& outcome : outcomes)
    results.push_back({{"target", outcome.target.text},
                       {"kind", name_of(outcome.target.kind)},
                       {"verdict", name_of(outcome.verdict)},
                       {"what", outcome.what},
                       {"text", outcome.text},
                       {"calls", outcome.calls},
                       {"seconds", std::round(outcome.seconds * 1000) / 1000},
                       {"uncertain", outcome.uncertain},
                       {"exact", outcome.exact}});
  const nlohmann::ordered_json all = {{"version", 1},
                                      {"clean", count(outcomes, Outcome::Verdict::kClean)},
                                      {"leaks", count(outcomes, Outcome::Verdict::kLeaks)},
                                      {"failed", count(outcomes, Outcome::Verdict::kFailed)},
                                      {"results", std::move(results)}};
  return all.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

std::string to_junit(const std::vector<Outcome>& outcomes) {
  double seconds = 0;
  for (const Outcome& outcome : outcomes) seconds += outcome.seconds;
  std::string text = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n";
  text +=
      format("<testsuite name=\"weft leaks\" tests=\"%zu\" failures=\"%zu\" errors=\"%zu\" time=\"%.3f\">\n",
             outcomes.size(), count(outcomes, Outcome::Verdict::kLeaks),
             count(outcomes, Outcome::Verdict::kFailed), seconds);
  for (const Outcome& outcome : outcomes) {
    const bool named = !outcome.target.function.empty();
    text += "<testcase classname=\"" + escaped(named ? outcome.target.place : "command") + "\" name=\"" +
            escaped(named ? outcome.target.function : outcome.target.text) + "\" time=\"" +
            format("%.3f", outcome.seconds) + "\"";
    if (outcome.verdict == Outcome::Verdict::kClean) {
      text += "/>\n";
      continue;
    }
    const char* const element = outcome.verdict == Outcome::Verdict::kLeaks ? "failure" : "error";
    text += std::string(">\n<") + element + " type=\"" + escaped(outcome.what) + "\" message=\"" +
            escaped(first_line(outcome.text)) + "\">" + escaped(outcome.text, true) + "</" + element +
            ">\n</testcase>\n";
  }
  return text + "</testsuite>\n</testsuites>\n";
}

}  // namespace weft::leaks
