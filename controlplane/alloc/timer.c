/*
 * The timer wheel: five levels of 64 slots, each level 64 times as coarse as the one below. A timer
 * sits on the level of its distance and moves down as its time comes near. One thread. Nothing
 * blocks.
 */
#include "timer.h"

#include <errno.h>
#include <stdlib.h>

enum {
	GRAIN_BITS = 24, /* 2^24 ns are 16.8 ms */
	SLOT_BITS = 6,
	SLOTS = 1 << SLOT_BITS,
	LEVELS = 5,
	DUE = LEVELS, /* not in a slot: about to fire */
};

TAILQ_HEAD(timer_list, timer);

struct timer_wheel {
	uint64_t tick; /* the slot of level 0 that is "now" */
	uint64_t next_ns;
	uint64_t occupied[LEVELS]; /* a bit per slot */
	struct timer_list slots[LEVELS][SLOTS];
	struct timer_list due;
};

int timer_wheel_new(uint64_t now_ns, struct timer_wheel **out)
{
	struct timer_wheel *wheel = calloc(1, sizeof(*wheel));

	if (!wheel)
		return -ENOMEM;
	wheel->tick = now_ns >> GRAIN_BITS;
	wheel->next_ns = UINT64_MAX;
	for (int level = 0; level < LEVELS; level++)
		for (int slot = 0; slot < SLOTS; slot++)
			TAILQ_INIT(&wheel->slots[level][slot]);
	TAILQ_INIT(&wheel->due);
	*out = wheel;
	return 0;
}

void timer_wheel_free(struct timer_wheel *wheel)
{
	free(wheel);
}

static void insert(struct timer_wheel *wheel, struct timer *timer)
{
	uint64_t tick = timer->deadline_ns >> GRAIN_BITS;
	uint64_t horizon = wheel->tick + (UINT64_C(1) << (SLOT_BITS * LEVELS)) - 1;
	int level = 0;

	if (tick < wheel->tick)
		tick = wheel->tick;
	if (tick > horizon) /* looked at again when that slot comes near */
		tick = horizon;
	while (level < LEVELS - 1 && tick - wheel->tick >= UINT64_C(1) << (SLOT_BITS * (level + 1)))
		level++;
	timer->level = (uint8_t)level;
	timer->slot = (uint8_t)(tick >> (SLOT_BITS * level)) & (SLOTS - 1);
	TAILQ_INSERT_TAIL(&wheel->slots[level][timer->slot], timer, link);
	wheel->occupied[level] |= UINT64_C(1) << timer->slot;
}

static void take_out(struct timer_wheel *wheel, struct timer *timer)
{
	struct timer_list *list;

	if (timer->level == DUE) {
		TAILQ_REMOVE(&wheel->due, timer, link);
		return;
	}
	list = &wheel->slots[timer->level][timer->slot];
	TAILQ_REMOVE(list, timer, link);
	if (TAILQ_EMPTY(list))
		wheel->occupied[timer->level] &= ~(UINT64_C(1) << timer->slot);
}

void timer_arm(struct timer_wheel *wheel, struct timer *timer, uint64_t deadline_ns)
{
	timer_cancel(wheel, timer);
	timer->deadline_ns = deadline_ns ? deadline_ns : 1;
	insert(wheel, timer);
	if (timer->deadline_ns < wheel->next_ns)
		wheel->next_ns = timer->deadline_ns;
}

void timer_cancel(struct timer_wheel *wheel, struct timer *timer)
{
	if (timer->deadline_ns == 0)
		return;
	take_out(wheel, timer);
	timer->deadline_ns = 0;
}

/* Moves what is due in the present slot of level 0 to the list of its own, then fires that: the
 * handlers may change any slot. */
static void fire_slot(struct timer_wheel *wheel, uint64_t now_ns)
{
	struct timer_list *slot = &wheel->slots[0][wheel->tick & (SLOTS - 1)];
	struct timer *timer, *following;

	for (timer = TAILQ_FIRST(slot); timer; timer = following) {
		following = TAILQ_NEXT(timer, link);
		if (timer->deadline_ns > now_ns)
			continue;
		take_out(wheel, timer);
		timer->level = DUE;
		TAILQ_INSERT_TAIL(&wheel->due, timer, link);
	}
	while ((timer = TAILQ_FIRST(&wheel->due))) {
		timer_cancel(wheel, timer);
		timer->fire(timer, now_ns);
	}
}

/* The tick has reached slots of coarser levels: what is in them moves down. */
static void cascade(struct timer_wheel *wheel)
{
	for (int level = 1; level < LEVELS; level++) {
		uint64_t slot = (wheel->tick >> (SLOT_BITS * level)) & (SLOTS - 1);
		struct timer_list *list = &wheel->slots[level][slot];
		struct timer_list moving = TAILQ_HEAD_INITIALIZER(moving);
		struct timer *timer;

		TAILQ_CONCAT(&moving, list, link);
		wheel->occupied[level] &= ~(UINT64_C(1) << slot);
		while ((timer = TAILQ_FIRST(&moving))) {
			TAILQ_REMOVE(&moving, timer, link);
			insert(wheel, timer);
		}
		if (slot != 0)
			return;
	}
}

static bool is_empty(const struct timer_wheel *wheel)
{
	uint64_t any = 0;

	for (int level = 0; level < LEVELS; level++)
		any |= wheel->occupied[level];
	return any == 0;
}

/* Slots from the present one to the next occupied one; 1 to 64 above level 0. */
static uint64_t distance(const struct timer_wheel *wheel, int level)
{
	unsigned int here = (wheel->tick >> (SLOT_BITS * level)) & (SLOTS - 1);
	uint64_t bits = wheel->occupied[level];
	unsigned int first = level == 0 ? here : (here + 1) & (SLOTS - 1);

	bits = first ? bits >> first | bits << (SLOTS - first) : bits;
	return (uint64_t)__builtin_ctzll(bits) + (level == 0 ? 0 : 1);
}

static uint64_t earliest_in(const struct timer_list *list)
{
	uint64_t earliest = UINT64_MAX;
	const struct timer *timer;

	TAILQ_FOREACH(timer, list, link)
		if (timer->deadline_ns < earliest)
			earliest = timer->deadline_ns;
	return earliest;
}

static uint64_t find_next(const struct timer_wheel *wheel)
{
	uint64_t next = UINT64_MAX;

	if (wheel->occupied[0])
		next = earliest_in(
			&wheel->slots[0][(wheel->tick + distance(wheel, 0)) & (SLOTS - 1)]);
	for (int level = 1; level < LEVELS; level++) {
		uint64_t at;

		if (!wheel->occupied[level])
			continue;
		at = (wheel->tick >> (SLOT_BITS * level)) + distance(wheel, level);
		at <<= SLOT_BITS * level + GRAIN_BITS;
		if (at < next)
			next = at;
	}
	return next;
}

void timer_wheel_advance(struct timer_wheel *wheel, uint64_t now_ns)
{
	uint64_t target = now_ns >> GRAIN_BITS;

	if (now_ns < wheel->next_ns)
		return;
	while (wheel->tick < target) {
		fire_slot(wheel, now_ns);
		if (is_empty(wheel))
			wheel->tick = target;
		else if (wheel->occupied[0])
			wheel->tick++;
		else /* nothing before the next cascade */
			wheel->tick = (wheel->tick | (SLOTS - 1)) + 1 < target
					      ? (wheel->tick | (SLOTS - 1)) + 1
					      : target;
		if ((wheel->tick & (SLOTS - 1)) == 0)
			cascade(wheel);
	}
	fire_slot(wheel, now_ns);
	wheel->next_ns = find_next(wheel);
}

uint64_t timer_wheel_next(const struct timer_wheel *wheel)
{
	return wheel->next_ns;
}
