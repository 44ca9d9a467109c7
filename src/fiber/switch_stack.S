// void weft_switch_stack(fcontext_t to, fcontext_t* from): Boost's jump_fcontext, with the same frame, but for three things.
//
// It leaves by a return. Boost's leaves by an indirect jump: its own call then stays on the processor's stack of return
// addresses, and each return on the way out of the switch is mispredicted, for some 10 ns. Here calls and returns stay
// paired, across fibers that were suspended in the same place even as to where they go.
//
// It stores the context that it leaves, so that nothing is to be done on the other side.
//
// It loads the floating-point control words only where they differ: loading them is slow.
        .text
        .globl  weft_switch_stack
        .hidden weft_switch_stack
        .type   weft_switch_stack, @function
        .p2align 5
weft_switch_stack:
        .cfi_startproc
        sub     $0x38, %rsp
        .cfi_adjust_cfa_offset 0x38
        stmxcsr 0x00(%rsp)
        fnstcw  0x04(%rsp)
        mov     %r12, 0x08(%rsp)
        mov     %r13, 0x10(%rsp)
        mov     %r14, 0x18(%rsp)
        mov     %r15, 0x20(%rsp)
        mov     %rbx, 0x28(%rsp)
        mov     %rbp, 0x30(%rsp)
        mov     0x00(%rsp), %ecx
        movzwl  0x04(%rsp), %edx
        mov     %rsp, (%rsi)
        mov     %rdi, %rsp
        cmp     %ecx, 0x00(%rsp)
        jne     .Lload_mxcsr
.Lmxcsr_loaded:
        cmp     %dx, 0x04(%rsp)
        jne     .Lload_control
.Lcontrol_loaded:
        mov     0x08(%rsp), %r12
        mov     0x10(%rsp), %r13
        mov     0x18(%rsp), %r14
        mov     0x20(%rsp), %r15
        mov     0x28(%rsp), %rbx
        mov     0x30(%rsp), %rbp
        add     $0x38, %rsp
        .cfi_adjust_cfa_offset -0x38
        ret
        .cfi_adjust_cfa_offset 0x38
.Lload_mxcsr:
        ldmxcsr 0x00(%rsp)
        jmp     .Lmxcsr_loaded
.Lload_control:
        fldcw   0x04(%rsp)
        jmp     .Lcontrol_loaded
        .cfi_endproc
        .size   weft_switch_stack, . - weft_switch_stack

        .section .note.GNU-stack, "", @progbits
