// Every function of libc is routed, or known not to block, or documented as pinning; and the documentation
// says so.
#include <fnmatch.h>
#include <gtest/gtest.h>
#include <link.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "interpose/calls.hpp"
#include "interpose/elf/image.hpp"

namespace weft::engine::interpose {
namespace {

using Names = std::set<std::string>;

Names routed_symbols() {
  Names names;
  for (const Call& call : all_calls()) names.insert(call.symbol);
  return names;
}

Names libc_symbols() {
  Names names;
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* data) {
        const elf::Image image = elf::Image::of_loaded(*info);
        if (image.soname() != "libc.so.6") return 0;
        image.for_each_symbol([&](const elf::Symbol& symbol) {
          // The names of symbol versions are symbols, too.
          if (symbol.defined && !symbol.name.starts_with("GLIBC_"))
            static_cast<Names*>(data)->emplace(symbol.name);
        });
        return 1;
      },
      &names);
  return names;
}

/// The classes of libc_symbols.txt.
struct Classes {
  std::map<std::string, std::string> names;                   // to class
  std::vector<std::pair<std::string, std::string>> patterns;  // with class
  std::map<std::string, Names> groups;                        // what stands in each class, patterns and all
  std::vector<std::string> repeated;

  static Classes read() {
    Classes classes;
    std::ifstream file(WEFT_LIBC_SYMBOLS);
    for (std::string line; std::getline(file, line);) {
      if (line.empty() || line[0] == '#') continue;
      const auto colon = line.find(':');
      const std::string kind = line.substr(0, colon);
      std::istringstream words(line.substr(colon + 1));
      for (std::string word; words >> word;) {
        classes.groups[kind].insert(word);
        if (word.find_first_of("*?[") != std::string::npos)
          classes.patterns.emplace_back(word, kind);
        else if (!classes.names.emplace(word, kind).second)
          classes.repeated.push_back(word);
      }
    }
    return classes;
  }

  std::string of(const std::string& symbol) const {
    if (const auto found = names.find(symbol); found != names.end()) return found->second;
    for (const auto& [pattern, kind] : patterns)
      if (fnmatch(pattern.c_str(), symbol.c_str(), 0) == 0) return kind;
    return "";
  }
};

std::string list_of(const Names& names) {
  std::string text;
  for (const std::string& name : names) text += " " + name;
  return text;
}

TEST(SymbolsTest, EveryFunctionOfLibcHasItsPlace) {
  const Names routed = routed_symbols(), all = libc_symbols();
  ASSERT_GT(all.size(), 2000u);
  const Classes classes = Classes::read();
  Names unknown;
  for (const std::string& symbol : all)
    if (!routed.count(symbol) && classes.of(symbol).empty()) unknown.insert(symbol);
  EXPECT_TRUE(unknown.empty())
      << "libc has functions that nobody has looked at. Route each that may block, or put it into "
         "tests/unit/interpose/libc_symbols.txt:"
      << list_of(unknown);
  Names both;
  for (const auto& [symbol, kind] : classes.names)
    if (routed.count(symbol)) both.insert(symbol);
  EXPECT_TRUE(both.empty()) << "routed, so to be taken off the list:" << list_of(both);
  EXPECT_TRUE(classes.repeated.empty()) << "listed twice: " << classes.repeated.front();
}

TEST(SymbolsTest, EveryRoutedCallIsInLibc) {
  const Names all = libc_symbols();
  Names missing;
  for (const std::string& symbol : routed_symbols())
    if (!all.count(symbol)) missing.insert(symbol);
  EXPECT_TRUE(missing.empty()) << list_of(missing);
}

// The cells of the tables in a section of the page: the first of each row, and the names in its last.
std::map<std::string, Names> table_of(const std::string& heading) {
  std::ifstream file(WEFT_BLOCKING_CALLS_PAGE);
  std::map<std::string, Names> rows;
  bool inside = false;
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("## ")) inside = line == "## " + heading;
    if (!inside || !line.starts_with("| ") || line.starts_with("| ---")) continue;
    const auto first_end = line.find(" |", 2), last_begin = line.rfind("| ", line.size() - 2);
    Names& names = rows[line.substr(2, first_end - 2)];
    const std::string last = line.substr(last_begin);
    for (size_t at = 0; (at = last.find('`', at)) != std::string::npos;) {
      const size_t end = last.find('`', at + 1);
      names.insert(last.substr(at + 1, end - at - 1));
      at = end + 1;
    }
  }
  return rows;
}

void expect_rows(const std::map<std::string, Names>& page, const std::map<std::string, Names>& wanted) {
  for (const auto& [row, names] : wanted) {
    const auto found = page.find(row);
    std::string text;
    for (const std::string& name : names) text += (text.empty() ? "`" : ", `") + name + "`";
    EXPECT_TRUE(found != page.end() && found->second == names)
        << "the row '" << row << "' of docs/reference/blocking-calls.md is to list:\n"
        << text;
  }
  EXPECT_EQ(page.size(), wanted.size() + 1) << "rows besides the heading";
}

TEST(SymbolsTest, ThePageListsWhatIsRouted) {
  std::map<std::string, Names> families;
  for (const Call& call : all_calls()) families[to_string(call.family)].insert(call.symbol);
  expect_rows(table_of("Routed calls"), families);
}

TEST(SymbolsTest, ThePageListsWhatPins) {
  std::map<std::string, Names> pinning;
  for (const auto& [kind, names] : Classes::read().groups)
    if (kind.starts_with("pins-")) pinning[kind.substr(5)] = names;
  expect_rows(table_of("Calls that pin"), pinning);
}

}  // namespace
}  // namespace weft::engine::interpose
