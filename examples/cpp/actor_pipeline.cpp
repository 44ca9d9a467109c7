// Averages what sensors have measured, in four stages made of actors: read, parse, aggregate, write.
// Shows a pool on OS threads, mailboxes that hold up who sends too fast, messages that own what they bring, a
// parser that is made anew after each record that it cannot read, and an end in the order of the stages.
//
//   actor_pipeline                           a hundred thousand records, made up
//   actor_pipeline --parsers 8 FILE          its lines, as "3 250": sensor and value
#include <getopt.h>

#include <atomic>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>

#include "interrupt.hpp"

namespace {

using Text = std::unique_ptr<char[]>;

constexpr long kWindow = 1000;  // so many readings of a sensor make a line of output

struct Options {
  long records = 100'000, bad = 20, parsers = 4;
  const char* file = nullptr;
};

struct Reading {
  unsigned sensor = 0;
  long value = 0;
};

class Writer : public weft::Actor<Writer> {
 public:
  void write(unsigned sensor, long count, long total) {
    printf("sensor %u: %ld readings, %.1f on average\n", sensor, count,
           static_cast<double>(total) / static_cast<double>(count));
    fflush(stdout);
  }
};

class Aggregator : public weft::Actor<Aggregator> {
 public:
  explicit Aggregator(weft::ActorRef<Writer> writer) : writer_(std::move(writer)) {}

  void take(const Reading& reading) {
    Sum& sum = sums_[reading.sensor];
    sum.total += reading.value;
    if (++sum.count == kWindow) emit(reading.sensor, sum);
  }
  void reject(const std::string& why) {
    if (++rejected_ == 1) fprintf(stderr, "actor_pipeline: %s\n", why.c_str());
  }
  long rejected() const { return rejected_; }
  void on_stop() {
    for (auto& [sensor, sum] : sums_)
      if (sum.count > 0) emit(sensor, sum);
  }

 private:
  struct Sum {
    long count = 0, total = 0;
  };
  void emit(unsigned sensor, Sum& sum) {
    writer_.tell(&Writer::write, sensor, sum.count, sum.total);
    sum = {};
  }

  weft::ActorRef<Writer> writer_;
  std::map<unsigned, Sum> sums_;
  long rejected_ = 0;
};

class Parser : public weft::Actor<Parser> {
 public:
  explicit Parser(weft::ActorRef<Aggregator> aggregator) : aggregator_(std::move(aggregator)) {}

  void parse(Text text) {
    const char* const end = text.get() + strlen(text.get());
    Reading reading;
    const auto [space, error] = std::from_chars(text.get(), end, reading.sensor);
    if (error == std::errc() && space != end && *space == ' ')
      if (const auto [rest, wrong] = std::from_chars(space + 1, end, reading.value);
          wrong == std::errc() && rest == end)
        return aggregator_.tell(&Aggregator::take, reading);
    throw std::invalid_argument("this is no record: " + std::string(text.get()));
  }
  void on_failure(const std::exception_ptr& failure) try {
    std::rethrow_exception(failure);
  } catch (const std::exception& error) {
    aggregator_.tell(&Aggregator::reject, error.what() + std::string());
  }

 private:
  weft::ActorRef<Aggregator> aggregator_;
};

class Reader : public weft::Actor<Reader> {
 public:
  Reader(const Options& options, weft::ActorRef<Parser> parsers, weft::Promise<void>& over)
      : options_(options), parsers_(std::move(parsers)), over_(over) {
    if (options.file) file_.open(options.file);
    if (!file_) throw std::runtime_error("cannot open " + std::string(options.file));
  }
  // Some records for each message, so that it hears of the end between them.
  void read() {
    std::string line;
    for (int i = 0; i < 100 && !ended_; ++i) {
      ended_ = !next(line);
      if (ended_) break;
      Text text(new char[line.size() + 1]);
      memcpy(text.get(), line.c_str(), line.size() + 1);
      parsers_.tell(&Parser::parse, std::move(text));  // waits while the parsers are behind
      ++records_;
    }
    if (ended_)
      over_.set();
    else
      self().tell(&Reader::read);
  }
  long end() {
    ended_ = true;
    return records_;
  }
  void on_failure(const std::exception_ptr& failure) { over_.set_exception(failure); }

 private:
  bool next(std::string& line) {
    if (options_.file) return static_cast<bool>(std::getline(file_, line));
    if (records_ >= options_.records) return false;
    const auto bad_before = [&](long record) { return record * options_.bad / options_.records; };
    const bool bad = bad_before(records_) != bad_before(records_ + 1);
    line = std::to_string(records_ % 8) + (bad ? " ?" : " " + std::to_string(records_ % 1000));
    return true;
  }

  const Options options_;
  weft::ActorRef<Parser> parsers_;
  weft::Promise<void>& over_;
  std::ifstream file_;
  long records_ = 0;
  bool ended_ = false;
};

std::atomic<long> dead_letters{0};

template <typename T>
weft::ActorStatistics print_statistics(const char* stage, const std::vector<weft::ActorRef<T>>& actors) {
  weft::ActorStatistics sum{};
  for (const auto& actor : actors) {
    const weft::ActorStatistics each = actor.statistics();
    sum.handled += each.handled;
    sum.failed += each.failed;
    sum.restarted += each.restarted;
    sum.busy_nanos += each.busy_nanos;
  }
  printf("%-10s %zu actors, %ld messages, %ld failed, made anew %ld times, busy for %.3f s\n", stage,
         actors.size(), static_cast<long>(sum.handled), static_cast<long>(sum.failed),
         static_cast<long>(sum.restarted), static_cast<double>(sum.busy_nanos) / 1e9);
  return sum;
}

bool run(const Options& options, const weft::OwnedDescriptor& interrupted) {
  weft::set_dead_letter_handler([](const weft::DeadLetter&) noexcept { ++dead_letters; });
  const weft::Dispatcher threads = weft::Dispatcher::threads(2, "parsers");
  // No limit to how often: a record that cannot be read says nothing about the next.
  const weft::Restart at_once{.limit = 1, .quiet = {}, .delay = {}};
  weft::Promise<void> over;
  const auto writer = Writer::start_with(
      {.name = "writer", .mailbox = {.capacity = 8}, .dispatcher = weft::Dispatcher::own_thread()});
  const auto aggregator =
      Aggregator::start_with({.name = "aggregator", .mailbox = {.capacity = 256}}, writer);
  const auto parsers = Parser::start_pool(
      {.size = static_cast<size_t>(options.parsers),
       .routing = weft::Routing::kLeastWaiting,
       .actor = {.name = "parser", .mailbox = {.capacity = 64}, .dispatcher = threads, .restart = at_once}},
      aggregator);
  const auto reader = Reader::start_with({.name = "reader"}, options, parsers, over);
  reader.tell(&Reader::read);

  weft::TaskGroup group;
  (void)group.spawn([&] {
    weft::wait_readable(interrupted.get());
    over.set();
  });
  over.future().get();
  group.cancel();
  group.join();

  // What a stage has sent is handled before the next one stops.
  const long records = reader.ask_urgently(&Reader::end).get();
  reader.stop().wait();
  const auto all_parsers = parsers.workers();
  parsers.stop().wait();
  const long rejected = aggregator.ask(&Aggregator::rejected).get();
  aggregator.stop().wait();
  writer.stop().wait();

  print_statistics<Reader>("reader", {reader});
  const weft::ActorStatistics parsed = print_statistics("parsers", all_parsers);
  print_statistics<Aggregator>("aggregator", {aggregator});
  print_statistics<Writer>("writer", {writer});
  printf("%ld records, %ld of them rejected, %ld dead letters\n", records, rejected, dead_letters.load());
  return static_cast<long>(parsed.handled) == records && static_cast<long>(parsed.failed) == rejected &&
         dead_letters == 0;
}

void print_usage(FILE* out) {
  fprintf(out, "Usage: actor_pipeline [--records N] [--bad N] [--parsers N] [FILE]\n");
}

// False: they are wrong.
bool parse_options(int argc, char** argv, Options& options) {
  constexpr option kNames[] = {{"records", required_argument, nullptr, 'r'},
                               {"bad", required_argument, nullptr, 'b'},
                               {"parsers", required_argument, nullptr, 'p'},
                               {"help", no_argument, nullptr, 'h'},
                               {}};
  for (int name; (name = getopt_long(argc, argv, "h", kNames, nullptr)) != -1;) {
    if (name == 'h') {
      print_usage(stdout);
      exit(0);
    }
    if (name == '?') return false;
    (name == 'r' ? options.records : name == 'b' ? options.bad : options.parsers) = atol(optarg);
  }
  if (optind < argc) options.file = argv[optind++];
  return optind == argc && options.records > 0 && options.bad >= 0 && options.parsers > 0;
}

}  // namespace

int main(int argc, char** argv) try {
  Options options;
  if (!parse_options(argc, argv, options)) {
    print_usage(stderr);
    return 2;
  }
  const weft::OwnedDescriptor interrupted = interrupt_descriptor();
  const weft::Runtime runtime;
  return run(options, interrupted) ? 0 : 1;
} catch (const std::exception& error) {
  fprintf(stderr, "actor_pipeline: %s\n", error.what());
  return 1;
}
