#include "heap/profile_svg.hpp"

#include <algorithm>
#include <cstdio>
#include <map>
#include <memory>
#include <vector>

#include "heap/profile_symbols.hpp"
#include "interpose/elf/base_name.hpp"

// The picture is B. Gregg's ("The Flame Graph", CACM 59(6), 2016): boxes of one level in the order of their
// names, so that pictures of two runs can be laid side by side.

namespace weft::heap {

namespace {

using detail::HeapMeasure;
using engine::base_name;

constexpr double kWidth = 1200, kMargin = 10, kLine = 17, kHead = 60, kLetter = 6.6;
// Narrower boxes cannot be seen, and there are thousands.
constexpr double kNarrowest = 0.3;

struct Box {
  double value = 0;
  bool python = false;
  std::map<std::string, std::unique_ptr<Box>> children;  // by label
};

double value_of(const Site& site, HeapMeasure measure) noexcept {
  switch (measure) {
    case HeapMeasure::kLiveBytes:
      return site.made_bytes - site.freed_bytes;
    case HeapMeasure::kLiveBlocks:
      return site.made_blocks - site.freed_blocks;
    case HeapMeasure::kMadeBytes:
      return site.made_bytes;
    case HeapMeasure::kMadeBlocks:
      return site.made_blocks;
  }
  return 0;
}

std::string label_of(const HeapFrame& frame) {
  if (frame.python)
    return std::string(frame.function) + " (" + std::string(base_name(frame.file)) + ":" +
           std::to_string(frame.line) + ")";
  if (*frame.function) return frame.function;
  // All of a stripped library in one box: addresses would tell nobody anything.
  return "[" + std::string(*frame.file ? base_name(frame.file) : "unknown") + "]";
}

std::string amount(double value, HeapMeasure measure) {
  char text[64];
  if (measure == HeapMeasure::kLiveBlocks || measure == HeapMeasure::kMadeBlocks)
    snprintf(text, sizeof text, "%.0f blocks", value);
  else if (value >= 1024 * 1024)
    snprintf(text, sizeof text, "%.1f MiB", value / (1024 * 1024));
  else if (value >= 1024)
    snprintf(text, sizeof text, "%.1f KiB", value / 1024);
  else
    snprintf(text, sizeof text, "%.0f bytes", value);
  return text;
}

// XML 1.0 knows no control characters, not even escaped; what is not UTF-8 is no document.
std::string escaped(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    const size_t size = byte < 0x80 ? 1 : byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : 2;
    bool whole = byte < 0x80 || (byte >= 0xc2 && byte <= 0xf4 && i + size <= text.size());
    for (size_t j = 1; whole && j < size; ++j)
      whole = (static_cast<unsigned char>(text[i + j]) & 0xc0) == 0x80;
    if (!whole || byte < 0x20 || byte == 0x7f) {
      out += '?';
    } else if (byte == '&') {
      out += "&amp;";
    } else if (byte == '<') {
      out += "&lt;";
    } else if (byte == '>') {
      out += "&gt;";
    } else if (byte == '"') {
      out += "&quot;";
    } else {
      out += text.substr(i, size);
      i += size - 1;
    }
  }
  return out;
}

// What fits into a box, cut where a character begins.
std::string cut(std::string_view text, double width) {
  const auto letters = static_cast<size_t>(width / kLetter);
  if (text.size() <= letters) return std::string(text);
  if (letters < 4) return {};
  size_t end = letters - 2;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) --end;
  return std::string(text.substr(0, end)) + "..";
}

class Picture {
 public:
  Picture(const ProfileRecord& record, HeapMeasure measure) : measure_(measure) {
    FrameNames names(record);
    for (const Site& site : record.sites) {
      const double value = value_of(site, measure);
      if (value < 0.5) continue;
      root_.value += value;
      Box* box = &root_;
      for (uint32_t i = site.frame_count; i-- > 0;) {
        const HeapFrame& frame = names.frame(record.frames[site.first_frame + i]);
        auto& child = box->children[label_of(frame)];
        if (!child) child = std::make_unique<Box>();
        child->value += value;
        child->python = frame.python;
        box = child.get();
      }
    }
  }

  std::string draw(std::string_view title, const ProfileRecord& record) {
    scale_ = root_.value > 0 ? (kWidth - 2 * kMargin) / root_.value : 0;
    height_ = kHead + static_cast<double>(depth_of(root_) + 1) * kLine + kMargin;
    print(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%.0f\" viewBox=\"0 0 %.0f %.0f\" "
        "font-family=\"monospace\" font-size=\"11\">\n"
        "<style>rect{stroke:#fff;stroke-width:.5}.n{fill:#f0a868}.p{fill:#6fa8dc}.r{fill:#ccc}"
        "text{pointer-events:none}</style>\n<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n",
        kWidth, height_, kWidth, height_);
    text(kMargin, 22, title.empty() ? std::string_view("Heap") : title, 16);
    static const char* const kNames[] = {"alive", "alive", "ever allocated", "ever allocated"};
    text(kMargin, 42,
         amount(root_.value, measure_) + " " + kNames[static_cast<int>(measure_)] + ", " +
             (record.totals.interval <= 1
                  ? "every allocation"
                  : "estimated from a sample every " +
                        amount(static_cast<double>(record.totals.interval), HeapMeasure::kMadeBytes)) +
             "; Python blue, native orange",
         11);
    box("all", root_, "r", kMargin, 0);
    out_ += "</svg>\n";
    return std::move(out_);
  }

 private:
  size_t depth_of(const Box& box) const {
    size_t depth = 0;
    for (const auto& [label, child] : box.children)
      if (child->value * scale_ >= kNarrowest) depth = std::max(depth, 1 + depth_of(*child));
    return depth;
  }

  void box(const std::string& label, const Box& here, const char* kind, double x, size_t level) {
    const double width = here.value * scale_;
    const double y = height_ - kMargin - static_cast<double>(level + 1) * kLine;
    char share[32];
    snprintf(share, sizeof share, "%.2f%%", root_.value > 0 ? 100 * here.value / root_.value : 0);
    print("<g><title>");
    out_ += escaped(label) + ": " + amount(here.value, measure_) + ", " + share;
    print("</title><rect class=\"%s\" x=\"%.2f\" y=\"%.1f\" width=\"%.2f\" height=\"%.1f\" rx=\"1\"/>", kind,
          x, y, width, kLine - 1);
    if (const std::string shown = cut(label, width - 6); !shown.empty()) text(x + 3, y + 12, shown, 11);
    out_ += "</g>\n";
    for (const auto& [name, child] : here.children) {
      if (child->value * scale_ >= kNarrowest) box(name, *child, child->python ? "p" : "n", x, level + 1);
      x += child->value * scale_;
    }
  }

  void text(double x, double y, std::string_view content, int size) {
    print("<text x=\"%.1f\" y=\"%.1f\" font-size=\"%d\">", x, y, size);
    out_ += escaped(content) + "</text>\n";
  }

  template <typename... Arguments>
  [[gnu::format(printf, 2, 0)]] void print(const char* format, Arguments... arguments) {
    char piece[768];
    snprintf(piece, sizeof piece, format, arguments...);
    out_ += piece;
  }

  const HeapMeasure measure_;
  Box root_;
  double scale_ = 0, height_ = 0;
  std::string out_;
};

}  // namespace

std::string to_svg(const ProfileRecord& record, HeapMeasure measure, std::string_view title) {
  return Picture(record, measure).draw(title, record);
}

}  // namespace weft::heap
