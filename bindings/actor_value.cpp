// Python's actors and those of other languages: values, messages both ways, and what an ActorRef of another
// language's actor is.
#include "actor_value.hpp"

#include <nanobind/stl/string.h>
#include <unistd.h>

#include <map>
#include <utility>
#include <vector>

#include "weft/any_actor.hpp"

namespace weft::python {

using detail::Ending;
using detail::Handled;
using detail::ValueAnswer;
using detail::ValueMessage;

// --- Values.

namespace {

// Bytes that are no UTF-8 are what os.fsdecode() makes of them, and become the same bytes again.
constexpr const char* kUndecodable = "surrogateescape";

nb::object checked(PyObject* made) {
  if (!made) throw nb::python_error();
  return nb::steal(made);
}

std::string utf8_of(PyObject* text) {
  Py_ssize_t size;
  if (const char* data = PyUnicode_AsUTF8AndSize(text, &size)) return {data, static_cast<size_t>(size)};
  PyErr_Clear();
  const nb::object bytes = checked(PyUnicode_AsEncodedString(text, "utf-8", kUndecodable));
  return {PyBytes_AS_STRING(bytes.ptr()), static_cast<size_t>(PyBytes_GET_SIZE(bytes.ptr()))};
}

Value bytes_of(const char* data, Py_ssize_t size) {
  return Value(std::span(reinterpret_cast<const std::byte*>(data), static_cast<size_t>(size)));
}

Value items_of(PyObject* sequence) {
  const nb::object kept = checked(PySequence_Tuple(sequence));  // a list may change meanwhile
  std::vector<Value> items;
  items.reserve(static_cast<size_t>(PyTuple_GET_SIZE(kept.ptr())));
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(kept.ptr()); ++i)
    items.push_back(to_value(PyTuple_GET_ITEM(kept.ptr(), i)));
  return items;
}

Value entries_of(PyObject* dictionary) {
  const nb::object kept = checked(PyDict_Items(dictionary));
  std::map<std::string, Value> items;
  for (Py_ssize_t i = 0; i < PyList_GET_SIZE(kept.ptr()); ++i) {
    PyObject* pair = PyList_GET_ITEM(kept.ptr(), i);
    PyObject* key = PyTuple_GET_ITEM(pair, 0);
    if (!PyUnicode_Check(key))
      raise_text(PyExc_TypeError,
                 "keys of a dictionary for an actor of another language must be str, not " + type_name(key));
    items.emplace(utf8_of(key), to_value(PyTuple_GET_ITEM(pair, 1)));
  }
  return items;
}

Value integer_of(PyObject* number) {
  const nb::object index = checked(PyNumber_Index(number));
  int overflow;
  const long long integer = PyLong_AsLongLongAndOverflow(index.ptr(), &overflow);
  if (overflow)
    raise_error(PyExc_OverflowError,
                "an integer for an actor of another language must fit into 64 bits with a sign");
  return integer;
}

Value nested(PyObject* object, Value (*convert)(PyObject*)) {
  if (Py_EnterRecursiveCall(" while a message was converted")) throw nb::python_error();
  try {
    Value value = convert(object);
    Py_LeaveRecursiveCall();
    return value;
  } catch (...) {
    Py_LeaveRecursiveCall();
    throw;
  }
}

}  // namespace

Value to_value(PyObject* object) {
  if (object == Py_None) return {};
  if (PyBool_Check(object)) return object == Py_True;
  if (PyLong_Check(object)) return integer_of(object);
  if (PyFloat_Check(object)) return PyFloat_AS_DOUBLE(object);
  if (PyUnicode_Check(object)) return utf8_of(object);
  if (PyBytes_Check(object)) return bytes_of(PyBytes_AS_STRING(object), PyBytes_GET_SIZE(object));
  if (PyByteArray_Check(object)) return bytes_of(PyByteArray_AS_STRING(object), PyByteArray_GET_SIZE(object));
  if (PyList_Check(object) || PyTuple_Check(object)) return nested(object, &items_of);
  if (PyDict_Check(object)) return nested(object, &entries_of);
  if (nb::isinstance<ActorRefObject>(object)) {
    if (core_of(object).remote())
      raise_error(PyExc_TypeError, "a reference to an actor of another process is for Python's actors alone");
    return value_of(core_of(object).target());
  }
  if (PyIndex_Check(object)) return integer_of(object);
  raise_text(PyExc_TypeError,
             "actors of other languages understand None, bool, int, float, str, bytes, lists, "
             "dictionaries and ActorRefs, not " +
                 type_name(object));
}

nb::object to_python(const Value& value) {
  switch (value.kind()) {
    case Value::Kind::kNone:
      break;
    case Value::Kind::kBool:
      return nb::bool_(value.boolean());
    case Value::Kind::kInteger:
      return checked(PyLong_FromLongLong(value.integer()));
    case Value::Kind::kReal:
      return checked(PyFloat_FromDouble(value.real()));
    case Value::Kind::kText:
      return checked(PyUnicode_DecodeUTF8(value.text().data(), static_cast<Py_ssize_t>(value.text().size()),
                                          kUndecodable));
    case Value::Kind::kBytes:
      return checked(PyBytes_FromStringAndSize(reinterpret_cast<const char*>(value.bytes().data()),
                                               static_cast<Py_ssize_t>(value.bytes().size())));
    case Value::Kind::kList: {
      nb::object list = checked(PyList_New(static_cast<Py_ssize_t>(value.size())));
      for (size_t i = 0; i < value.size(); ++i)
        PyList_SET_ITEM(list.ptr(), static_cast<Py_ssize_t>(i), to_python(value[i]).release().ptr());
      return list;
    }
    case Value::Kind::kMap: {
      nb::dict dictionary;
      for (const ValueItem& item : value.map())
        dictionary[to_python(Value(item.key()))] = to_python(item.value());
      return dictionary;
    }
    case Value::Kind::kActor:
      return reference_to(detail::AnyActor::core(value.as<AnyActorRef>()));
  }
  return nb::none();
}

Value value_of(detail::ActorCore& actor) {
  return detail::AnyActor::of(actor);
}

nb::object reference_to(detail::ActorCore& core) {
  if (PyActor* actor = PyActor::of(core)) return ActorRefObject::make(*actor);
  return ActorRefObject::make(*detail::Ref<PyActor>::adopt(new PyActor(core)));
}

// --- Messages to actors of other languages.

namespace {

/// What an ActorRef sends to an actor of another language.
struct AskedValue final : ValueMessage {
  AskedValue(detail::ActorCore& whom, const detail::MessageType& kind) noexcept
      : actor(detail::Ref<detail::ActorCore>::share(whom)) {
    type = &kind;
    settle = &take;
  }
  static void take(ValueMessage& self, const ValueAnswer* answer) noexcept;

  /// Has it settle a future, of which it takes a reference.
  void answer_to(PyObject* future) noexcept {
    reply = future;
    asked = true;
    later = open;
    if (later) later->earlier = this;
    open = this;
  }
  /// REQUIRES: the GIL, if it was asked.
  void drop() noexcept {
    PyObject* const future = reply;
    if (future) (earlier ? earlier->later : open) = later;
    if (future && later) later->earlier = earlier;
    delete this;
    Py_XDECREF(future);
  }

  const detail::Ref<detail::ActorCore> actor;
  PyObject* reply = nullptr;  // a FutureObject
  // Guarded by the GIL: those that have a future.
  AskedValue *earlier = nullptr, *later = nullptr;
  static AskedValue* open;
};

AskedValue* AskedValue::open = nullptr;

// In a fork child, another one than getpid() until lose_foreign_answers(): the core refuses messages there
// before the interpreter is fit for use.
pid_t g_process = 0;

PyObject* new_error(PyObject* type, const char* text) {
  PyObject* message = PyUnicode_DecodeUTF8(text, static_cast<Py_ssize_t>(strlen(text)), kUndecodable);
  PyObject* error = message ? PyObject_CallOneArg(type, message) : nullptr;
  Py_XDECREF(message);
  return error ? error : take_exception();
}

PyObject* error_of(const ValueAnswer& answer) {
  switch (answer.how) {
    case Ending::kValue:
      break;
    case Ending::kError: {
      PyObject* error = PyObject_CallFunction(actor_names.foreign_error, "ss", answer.type, answer.text);
      return error ? error : take_exception();
    }
    case Ending::kDead:
      return new_error(actor_names.dead, answer.text);
    case Ending::kFull:
      return new_error(actor_names.full, answer.text);
    case Ending::kTimeout:
      return new_error(actor_names.timeout, answer.text);
    case Ending::kCancelled:
      return new_error(exceptions.cancelled, answer.text);
  }
  return nullptr;
}

void AskedValue::take(ValueMessage& base, const ValueAnswer* answer) noexcept {
  auto& self = static_cast<AskedValue&>(base);
  if (!self.reply) return self.drop();
  apart([&] {
    auto* future = nb::inst_ptr<FutureObject>(self.reply);
    PyObject* error = nullptr;
    if (answer->how != Ending::kValue) {
      error = error_of(*answer);
    } else {
      try {
        future->settle(to_python(*answer->value));
      } catch (nb::python_error& raised) {
        error = Py_NewRef(raised.value().ptr());
      }
    }
    if (error) future->settle_error(error);
    Py_XDECREF(error);
    self.drop();
  });
}

// Of a message that was told.
void report_dead_letter(const AskedValue& message, detail::ActorCore& core, detail::Refusal why) {
  try {
    nb::object content = to_python(message.content);
    if (!message.method.is_none())
      content = nb::borrow(actor_names.call)(nb::make_tuple(to_python(message.method)), nb::tuple(content),
                                             nb::dict());
    nb::borrow(actor_names.hooks)
        .attr("dead_letter")(nb::borrow(actor_names.dead_letter_handler), content, reference_to(core),
                             detail::text_of(why));
  } catch (nb::python_error& error) {
    error.restore();
    PyErr_WriteUnraisable(nullptr);
  }
}

void refuse(detail::Message& base, detail::ActorCore& core, detail::Refusal why) noexcept {
  auto& message = static_cast<AskedValue&>(base);
  if (!message.reply && !actor_names.dead_letter_handler) return message.drop();
  if (g_process != getpid()) return;  // lose_foreign_answers() sees to the future
  apart([&] {
    if (message.reply) {
      PyObject* error = refusal(text_of(core), why);
      nb::inst_ptr<FutureObject>(message.reply)->settle_error(error);
      Py_DECREF(error);
    } else if (actor_names.dead_letter_handler) {
      report_dead_letter(message, core, why);
    }
    message.drop();
  });
}

void answer_stopped(detail::Message& base, detail::ActorCore&) noexcept {
  auto& message = static_cast<AskedValue&>(base);
  if (message.reply && g_process != getpid()) return;
  const Value nothing;
  const ValueAnswer answer{Ending::kValue, &nothing, nullptr, nullptr};
  AskedValue::take(message, &answer);
}

constinit const detail::MessageType kSent{&refuse, nullptr, true};
constinit const detail::MessageType kStop{&refuse, &answer_stopped, true};

// What a message of Python's is for an actor of another language; all but its future.
std::unique_ptr<AskedValue> converted(const PyMessage& message, detail::ActorCore& to) {
  const bool stop = message.kind == PyMessage::Kind::kStop;
  auto made = std::make_unique<AskedValue>(to, stop ? kStop : kSent);
  made->deadline = message.deadline;
  switch (message.kind) {
    case PyMessage::Kind::kStop:
      break;
    case PyMessage::Kind::kOrdinary:
      made->content = to_value(message.content);
      break;
    case PyMessage::Kind::kCall:
      if (PyTuple_GET_SIZE(message.content) != 1 || !PyUnicode_Check(PyTuple_GET_ITEM(message.content, 0)))
        raise_error(PyExc_TypeError,
                    "of an actor of another language, methods can be called, and nothing below them");
      if (message.keywords && PyDict_GET_SIZE(message.keywords) > 0)
        raise_error(PyExc_TypeError, "a method of an actor of another language takes no keyword arguments");
      made->method = to_value(PyTuple_GET_ITEM(message.content, 0));
      made->content = to_value(message.arguments);
      break;
    case PyMessage::Kind::kGet:
    case PyMessage::Kind::kSet:
      raise_error(PyExc_AttributeError, "an actor of another language has methods, and no attributes");
  }
  return made;
}

}  // namespace

void PyActor::tell_foreign(PyMessage* given, std::optional<Seconds> timeout, bool urgent) {
  const std::unique_ptr<PyMessage, void (*)(PyMessage*)> kept(given, &PyMessage::drop);
  AskedValue* message = converted(*given, *foreign_).release();
  if (given->reply) message->answer_to(std::exchange(given->reply, nullptr));
  Outcome outcome;
  try {
    if (send(*message, timeout, urgent, &outcome)) return;
  } catch (...) {
    message->drop();
    throw;
  }
  message->drop();
  raise_unsent(outcome);
}

detail::TimerSource foreign_timer_source(PyActor& actor, nb::handle message) {
  const std::unique_ptr<PyMessage, void (*)(PyMessage*)> kept(PyMessage::of(message), &PyMessage::drop);
  return {[](void* model) noexcept -> detail::Message* {
            const auto& from = *static_cast<AskedValue*>(model);
            auto* made = new (std::nothrow) AskedValue(*from.actor, *from.type);
            if (!made) return nullptr;
            made->method = from.method;
            made->content = from.content;
            return made;
          },
          [](void* model) noexcept { static_cast<AskedValue*>(model)->drop(); },
          converted(*kept, actor.target()).release()};
}

void lose_foreign_answers() {
  g_process = getpid();
  std::vector<nb::object> futures;
  for (AskedValue* each = AskedValue::open; each; each = each->later)
    if (!each->actor->runs_here()) futures.push_back(nb::borrow(each->reply));
  for (const nb::object& each : futures) nb::inst_ptr<FutureObject>(each)->lose();
}

// --- An actor of another language, as an ActorRef has it.

PyActor::PyActor(detail::ActorCore& foreign)
    : ActorCore(kType, &destroy, foreign.uuid()),
      isolation_(Isolation::kShare),
      class_(Py_NewRef(actor_names.foreign_actor)),
      weak_(nullptr),
      foreign_(detail::Ref<ActorCore>::share(foreign)) {}

std::string text_of(detail::ActorCore& core) {
  if (PyActor* actor = PyActor::of(core)) return actor->text();
  const std::string name = core.type().name(core);
  return (name.empty() ? "ForeignActor" : name) + " (" + detail::urn_of(core) + ")";
}

nb::dict PyActor::foreign_methods() const {
  std::vector<std::string> names;
  detail::Ref<ActorCore> asked = foreign_;
  if (asked->pool()) {
    asked = detail::Ref<ActorCore>::adopt(foreign_->route());
    if (!asked) return {};
  }
  const auto take = [](void* all, const char* name) { static_cast<decltype(names)*>(all)->push_back(name); };
  if (asked->type().methods) asked->type().methods(*asked, take, &names);
  nb::dict found;
  for (const std::string& each : names) found[each.c_str()] = true;
  return found;
}

// --- Messages from actors of other languages.

namespace {

void settle_with(ValueMessage& message, Ending how, const char* type, const std::string& text) noexcept {
  const ValueAnswer answer{how, nullptr, type, text.c_str()};
  message.settle(message, &answer);
}

std::string text_of_error(PyObject* error) {
  PyObject* text = PyObject_Str(error);
  std::string found;
  try {
    if (text) found = utf8_of(text);
  } catch (nb::python_error&) {
  }
  PyErr_Clear();
  Py_XDECREF(text);
  return found;
}

// What a Python exception is for who asked in another language.
void settle_with_error(ValueMessage& message, PyObject* error) {
  const auto is = [&](PyObject* type) { return PyErr_GivenExceptionMatches(error, type) != 0; };
  if (is(actor_names.foreign_error)) {
    try {
      const std::string type = utf8_of(nb::object(nb::handle(error).attr("type")).ptr());
      return settle_with(message, Ending::kError, type.c_str(),
                         utf8_of(nb::object(nb::handle(error).attr("text")).ptr()));
    } catch (nb::python_error&) {
    }
  }
  const std::string text = text_of_error(error);
  if (is(actor_names.dead)) return settle_with(message, Ending::kDead, nullptr, text);
  if (is(actor_names.full)) return settle_with(message, Ending::kFull, nullptr, text);
  if (is(exceptions.timeout)) return settle_with(message, Ending::kTimeout, nullptr, text);
  if (is(exceptions.cancelled)) return settle_with(message, Ending::kCancelled, nullptr, text);
  settle_with(message, Ending::kError, type_name(error).c_str(), text);
}

}  // namespace

// What the message asks for. Null with an exception.
PyObject* PyActor::perform_value(const ValueMessage& message) {
  nb::object content = to_python(message.content);
  if (isolation_ == Isolation::kFreeze) content = isolated(content, isolation_);
  if (message.method.is_none()) return PyObject_CallMethod(held_, "on_receive", "O", content.ptr());
  const nb::object function = nb::handle(held_).attr(to_python(message.method));
  return PyObject_CallObject(function.ptr(), nb::tuple(content).ptr());
}

Handled PyActor::receive(ValueMessage& message) {
  PyObject* error = nullptr;
  try {
    const nb::object result = checked(perform_value(message));
    if (!message.asked) {
      message.settle(message, nullptr);
      return Handled::kDone;
    }
    const Value value = to_value(result.ptr());
    detail::settle_value(message, value);
    return Handled::kDone;
  } catch (nb::python_error& raised) {
    raised.restore();
    error = take_exception();
  } catch (std::exception&) {
    PyErr_NoMemory();
    error = take_exception();
  }
  const bool asked = message.asked;
  const auto answer = [](void* to, PyObject* why) {
    settle_with_error(*static_cast<ValueMessage*>(to), why);
  };
  if (!asked) message.settle(message, nullptr);
  const Handled how = raised(error, asked ? +answer : nullptr, &message);
  Py_DECREF(error);
  return how;
}

void add_actor_values(nb::module_& m) {
  g_process = getpid();
  m.def(
      "_find_actor",
      [](nb::handle urn_or_name, bool by_name) -> nb::object {
        if (!PyUnicode_Check(urn_or_name.ptr())) return nb::none();
        const std::string text = utf8_of(urn_or_name.ptr());
        uint8_t uuid[16];
        detail::ActorCore* found = nullptr;
        if (detail::parse_urn(text, uuid))
          found = detail::ActorCore::find(uuid);
        else if (by_name)
          found = detail::ActorCore::find(text.data(), text.size());
        if (!found) return nb::none();
        return reference_to(*detail::Ref<detail::ActorCore>::adopt(found));
      },
      nb::arg("urn_or_name"), nb::arg("by_name") = false);
}

}  // namespace weft::python
