/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the hooked functions, void f(struct bio *), call first, see interpose-hook.c. On
 * the stack are two return addresses: into the hooked function, and that of its caller.
 * Nothing but the argument has to be kept.
 */
#include <linux/linkage.h>
#include <asm/nospec-branch.h>

	.text

SYM_FUNC_START(cow_hook_entry)
	pushq	%rbp
	movq	%rsp, %rbp
#ifdef CALL_DEPTH_ACCOUNT
	CALL_DEPTH_ACCOUNT
#endif
	pushq	%rdi
	call	cow_interpose_wants
	popq	%rdi
	popq	%rbp
	testb	%al, %al
	jz	1f
	/* return to cow_hook_take() instead, with the same caller */
	leaq	cow_hook_take(%rip), %rax
	movq	%rax, (%rsp)
1:	RET
SYM_FUNC_END(cow_hook_entry)
