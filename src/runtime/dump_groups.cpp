#include "runtime/dump_groups.hpp"

#include <map>
#include <string_view>
#include <tuple>

namespace weft::engine::dump {

std::vector<Group> group_fibers(const Snapshot& snapshot, Form form,
                                const std::function<StackKey(const FiberRecord&)>& key_of) {
  using Key = std::tuple<Fiber::State, bool, bool, WaitKind, std::string_view, std::string_view,
                         std::string_view, StackKey>;
  std::vector<Group> groups;
  std::map<Key, size_t> known;
  for (const FiberRecord* fiber = snapshot.first(); fiber; fiber = fiber->next) {
    size_t index = groups.size();
    if (form == Form::kGrouped) {
      Key key(fiber->state, fiber->running, fiber->holds_gil, fiber->reason.kind, fiber->reason.call,
              fiber->holder, fiber->python, key_of(*fiber));
      index = known.try_emplace(std::move(key), index).first->second;
    }
    if (index == groups.size()) groups.emplace_back();
    groups[index].push_back(fiber);
  }
  return groups;
}

}  // namespace weft::engine::dump
