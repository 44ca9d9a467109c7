#include "process/stack.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <map>
#include <optional>
#include <set>
#include <sstream>

// toml++ 3.3 asserts of a key in a table in braces what it then looks at: `{ a = 1, . }` is an error of the
// file. With NDEBUG it would even let the compiler rely on it.
#undef NDEBUG
#define TOML_ASSERT(expr) static_cast<void>(0)
#include <toml++/toml.h>

namespace weft::process {

namespace {

std::string quoted(std::string_view text) {
  return "'" + std::string(text) + "'";
}

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ", ") + word;
  return text;
}

std::string type_of(const toml::node& node) {
  switch (node.type()) {
    case toml::node_type::table:
      return "a table";
    case toml::node_type::array:
      return "a list";
    case toml::node_type::string:
      return "text";
    case toml::node_type::integer:
      return "a whole number";
    case toml::node_type::floating_point:
      return "a number";
    case toml::node_type::boolean:
      return "true or false";
    default:
      return "a date or time";
  }
}

struct Entry {
  const toml::key* key;
  const toml::node* value;
};

// toml++ sorts a table's keys; a file has an order that its author chose.
std::vector<Entry> entries_of(const toml::table& table) {
  std::vector<Entry> entries;
  for (const auto& [key, value] : table) entries.push_back({&key, &value});
  std::stable_sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    const auto where = [](const Entry& entry) { return entry.key->source().begin; };
    return where(a).line != where(b).line ? where(a).line < where(b).line : where(a).column < where(b).column;
  });
  return entries;
}

class Parser {
 public:
  Parser(const std::string& file, const StackDefaults& defaults) : file_(file), defaults_(defaults) {}

  std::vector<Service> parse(std::string_view text);

 private:
  struct Parsed {
    Service service;
    toml::source_position where;
    std::map<std::string, toml::source_position> after;
    std::vector<std::pair<std::string, toml::source_position>> places;  // that it is waited for at
  };

  [[noreturn]] void fail(const toml::source_position& where, const std::string& text) const {
    throw StackError(file_ + ":" + std::to_string(where.line) + ":" + std::to_string(where.column) + ": " +
                     text);
  }
  [[noreturn]] void expect(const toml::node& node, const std::string& what, const char* expected) const {
    fail(node.source().begin, what + " is " + type_of(node) + "; expected " + expected);
  }

  // What `make` finds wrong is told with its place.
  template <typename Make>
  auto checked(const toml::node& node, const std::string& key, Make&& make) const {
    try {
      return make();
    } catch (const std::invalid_argument& error) {
      fail(node.source().begin, key + ": " + for_users(error.what()));
    }
  }

  std::string text(const toml::node& node, const std::string& key, const char* expected = "text") const {
    const auto* const string = node.as_string();
    if (!string) expect(node, key, expected);
    if (string->get().find('\0') != std::string::npos)
      fail(node.source().begin, key + " has a NUL in it; expected text without");
    return string->get();
  }
  bool flag(const toml::node& node, const std::string& key) const {
    const auto* const boolean = node.as_boolean();
    if (!boolean) expect(node, key, "true or false");
    return boolean->get();
  }
  std::chrono::nanoseconds seconds(const toml::node& node, const std::string& key) const {
    const auto number = node.value<double>();
    if (!number || !node.is_number()) expect(node, key, "seconds, as in 30 or 0.5");
    return checked(node, key, [&] { return parse_seconds(*number); });
  }
  std::map<std::string, std::string> texts_by_name(const toml::node& node, const std::string& key) const {
    const auto* const table = node.as_table();
    if (!table) expect(node, key, "a table of texts, as in { NAME = \"value\" }");
    std::map<std::string, std::string> all;
    for (const Entry& entry : entries_of(*table)) {
      const std::string name(entry.key->str());
      if (name.empty() || name.find('\0') != std::string::npos)
        fail(entry.key->source().begin, key + " has a name that is none; expected letters");
      all[name] = text(*entry.value, key + "." + name, "text, in quotes");
    }
    return all;
  }
  // Calls `take` with the value itself, or each of the list that it is.
  template <typename Take>
  void each(const toml::node& node, const std::string& key, Take&& take) const {
    const auto* const list = node.as_array();
    if (!list) return take(node);
    if (list->empty()) fail(node.source().begin, key + " is an empty list; expected one value or more");
    for (const toml::node& element : *list) take(element);
  }

  Command command(const toml::node& node) const;
  Parsed service(const toml::key& name, const toml::node& node) const;
  bool take_option(Parsed& parsed, const std::string& key, const toml::node& value) const;
  bool take_http(HttpOptions& http, const std::string& key, const toml::node& value) const;
  void take_waits(const toml::table& table, const HttpOptions& http, Parsed& parsed) const;
  void check_places(const std::vector<Parsed>& all) const;
  std::vector<Service> ordered(std::vector<Parsed> all) const;

  const std::string& file_;
  const StackDefaults& defaults_;
};

Command Parser::command(const toml::node& node) const {
  constexpr const char* kExpected =
      "a list of words, as in [\"redis-server\", \"--port\", \"7000\"], or one text";
  if (node.is_string()) return Command(text(node, "command"));
  const auto* const list = node.as_array();
  if (!list) expect(node, "command", kExpected);
  std::vector<std::string> words;
  for (const toml::node& word : *list) words.push_back(text(word, "a word of command", kExpected));
  return Command(std::move(words));
}

bool Parser::take_http(HttpOptions& http, const std::string& key, const toml::node& value) const {
  if (key == "status") {
    http.status = text(value, key, "a regular expression for three digits, as in \"^2..$\"");
  } else if (key == "method") {
    http.method = text(value, key);
  } else if (key == "headers") {
    for (const auto& [name, header] : texts_by_name(value, key)) http.headers.emplace_back(name, header);
  } else if (key == "insecure") {
    http.verify = !flag(value, key);
  } else if (key == "ca-file") {
    http.ca_file = text(value, key);
  } else if (key == "follow") {
    http.follow_redirects = flag(value, key);
  } else {
    return false;
  }
  return true;
}

bool Parser::take_option(Parsed& parsed, const std::string& key, const toml::node& value) const {
  Service& service = parsed.service;
  Options& options = service.options;
  if (key == "command") {
    service.command = command(value);
  } else if (key == "shell") {
    options.shell = flag(value, key);
  } else if (key == "cwd") {
    options.cwd = text(value, key);
  } else if (key == "env") {
    for (const auto& [name, variable] : texts_by_name(value, key)) options.environment[name] = variable;
  } else if (key == "timeout") {
    options.timeout = seconds(value, key);
  } else if (key == "grace") {
    options.grace = seconds(value, key);
  } else if (key == "stop-signal") {
    const auto number = value.as_integer();
    const std::string name =
        number ? std::to_string(number->get()) : text(value, key, "a name or number, as in \"INT\" or 2");
    options.stop_signal = checked(value, key, [&] { return parse_signal(name); });
  } else if (key == "after") {
    if (const auto* const list = value.as_array(); list && list->empty()) return true;
    each(value, key, [&](const toml::node& element) {
      const std::string name = text(element, key, "names of services, as in [\"db\"]");
      if (parsed.after.emplace(name, element.source().begin).second) service.after.push_back(name);
    });
  } else {
    return false;
  }
  return true;
}

void Parser::take_waits(const toml::table& table, const HttpOptions& http, Parsed& parsed) const {
  std::vector<Readiness> parts;
  bool any = false;
  for (const auto& [name, node] : table) {
    const std::string key(name.str());
    if (key == "any") any = flag(node, key);
    if (!key.starts_with("wait-")) continue;
    each(node, key, [&](const toml::node& value) {
      const auto* const number = key == "wait-port" ? value.as_integer() : nullptr;
      const std::string what = number ? std::to_string(number->get())
                                      : text(value, key,
                                             key == "wait-port" ? "a port or \"HOST:PORT\", or a list of them"
                                                                : "text, or a list of texts");
      parts.push_back(checked(value, key, [&] { return parse_readiness(key, what, http); }));
      if (key != "wait-output")
        parsed.places.emplace_back(parts.back().condition()->name(), value.source().begin);
    });
  }
  parsed.service.readiness = join_readiness(std::move(parts), any);
}

// One service's port would make the other ready.
void Parser::check_places(const std::vector<Parsed>& all) const {
  std::map<std::string, const Parsed*> owners;
  for (const Parsed& parsed : all)
    for (const auto& [place, where] : parsed.places)
      if (const auto [owner, is_new] = owners.emplace(place, &parsed); !is_new && owner->second != &parsed)
        fail(where, place + " is what service " + quoted(owner->second->service.name) +
                        " is waited for, too; expected a place of its own for each");
}

Parser::Parsed Parser::service(const toml::key& name, const toml::node& node) const {
  static const std::set<std::string> kWaits = {"wait-port", "wait-http",   "wait-output",
                                               "wait-file", "wait-socket", "any"};
  Parsed parsed;
  parsed.where = name.source().begin;
  Service& service = parsed.service;
  service.name = std::string(name.str());
  service.options = defaults_.options;
  const bool plain = std::none_of(service.name.begin(), service.name.end(),
                                  [](unsigned char c) { return c < ' ' || c == 127; });
  if (service.name.empty() || !plain)
    fail(parsed.where, "a service has a name that cannot be printed; expected letters, as in [service.db]");
  const auto* const table = node.as_table();
  if (!table) expect(node, "service." + service.name, "a table, as in [service.db]");
  HttpOptions http;
  for (const Entry& entry : entries_of(*table)) {
    const std::string key(entry.key->str());
    if (take_http(http, key, *entry.value)) {
      if (!table->contains("wait-http"))
        fail(entry.key->source().begin, key + " is for wait-http, which this service does not have");
      continue;
    }
    if (take_option(parsed, key, *entry.value) || kWaits.contains(key)) continue;
    fail(entry.key->source().begin,
         quoted(key) +
             " is no key of a service; expected command, wait-port, wait-http, wait-output, "
             "wait-file, wait-socket, any, status, method, headers, insecure, ca-file, follow, "
             "timeout, grace, stop-signal, env, cwd, shell or after");
  }
  const toml::node* const command = table->get("command");
  if (!command)
    fail(parsed.where, "service." + service.name + " has no command; expected command = [\"server\", ...]");
  take_waits(*table, http, parsed);
  if (const toml::node* const any = table->get("any"); any && !service.readiness.condition())
    fail(any->source().begin, "any is for several wait-..., and there is none");
  const auto what_a_shell_needs = [&] {
    return command->is_string() && !service.options.shell ? shell_operator(**command->as_string())
                                                          : std::string();
  };
  if (const std::string word = checked(*command, "service." + service.name, what_a_shell_needs);
      !word.empty())
    fail(command->source().begin,
         "command: " + quoted(word) +
             " is for a shell; expected shell = true beside it, quotes around the word, or a list of words");
  checked(*command, "service." + service.name,
          [&] { return Executor(service.command, service.options, service.readiness).pid(); });
  return parsed;
}

// Repeatedly the first of the file for which all that it comes after is there.
std::vector<Service> Parser::ordered(std::vector<Parsed> all) const {
  const auto find = [&](const std::string& name) {
    return std::find_if(all.begin(), all.end(),
                        [&](const Parsed& parsed) { return parsed.service.name == name; });
  };
  for (const Parsed& parsed : all)
    for (const auto& [name, where] : parsed.after)
      if (find(name) == all.end()) {
        std::vector<std::string> names;
        for (const Parsed& other : all) names.push_back(other.service.name);
        fail(where, "after: there is no service " + quoted(name) + "; expected one of " + joined(names));
      }
  std::vector<Service> sorted;
  std::set<std::string> done;
  while (sorted.size() < all.size()) {
    const auto unmet = [&](const Parsed& parsed) -> const std::string* {
      for (const std::string& name : parsed.service.after)
        if (!done.contains(name)) return &name;
      return nullptr;
    };
    const auto next = std::find_if(all.begin(), all.end(), [&](const Parsed& parsed) {
      return !done.contains(parsed.service.name) && !unmet(parsed);
    });
    if (next != all.end()) {
      done.insert(next->service.name);
      sorted.push_back(next->service);
      continue;
    }
    // Whoever is left waits for one that is left: following those must come round.
    std::vector<std::string> path;
    std::string name;
    for (const Parsed& parsed : all)
      if (name.empty() && !done.contains(parsed.service.name)) name = parsed.service.name;
    while (std::find(path.begin(), path.end(), name) == path.end()) {
      path.push_back(name);
      name = *unmet(*find(name));
    }
    path.erase(path.begin(), std::find(path.begin(), path.end(), name));
    const Parsed& first = *find(path.front());
    std::string circle;
    for (const std::string& each_name : path) circle += each_name + " after ";
    const std::string& second = path.size() > 1 ? path[1] : path[0];
    fail(first.after.at(second), "the services wait for each other: " + circle + path.front() +
                                     "; expected an order without a circle");
  }
  return sorted;
}

std::vector<Service> Parser::parse(std::string_view text) {
  constexpr const char* kExpected = "expected [service.NAME] with a command";
  toml::table root;
  try {
    root = toml::parse(text, file_);
  } catch (const toml::parse_error& error) {
    fail(error.source().begin, std::string(error.description()) + "; expected TOML");
  }
  for (const Entry& entry : entries_of(root))
    if (entry.key->str() != "service")
      fail(entry.key->source().begin, quoted(entry.key->str()) + " is unknown here; " + kExpected);
  const toml::node* const services = root.get("service");
  const toml::source_position start{1, 1};
  if (!services) fail(start, std::string("there is no service; ") + kExpected);
  const auto* const table = services->as_table();
  if (!table) expect(*services, "service", "tables, as in [service.db]");
  if (table->empty()) fail(services->source().begin, std::string("there is no service; ") + kExpected);
  std::vector<Parsed> all;
  for (const Entry& entry : entries_of(*table)) all.push_back(service(*entry.key, *entry.value));
  check_places(all);
  return ordered(std::move(all));
}

}  // namespace

std::vector<Service> parse_stack(std::string_view text, const std::string& file,
                                 const StackDefaults& defaults) {
  return Parser(file, defaults).parse(text);
}

std::vector<Service> read_stack(const std::string& file, const StackDefaults& defaults) {
  errno = 0;
  std::ifstream stream(file, std::ios::binary);
  std::ostringstream text;
  if (stream && stream.peek() != std::ifstream::traits_type::eof()) text << stream.rdbuf();
  if (errno || !stream.is_open())
    throw StackError(file + ": " + strerror(errno ? errno : EIO) + "; expected a file with [service.NAME]");
  return parse_stack(text.str(), file, defaults);
}

std::vector<Service> select_services(const std::vector<Service>& services,
                                     const std::vector<std::string>& names) {
  std::set<std::string> wanted(names.begin(), names.end());
  for (const std::string& name : names)
    if (std::none_of(services.begin(), services.end(),
                     [&](const Service& service) { return service.name == name; })) {
      std::vector<std::string> known;
      for (const Service& service : services) known.push_back(service.name);
      throw std::invalid_argument("there is no service '" + name + "'; expected one of " + joined(known));
    }
  // Whoever comes after another stands behind it.
  for (auto service = services.rbegin(); service != services.rend(); ++service)
    if (wanted.contains(service->name)) wanted.insert(service->after.begin(), service->after.end());
  std::vector<Service> selected;
  for (const Service& service : services)
    if (wanted.contains(service.name)) selected.push_back(service);
  return selected;
}

std::string describe_order(const std::vector<Service>& services) {
  std::string text;
  for (const Service& service : services)
    text += service.name + (service.after.empty() ? "" : ": after " + joined(service.after)) + "\n";
  return text;
}

}  // namespace weft::process
