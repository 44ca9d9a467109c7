// void* weft_call_from(void* a0, void* a1, void* a2, void* function, void* return_site)
//
// Calls function(a0, a1, a2) so that its return address is `return_site`, the address of a `ret` instruction, which then
// comes back here. For functions of libc that ask who called them by that address.
        .text
        .globl  weft_call_from
        .hidden weft_call_from
        .type   weft_call_from, @function
weft_call_from:
        .cfi_startproc
        push    %rbp
        .cfi_def_cfa_offset 16
        .cfi_offset %rbp, -16
        mov     %rsp, %rbp
        .cfi_def_cfa_register %rbp
        sub     $8, %rsp
        lea     1f(%rip), %rax
        push    %rax
        push    %r8
        jmp     *%rcx
1:      leave
        .cfi_def_cfa %rsp, 8
        ret
        .cfi_endproc
        .size   weft_call_from, . - weft_call_from
        .section .note.GNU-stack, "", @progbits
