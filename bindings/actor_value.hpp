// Values and Python's objects, and what the two have to do with actors of other languages.
#pragma once

#include <string>

#include "actor_object.hpp"
#include "weft/detail/actor_timer.hpp"
#include "weft/detail/value_message.hpp"

namespace weft::python {

/// Raises TypeError or OverflowError for what no Value can hold.
Value to_value(PyObject* object);
nb::object to_python(const Value& value);
Value value_of(detail::ActorCore& actor);
/// An ActorRef for an actor of whatever language.
nb::object reference_to(detail::ActorCore& core);
/// "name (urn:uuid:...)"
std::string text_of(detail::ActorCore& core);

/// For timers of messages to an actor of another language.
detail::TimerSource foreign_timer_source(PyActor& actor, nb::handle message);
/// In a fork child: the answers that are open of actors of other languages never come.
void lose_foreign_answers();

}  // namespace weft::python
