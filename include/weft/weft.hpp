// All of the library.
#pragma once

#include "weft/channel.hpp"
#include "weft/condition_variable.hpp"
#include "weft/error.hpp"
#include "weft/event.hpp"
#include "weft/fiber.hpp"
#include "weft/future.hpp"
#include "weft/mutex.hpp"
#include "weft/offload.hpp"
#include "weft/patch.hpp"
#include "weft/runtime.hpp"
#include "weft/select.hpp"
#include "weft/semaphore.hpp"
#include "weft/shared_mutex.hpp"
#include "weft/task_group.hpp"
#include "weft/timeout.hpp"
