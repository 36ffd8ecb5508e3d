/*
 * SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)
 *
 * Words that another core reads or writes at the same time. Who shows something makes it whole
 * before he writes the word that leads to it; a reader therefore reads that word first. BPF of this
 * age has no fences but full ones: there the order is the compiler's, and the machine's where it
 * keeps loads and stores in order (x86).
 */
#pragma once

#define TP_READ_ONCE(word)         (*(const volatile __typeof__(word) *)&(word))
#define TP_WRITE_ONCE(word, value) (*(volatile __typeof__(word) *)&(word) = (value))
#ifdef __bpf__
#define TP_READ_FENCE()  __asm__ volatile("" ::: "memory")
#define TP_WRITE_FENCE() __asm__ volatile("" ::: "memory")
#else
#define TP_READ_FENCE()  __atomic_thread_fence(__ATOMIC_ACQUIRE)
#define TP_WRITE_FENCE() __atomic_thread_fence(__ATOMIC_RELEASE)
#endif
