#include "leaks/report.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdarg>
#include <cstdio>

#include "leaks/hand_over.hpp"
#include "leaks/xml.hpp"

namespace weft::leaks {

using weft::detail::LeakGrowth;
using weft::detail::LeakMetric;
using weft::detail::LeakTrial;

namespace {

struct Name {
  const char* key;
  const char* unit;
  const char* color;
};
constexpr std::array<Name, weft::detail::kLeakMetrics> kNames{{
    {"heap", "bytes", "#c0392b"},
    {"mmap", "bytes", "#d35400"},
    {"blocks", "blocks", "#8e44ad"},
    {"python", "blocks", "#2980b9"},
    {"mapped", "bytes", "#16a085"},
    {"uss", "bytes", "#27ae60"},
    {"rss", "bytes", "#7f8c8d"},
    {"vms", "bytes", "#34495e"},
    {"arenas", "bytes", "#e67e22"},
}};

LeakMetric metric_of(size_t i) noexcept {
  return static_cast<LeakMetric>(i);
}

[[gnu::format(printf, 1, 2)]] std::string format(const char* form, ...) {
  char text[512];
  va_list arguments;
  va_start(arguments, form);
  vsnprintf(text, sizeof text, form, arguments);
  va_end(arguments);
  return text;
}

// With as many digits as tell something: 24, 2.4, 0.24.
std::string number(double value) {
  const double size = std::fabs(value);
  return format(size >= 100 ? "%.0f" : size >= 10 ? "%.1f" : "%.2g", value);
}

}  // namespace

std::string run_line(const LeakTrial& trial, int run) {
  std::string rises;
  double first = 0;
  const double calls = trial.calls_at(run) - trial.calls_at(run - 1);
  for (size_t i = 0; i < kNames.size(); ++i) {
    const double rise = trial.level_at(run, metric_of(i)) - trial.level_at(run - 1, metric_of(i));
    if (rise <= 0 || (metric_of(i) == LeakMetric::kArenas && first > 0)) continue;
    if (first == 0) first = rise;
    rises += format("%s%s=%-7s", rises.empty() ? "" : " | ", kNames[i].key, format("+%.0f", rise).c_str());
  }
  return format("Run #%2d: %-50s (calls=%4.0f, avg/call=+%s)", run, rises.c_str(), calls,
                number(first / calls).c_str());
}

std::string table(const LeakTrial& trial) {
  std::string text;
  for (int run = 1; run <= trial.runs(); ++run) text += run_line(trial, run) + '\n';
  for (size_t i = 0; i < kNames.size(); ++i) {
    const LeakGrowth growth = trial.growth(metric_of(i));
    if (!growth.leaks || (metric_of(i) == LeakMetric::kArenas && trial.growth(LeakMetric::kHeap).leaks))
      continue;
    text += format(
        "%s grows by %s %s a call: at least %s, at most %s (bounds of Sen's, for an error of 1 in 10,000)\n",
        kNames[i].key, number(growth.estimate).c_str(), kNames[i].unit, number(growth.low).c_str(),
        number(growth.high).c_str());
  }
  if (trial.was_cut_short())
    text += "time or memory were used up before it was certain: this is what was seen until then\n";
  if (trial.growth(LeakMetric::kArenas).leaks && !trial.growth(LeakMetric::kHeap).leaks)
    text +=
        "arenas grow and heap does not: by allocations that cannot be counted, as through a pointer to "
        "malloc() "
        "that was taken before\n";
  return text;
}

std::string growth_svg(const LeakTrial& trial, const std::string& title) {
  constexpr double kWidth = 640, kPanel = 120, kLeft = 90, kRight = 20, kTop = 40, kGap = 30;
  const double calls = std::max(trial.calls_at(trial.runs()), 1.0);
  std::string panels;
  double top = kTop;
  for (size_t i = 0; i < kNames.size(); ++i) {
    const auto level = [&](int run) {
      return trial.level_at(run, metric_of(i)) - trial.level_at(0, metric_of(i));
    };
    double least = 0, most = 0;
    for (int run = 0; run <= trial.runs(); ++run) {
      least = std::min(least, level(run));
      most = std::max(most, level(run));
    }
    if (most <= 0) continue;
    const auto x = [&](int run) { return kLeft + (kWidth - kLeft - kRight) * trial.calls_at(run) / calls; };
    const auto y = [&](double at) { return top + kPanel * (most - at) / (most - least); };
    std::string points;
    for (int run = 0; run <= trial.runs(); ++run) points += format("%.1f,%.1f ", x(run), y(level(run)));
    const bool leaks = trial.growth(metric_of(i)).leaks;
    panels += format("<line x1=\"%.0f\" y1=\"%.1f\" x2=\"%.0f\" y2=\"%.1f\" stroke=\"#ccc\"/>\n", kLeft, y(0),
                     kWidth - kRight, y(0));
    panels += format("<text x=\"%.0f\" y=\"%.1f\" text-anchor=\"end\">%s%s</text>\n", kLeft - 8, top + 12,
                     kNames[i].key, leaks ? " (leaks)" : "");
    panels +=
        format("<text x=\"%.0f\" y=\"%.1f\" text-anchor=\"end\">+%.0f</text>\n", kLeft - 8, top + 28, most);
    panels += format("<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"%d\" points=\"", kNames[i].color,
                     leaks ? 3 : 1) +
              points + "\"/>\n";
    top += kPanel + kGap;
  }
  return format(
             "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%.0f\" "
             "font-family=\"sans-serif\" font-size=\"12\">\n"
             "<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n",
             kWidth, top + kGap) +
         "<text x=\"8\" y=\"20\" font-size=\"14\">" + escape_xml(title) + "</text>\n" + panels +
         format("<text x=\"%.0f\" y=\"%.0f\" text-anchor=\"end\">%.0f calls</text>\n</svg>\n",
                kWidth - kRight, top + 8, calls);
}

}  // namespace weft::leaks

namespace weft::detail {

size_t leak_run_line(const LeakTrial& trial, int run, char* text, size_t room) noexcept {
  return leaks::write_text(text, room, [&] { return leaks::run_line(trial, run); });
}
size_t leak_table(const LeakTrial& trial, char* text, size_t room) noexcept {
  return leaks::write_text(text, room, [&] { return leaks::table(trial); });
}
size_t leak_growth_svg(const LeakTrial& trial, const char* title, char* text, size_t room) noexcept {
  return leaks::write_text(text, room, [&] { return leaks::growth_svg(trial, title); });
}

}  // namespace weft::detail
