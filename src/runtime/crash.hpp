// The report of a crash: which fiber, where, and in what library.
#pragma once

namespace weft::engine::crash {

/// Has SIGSEGV, SIGBUS, SIGFPE and SIGABRT report on standard error before the process dies of them: the
/// fiber, its Python and native stack, the library at fault, and for a fault in a guard page that the fiber's
/// stack overflowed. The process then dies by the same signal with the original signal information, core file
/// and all.
///
/// To be called on a carrier's thread when the runtime starts; gives that thread a signal stack if it has
/// none (an overflowing stack cannot hold the handler's frame). Later calls only do the latter.
///
/// How it goes together with handlers of the program's own:
///   - One that was there before is called first, with the signal blocked. If it repairs the fault and
///     returns, or jumps away, nothing is reported. If it restores the default action or raises the signal
///     again, as faulthandler does, the report follows when it returns.
///   - One that the program installs later takes the place of ours, and finds ours as the former action.
///     When it restores that and raises the signal, as faulthandler does, the report follows.
///
/// The report is written by the crashed thread, with async-signal-safe means only: no lock, no malloc. It
/// runs on a stack of its own. What faults in turn or takes longer than some seconds (a broken stack can be
/// read for ever) is left out.
void install() noexcept;

}  // namespace weft::engine::crash
