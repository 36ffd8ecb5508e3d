/*
 * CPU time that nobody had, without trusting an accounting by ticks: whoever waits for something to
 * be due looks at the clock all the while, and adds up what is short between two looks. The rest
 * others had, interrupts included. No timer is set meanwhile and nobody on another core woken, of
 * which some hypervisors make tens of microseconds. The caller's thread is real-time, so that only
 * what is more so comes between: interrupts, and servers that the lab put first. One thread;
 * nothing blocks.
 */
#pragma once

#include <stdint.h>

/* Above nothing else that is real-time; lab/network.py puts servers first. */
#define SPARE_PRIORITY 1

/* Of the caller's thread, which is on one core. */
void spare_begin(void);
void spare_end(void);

/* As often as it can be. Nanoseconds of CLOCK_MONOTONIC. */
uint64_t spare_look(void);

/* Nanoseconds that the core has spent on something else, since some time in the past. */
uint64_t spare_spent(void);
