// pid_t weft_vfork(void)
//
// vfork cannot be wrapped by a C function: the child runs on its parent's stack, and would overwrite the frame that the
// parent is to return through. So this is vfork itself, with the return address kept in a register that the kernel
// preserves for both, as libc's own does. Each side is told what it is by a call that leaves the stack as it was: in the
// child every routed call has to go straight to libc, since it shares the parent's memory.
        .text
        .globl  weft_vfork
        .hidden weft_vfork
        .type   weft_vfork, @function
weft_vfork:
        .cfi_startproc
        pop     %rdi
        .cfi_def_cfa_offset 0
        .cfi_register %rip, %rdi
        mov     $58, %eax               // SYS_vfork
        syscall
        push    %rdi
        .cfi_def_cfa_offset 8
        .cfi_offset %rip, -8
        sub     $8, %rsp
        .cfi_def_cfa_offset 16
        mov     %rax, %rdi
        call    weft_vfork_returned
        add     $8, %rsp
        .cfi_def_cfa_offset 8
        ret
        .cfi_endproc
        .size   weft_vfork, . - weft_vfork
        .section .note.GNU-stack, "", @progbits
