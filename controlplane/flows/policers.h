/*
 * Which allocation is noted in which of the table's notes, and its bandwidth counted in the policer
 * of the same number: numbers from 1 on, as few as possible. Owned by struct flows. One thread;
 * does not block.
 */
#pragma once

#include "dataplane/table/table.h"

#include <sys/queue.h>

struct policer {
	TAILQ_ENTRY(policer) link; /* while it rests */
	uint64_t free_ns;
	uint32_t number;
};

struct policers {
	uint32_t fresh; /* the lowest number never used */
	uint32_t end;   /* the first that there is none of */
	TAILQ_HEAD(policer_list, policer) resting;
};

void policers_init(struct policers *policers, uint32_t end);
void policers_clear(struct policers *policers);

/*
 * One that rests no longer, else a new one, else the one that has rested longest: a packet still
 * under way would then be paid for by another allocation, which is less than to refuse it. NULL:
 * all are in use, or out of memory.
 */
struct policer *policers_take(struct policers *policers, uint64_t now_ns);

/* That number, if it is not in use; lower ones that never were rest no longer. NULL otherwise. */
struct policer *policers_claim(struct policers *policers, uint32_t number);

/* Its flows have been retired at `now_ns`. NULL is legal. */
void policers_give(struct policers *policers, struct policer *policer, uint64_t now_ns);
