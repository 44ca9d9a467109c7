// int weft_walk_stack(const StackContext* start, _Unwind_Trace_Fn visit, void* argument)
// int weft_walk_stack_interrupted(...): the same, where start->rip was interrupted.
//
// Calls _Unwind_Backtrace(visit, argument) from a frame whose call frame information says, in DWARF expressions, that
// its caller's registers are to be found in *start, as a signal trampoline's does. (DWARF 4, 6.4.2; register numbers:
// System V ABI, AMD64, figure 3.36.)

#define CFA_AT(offset)                         /* def_cfa_expression: [rbx + offset] */ \
  .cfi_escape 0x0f, 3, 0x73, offset, 0x06
#define REGISTER_AT(number, offset)            /* expression: rbx + offset */ \
  .cfi_escape 0x10, number, 2, 0x73, offset

  .text

.macro walk name, signal_frame
  .globl \name
  .hidden \name
  .type \name, @function
\name:
  .cfi_startproc
  .if \signal_frame
  .cfi_signal_frame
  .endif
  pushq %rbx
  .cfi_adjust_cfa_offset 8
  .cfi_rel_offset %rbx, 0
  movq %rdi, %rbx
  movq %rsi, %rdi
  movq %rdx, %rsi
  .cfi_remember_state
  CFA_AT(8)
  REGISTER_AT(16, 0)
  REGISTER_AT(3, 16)
  REGISTER_AT(6, 24)
  REGISTER_AT(12, 32)
  REGISTER_AT(13, 40)
  REGISTER_AT(14, 48)
  REGISTER_AT(15, 56)
  call _Unwind_Backtrace@PLT
  .cfi_restore_state
  popq %rbx
  .cfi_adjust_cfa_offset -8
  .cfi_restore %rbx
  ret
  .cfi_endproc
  .size \name, . - \name
.endm

  walk weft_walk_stack, 0
  walk weft_walk_stack_interrupted, 1

  .section .note.GNU-stack, "", @progbits
