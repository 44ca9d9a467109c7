#include <cstdarg>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "runtime/stats.hpp"

namespace weft::engine::stats {

namespace {

[[gnu::format(printf, 2, 3)]] void append(std::string& text, const char* format, ...) {
  char line[512];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(line, sizeof line, format, arguments);
  va_end(arguments);
  text += line;
}

std::string duration(uint64_t ns) {
  char text[32];
  const double value = static_cast<double>(ns);
  if (ns < 1'000'000)
    snprintf(text, sizeof text, "%.1f us", value / 1e3);
  else if (ns < 1'000'000'000)
    snprintf(text, sizeof text, "%.1f ms", value / 1e6);
  else
    snprintf(text, sizeof text, "%.2f s", value / 1e9);
  return text;
}

void append_pins(std::string& text, const std::vector<Pin>& pins) {
  if (pins.empty()) {
    text += "  pins            none: no call blocked a carrier\n";
    return;
  }
  text += "  pins            calls that blocked a carrier: times, total, longest, call, library\n";
  for (const Pin& pin : pins) {
    append(text, "  %16s%10lu %10s %10s  ", "", pin.count, duration(pin.total_ns).c_str(),
           duration(pin.longest_ns).c_str());
    text += pin.call + "  " + pin.library + "\n";
  }
}

std::string why_none(const Summary& summary) {
  if (!summary.no_fibers.empty()) return summary.no_fibers;
  if (summary.native_threads > 0) return "the runtime could not be started, so threads stay OS threads";
  if (summary.python)
    return "no thread was created by Python, so the runtime never started (--threads=all takes those of "
           "others, "
           "too)";
  return "no thread was created, so the runtime never started";
}

}  // namespace

std::string to_text(const Summary& summary) {
  std::string text;
  append(text, "weft: process %d", summary.pid);
  if (summary.python) text += ", Python " + *summary.python;
  text += "\n";
  if (!summary.routing) text += "  routing         off\n";
  if (!summary.started()) {
    if (summary.native_threads > 0) append(text, "  OS threads      %lu native\n", summary.native_threads);
    text += "  fibers          none: " + why_none(summary) + "\n";
  } else {
    append(text, "  backend         %s\n", to_string(*summary.backend));
    append(text, "  OS threads      %d carrier%s, at most %d in the offload pool, %lu native\n",
           summary.carriers, summary.carriers == 1 ? "" : "s", summary.pool_threads_peak,
           summary.native_threads);
    append(text, "  fibers          %lu created, %lu at peak, %lu alive\n", summary.fibers.created,
           summary.fibers.peak, summary.fibers.alive);
    append(text, "  switches        %lu\n", summary.carrier.switches);
    text += "  parks          ";
    for (int i = 0; i < kWaitKinds; ++i)
      append(text, " %s %lu%s", to_string(static_cast<WaitKind>(i)), summary.carrier.parks[i],
             i + 1 < kWaitKinds ? "," : "");
    text += "\n";
    append(text, "  preemptions     %lu, stalls %lu\n", summary.preemptions, summary.stalls);
  }
  if (summary.started() || !summary.pins.empty()) append_pins(text, summary.pins);
  append(text, "  peak RSS        %.1f MiB\n", static_cast<double>(summary.peak_rss_kib) / 1024);
  return text;
}

std::string to_json(const Summary& summary) {
  using Json = nlohmann::ordered_json;
  Json pins = Json::array();
  for (const Pin& pin : summary.pins)
    pins.push_back({{"call", pin.call},
                    {"library", pin.library},
                    {"count", pin.count},
                    {"total_ns", pin.total_ns},
                    {"max_ns", pin.longest_ns}});
  Json parks = Json::object();
  for (int i = 0; i < kWaitKinds; ++i) parks[to_string(static_cast<WaitKind>(i))] = summary.carrier.parks[i];
  const Json json = {
      {"pid", summary.pid},
      {"python", summary.python ? Json(*summary.python) : Json()},
      {"backend", summary.backend ? Json(to_string(*summary.backend)) : Json()},
      {"routing", summary.routing},
      {"carriers", summary.carriers},
      {"pool_threads_peak", summary.pool_threads_peak},
      {"native_threads", summary.native_threads},
      {"fibers",
       {{"created", summary.fibers.created}, {"peak", summary.fibers.peak}, {"alive", summary.fibers.alive}}},
      {"switches", summary.carrier.switches},
      {"parks", parks},
      {"pins", pins},
      {"preemptions", summary.preemptions},
      {"stalls", summary.stalls},
      {"peak_rss_kib", summary.peak_rss_kib},
  };
  // Paths need not be UTF-8.
  return json.dump(2, ' ', false, Json::error_handler_t::replace);
}

}  // namespace weft::engine::stats
