/*
 * Random bytes from getrandom(2) in small numbers, for whoever needs some with every request: a
 * thread keeps a stock of them, so that not each is a system call. What was handed out is wiped.
 * Keys and whatever lives long comes from getrandom(2) itself.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define TP_RANDOM_MAX 64

/* At most TP_RANDOM_MAX bytes. False: the system has none; `out` is untouched. */
bool tp_random(void *out, size_t len);
