/*
 * Hierarchical timer wheel: arming, re-arming and cancelling in constant time, whatever their
 * number (threat R16). Virtual: time is what the caller says it is. No allocation.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

struct timer {
	TAILQ_ENTRY(timer) link;
	uint64_t deadline_ns; /* 0 = not armed */
	void (*fire)(struct timer *timer, uint64_t now_ns);
	uint8_t level, slot;
};

struct timer_wheel;

int timer_wheel_new(uint64_t now_ns, struct timer_wheel **out);
void timer_wheel_free(struct timer_wheel *wheel);

/* Arms or re-arms. It fires in the first timer_wheel_advance() at or after the deadline. */
void timer_arm(struct timer_wheel *wheel, struct timer *timer, uint64_t deadline_ns);
void timer_cancel(struct timer_wheel *wheel, struct timer *timer);

/* Fires what is due, in order of deadline within the wheel's grain (16 ms); handlers may arm and
 * cancel any timer. */
void timer_wheel_advance(struct timer_wheel *wheel, uint64_t now_ns);

/* When advance() next has work; UINT64_MAX: never. May be early, never late. */
uint64_t timer_wheel_next(const struct timer_wheel *wheel);
