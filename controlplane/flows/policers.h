/*
 * Which allocation is noted in which of the table's notes, and its bandwidth counted in the policer
 * of the same number: numbers from 1 on, as few as possible. Owned by struct flows. One thread;
 * does not block.
 */
#pragma once

#include "dataplane/table/table.h"

struct policers {
	uint32_t fresh; /* the lowest number never used */
	uint32_t end;   /* the first that there is none of */
	/* Numbers that rest, longest first; 0 ends the list. */
	uint32_t oldest, newest;
	uint32_t *next;    /* by number */
	uint64_t *free_ns; /* likewise: when it rests no longer */
};

/* -ENOMEM. Memory is touched only for numbers that have come back. */
int policers_init(struct policers *policers, uint32_t end);
void policers_clear(struct policers *policers);

/*
 * One that rests no longer, else a new one, else the one that has rested longest: a packet still
 * under way would then be paid for by another allocation, which is less than to refuse it. 0: all
 * are in use.
 */
uint32_t policers_take(struct policers *policers, uint64_t now_ns);

/* That number, if it is not in use; lower ones that never were rest no longer. */
bool policers_claim(struct policers *policers, uint32_t number);

/* Its flows have been retired at `now_ns`. 0 is legal. */
void policers_give(struct policers *policers, uint32_t number, uint64_t now_ns);
