/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What differs between architectures, in arch/NAME.h by `uname -m`:
 *
 *	pb_counter()		the cycle or time counter, fenced on both sides
 *	pb_counter_is_usable()	whether that counts time at one rate
 *	pb_describe()		what the CPU says of itself: CPUID; whether it does
 *	pb_flush()		write back and forget the lines of [begin, end)
 *	PB_ADD, PB_ASM_ADD()	one add of registers; a text of them as asm
 *	PB_ZERO()		a zero that depends on its operand
 *	PB_ATOMIC_ADD()		the kernel's atomic_add(), inline
 *	PB_STREAM()		a store past the caches, if there is one; they
 *	PB_STREAM_END()		are seen by other CPUs after this
 *	PB_X86_VECTORS		defined where there is SSE2, and may be AVX
 *
 * The other half stands in pagebench/architecture.py.
 */
#ifndef PAGEBENCH_ARCH_H
#define PAGEBENCH_ARCH_H

#ifndef __KERNEL__
#include <stdbool.h>
#include <stdint.h>
#endif

#if defined(__x86_64__)
#include "arch/x86_64.h"
#elif defined(__aarch64__)
#include "arch/aarch64.h"
#else
#error "pagebench knows no such architecture: it wants a csrc/arch/NAME.h"
#endif

#endif
