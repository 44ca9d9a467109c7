// Starting a command's keeper.
#pragma once

#include "weft/detail/process.hpp"

namespace weft::process {

/// What a keeper was started with, from the program's side. Descriptors, or -1.
struct Launched {
  pid_t keeper = -1;
  int control = -1;
  int input = -1, output = -1, errors = -1;
};

/// Starts a keeper that will start what `request` says. Returns 0 or an errno with `failure.stage` set; then
/// nothing is left behind. Does not wait for the command: the keeper's first Event tells.
int launch(const weft::detail::ChildRequest& request, Launched& launched,
           weft::detail::ChildFailure& failure) noexcept;

/// The keeper's file: WEFT_KEEPER, or near the library. Empty: it is in none of the places.
const char* keeper_file() noexcept;

}  // namespace weft::process
