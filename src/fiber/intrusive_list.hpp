// A doubly linked list through a hook inside each element: no allocation, O(1) removal of any element.
#pragma once

#include <cstddef>

namespace weft::engine {

/// The links of an element. An element is on at most one list per hook.
struct ListHook {
  ListHook* next = nullptr;
  ListHook* previous = nullptr;

  bool linked() const noexcept { return next != nullptr; }

  /// REQUIRES: linked().
  void unlink() noexcept {
    next->previous = previous;
    previous->next = next;
    next = previous = nullptr;
  }
};

/// Turns a list of nodes linked by `next` round: what was pushed newest first comes oldest first.
template <typename Node>
Node* reversed(Node* first) noexcept {
  Node* turned = nullptr;
  while (first) {
    Node* next = first->next;
    first->next = turned;
    turned = first;
    first = next;
  }
  return turned;
}

/// A FIFO list of `T`s by their base class or member `ListHook`. Does not own its elements. Not thread-safe.
/// `T` must derive from ListHook.
template <typename T>
class List {
 public:
  List() noexcept { clear(); }
  List(const List&) = delete;
  List& operator=(const List&) = delete;

  bool empty() const noexcept { return head_.next == &head_; }
  T* front() noexcept { return empty() ? nullptr : static_cast<T*>(head_.next); }
  T* after(T& element) noexcept {
    ListHook* next = static_cast<ListHook&>(element).next;
    return next == &head_ ? nullptr : static_cast<T*>(next);
  }

  void push_back(T& element) noexcept { insert_before(head_, element); }
  void push_front(T& element) noexcept { insert_before(*head_.next, element); }

  T* pop_front() noexcept {
    T* element = front();
    if (element) static_cast<ListHook*>(element)->unlink();
    return element;
  }

  /// Moves all of `other` behind this list's last element.
  void splice_back(List& other) noexcept {
    if (other.empty()) return;
    ListHook *first = other.head_.next, *last = other.head_.previous;
    first->previous = head_.previous;
    head_.previous->next = first;
    last->next = &head_;
    head_.previous = last;
    other.clear();
  }

  /// Forgets the elements without touching them.
  void clear() noexcept { head_.next = head_.previous = &head_; }

 private:
  static void insert_before(ListHook& place, T& element) noexcept {
    ListHook& hook = element;
    hook.next = &place;
    hook.previous = place.previous;
    place.previous->next = &hook;
    place.previous = &hook;
  }

  ListHook head_;
};

}  // namespace weft::engine
