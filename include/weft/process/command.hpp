// Command: what is to be executed, as words or as a line.
#pragma once

#include <algorithm>
#include <cctype>
#include <initializer_list>
#include <iterator>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace weft::process {

namespace detail {

/// Calls take(word, quoted) for each of split_words(); `quoted`: there is a quote or a backslash in it.
template <typename Take>
void for_each_word(std::string_view line, Take&& take) {
  std::string word;
  bool in_word = false, quoted = false;
  char quote = 0;
  const auto end_word = [&] {
    if (in_word) take(std::exchange(word, {}), quoted);
    in_word = quoted = false;
  };
  for (size_t i = 0; i < line.size(); ++i) {
    const char c = line[i];
    const bool last = i + 1 == line.size();
    if (quote == '\'') {
      if (c == quote)
        quote = 0;
      else
        word += c;
    } else if (c == '\\') {
      if (last)
        throw std::invalid_argument("weft::process: `" + std::string(line) +
                                    "`: a backslash at the end escapes nothing; expected one more character");
      const char next = line[++i];
      in_word = in_word || next != '\n';
      quoted = true;
      // Within double quotes it is itself before most characters; before a line's end both go.
      if (quote && std::string_view("$`\"\\\n").find(next) == std::string_view::npos) word += c;
      if (next != '\n') word += next;
    } else if (quote) {
      if (c == quote)
        quote = 0;
      else
        word += c;
    } else if (c == '\'' || c == '"') {
      quote = c;
      in_word = quoted = true;
    } else if (c == ' ' || c == '\t' || c == '\n') {
      end_word();
    } else {
      word += c;
      in_word = true;
    }
  }
  if (quote)
    throw std::invalid_argument("weft::process: `" + std::string(line) + "`: a " + quote +
                                " has no end; expected a closing one");
  end_word();
}

}  // namespace detail

/// The words of `line`, as a POSIX shell splits them: at blanks, but within quotes and after a backslash.
/// Nothing is expanded. std::invalid_argument: a quote has no end.
inline std::vector<std::string> split_words(std::string_view line) {
  std::vector<std::string> words;
  detail::for_each_word(line, [&](std::string word, bool) { words.push_back(std::move(word)); });
  return words;
}

/// The first word of `line` that only a shell would understand, as "&&", "2>log", "$PORT" or "a;", where it
/// is not quoted; none: "".
inline std::string shell_operator(std::string_view line) {
  std::string found;
  detail::for_each_word(line, [&](const std::string& word, bool quoted) {
    const size_t at = word.find_first_not_of("0123456789");
    const bool redirects = at != std::string::npos && (word[at] == '<' || word[at] == '>');
    const size_t dollar = word.find('$');
    const bool expands = dollar != std::string::npos && dollar + 1 < word.size() &&
                         (isalpha(static_cast<unsigned char>(word[dollar + 1])) != 0 ||
                          std::string_view("_{(").find(word[dollar + 1]) != std::string_view::npos);
    const bool joins = word.back() == ';' || word.find_first_not_of("&|") == std::string::npos;
    if (found.empty() && !quoted && (redirects || expands || joins)) found = word;
  });
  return found;
}

/// Of the words of a command that was not found, the one that a shell was perhaps meant for: "cd" or
/// "PORT=8000" at the beginning, "&&" and the like anywhere; none: "".
inline std::string shell_word(const std::vector<std::string>& words) {
  static constexpr std::string_view kOwn[] = {"cd",    "exec", "export", "source", ".",   "set",
                                              "unset", "trap", "ulimit", "umask",  "eval"};
  static constexpr std::string_view kOperators[] = {"&&", "||", "|", "<", ">", ">>", "2>", "2>&1"};
  const auto is_in = [](const auto& list, const std::string& word) {
    return std::find(std::begin(list), std::end(list), word) != std::end(list);
  };
  if (words.empty()) return {};
  const std::string& first = words.front();
  const size_t name =
      first.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_0123456789");
  if (is_in(kOwn, first) || first.find(' ') != std::string::npos ||
      (name != std::string::npos && name > 0 && first[name] == '='))
    return first;
  const auto found = std::find_if(words.begin(), words.end(),
                                  [&](const std::string& word) { return is_in(kOperators, word); });
  return found == words.end() ? std::string() : *found;
}

/// A command: its words, the file to execute first; or a line, which is split by split_words(), or run by a
/// shell where Options::shell is set.
class Command {
 public:
  Command(std::vector<std::string> words) : words_(std::move(words)) {}
  Command(std::initializer_list<std::string> words) : words_(words) {}
  Command(std::string_view line) : line_(line), is_line_(true) {}
  Command(const std::string& line) : Command(std::string_view(line)) {}
  Command(const char* line) : Command(std::string_view(line)) {}

  /// What is executed. std::invalid_argument: there is no command, or there are NULs in it.
  std::vector<std::string> arguments(bool shell) const {
    std::vector<std::string> words = words_;
    if (is_line_ && !shell) words = split_words(line_);
    if (shell) {
      if (!is_line_ && words.size() != 1)
        throw std::invalid_argument("weft::process: a shell runs one text, not " +
                                    std::to_string(words.size()) +
                                    " words; expected a line, or Options::shell = false");
      const std::string text = is_line_ ? line_ : words.front();
      words.clear();
      if (text.find_first_not_of(" \t\n") != std::string::npos) words = {"/bin/sh", "-c", text};
    }
    if (words.empty() || words.front().empty())
      throw std::invalid_argument("weft::process: the command is empty; expected at least a file to execute");
    for (const std::string& word : words)
      if (word.find('\0') != std::string::npos)
        throw std::invalid_argument("weft::process: the argument '" + std::string(word.c_str()) +
                                    "...' has a NUL in it; expected text without");
    return words;
  }

  /// For messages.
  std::string text() const {
    if (is_line_) return line_;
    std::string all;
    for (const std::string& word : words_) {
      const bool plain = !word.empty() && word.find_first_of(" \t\n'\"\\$`*?#~;&|<>()") == std::string::npos;
      if (!all.empty()) all += ' ';
      if (!plain) all += '\'';
      for (const char c : word)
        if (c == '\'')
          all += "'\\''";
        else
          all += c;
      if (!plain) all += '\'';
    }
    return all;
  }

 private:
  std::vector<std::string> words_;
  std::string line_;
  bool is_line_ = false;
};

}  // namespace weft::process
