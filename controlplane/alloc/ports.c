/*
 * Relay ports of one address. Free ports are an array in no order: a random one is taken by
 * swapping the last into its place. Owned by the allocation store; one thread; nothing blocks.
 */
#include "ports.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/queue.h>

#include "base/cleanup.h"
#include "base/random.h"

enum state { FREE, RESTING, IN_USE };

struct port {
	union {
		TAILQ_ENTRY(port) link; /* RESTING: longest first */
		void *user;             /* IN_USE */
	};
	uint64_t rested_ns; /* RESTING: when it is free again */
	uint32_t position;  /* FREE: where in the array */
	enum state state;
};

struct ports {
	struct port *ports; /* by number - min */
	uint16_t *free;     /* numbers - min */
	size_t count, free_count, in_use;
	uint16_t min;
	TAILQ_HEAD(, port) resting;
};

/* Random probes before the array is searched in order. */
enum { PROBES = 64 };

/* Below `bound`. The bias of a 64-bit draw over at most 65,536 ports is nothing. */
static size_t random_below(size_t bound)
{
	uint64_t random;

	if (!tp_random(&random, sizeof(random)))
		abort();
	return (size_t)(random % bound);
}

static void add_free(struct ports *ports, struct port *port)
{
	port->state = FREE;
	port->position = (uint32_t)ports->free_count;
	ports->free[ports->free_count++] = (uint16_t)(port - ports->ports);
}

static void use(struct ports *ports, struct port *port)
{
	uint16_t last;

	if (port->state == RESTING) {
		TAILQ_REMOVE(&ports->resting, port, link);
	} else {
		last = ports->free[--ports->free_count];
		ports->free[port->position] = last;
		ports->ports[last].position = port->position;
	}
	port->state = IN_USE;
	port->user = NULL;
	ports->in_use++;
}

int ports_new(uint16_t min, uint16_t max, struct ports **out)
{
	TP_CLEANUP(tp_cleanup_free) struct ports *ports = calloc(1, sizeof(*ports));

	if (min == 0 || max < min)
		return -EINVAL;
	if (!ports)
		return -ENOMEM;
	ports->min = min;
	ports->count = (size_t)max - min + 1;
	TAILQ_INIT(&ports->resting);
	ports->ports = calloc(ports->count, sizeof(*ports->ports));
	ports->free = calloc(ports->count, sizeof(*ports->free));
	if (!ports->ports || !ports->free) {
		free(ports->ports);
		free(ports->free);
		return -ENOMEM;
	}
	for (size_t i = 0; i < ports->count; i++)
		add_free(ports, &ports->ports[i]);
	*out = TP_TAKE(ports);
	return 0;
}

void ports_free(struct ports *ports)
{
	if (!ports)
		return;
	free(ports->ports);
	free(ports->free);
	free(ports);
}

static void end_rests(struct ports *ports, uint64_t now_ns)
{
	struct port *port;

	while ((port = TAILQ_FIRST(&ports->resting)) && port->rested_ns <= now_ns) {
		TAILQ_REMOVE(&ports->resting, port, link);
		add_free(ports, port);
	}
}

static bool fits(
	const struct ports *ports, const struct port *port, enum ports_wish wish, enum state worst)
{
	size_t i = (size_t)(port - ports->ports);

	if (port->state > worst)
		return false;
	if (wish == PORTS_ANY)
		return true;
	if ((ports->min + i) % 2 != 0)
		return false;
	return wish == PORTS_EVEN || (i + 1 < ports->count && port[1].state <= worst);
}

static struct port *choose_free(struct ports *ports, enum ports_wish wish)
{
	size_t start;

	if (ports->free_count == 0)
		return NULL;
	for (int probe = 0; probe < PROBES; probe++) {
		struct port *port = &ports->ports[ports->free[random_below(ports->free_count)]];

		if (fits(ports, port, wish, FREE))
			return port;
	}
	start = random_below(ports->free_count);
	for (size_t i = 0; i < ports->free_count; i++) {
		struct port *port = &ports->ports[ports->free[(start + i) % ports->free_count]];

		if (fits(ports, port, wish, FREE))
			return port;
	}
	return NULL;
}

/* The range is exhausted: better a short rest than a refusal (TURN-7.2-22, threat R05). Of a pair
 * either half may be the resting one. */
static struct port *choose_resting(struct ports *ports, enum ports_wish wish)
{
	struct port *port;

	TAILQ_FOREACH(port, &ports->resting, link) {
		if (fits(ports, port, wish, RESTING))
			return port;
		if (wish == PORTS_PAIR && port > ports->ports &&
			fits(ports, port - 1, wish, RESTING))
			return port - 1;
	}
	return NULL;
}

int ports_take(struct ports *ports, enum ports_wish wish, uint64_t now_ns, uint16_t *out)
{
	struct port *port;

	end_rests(ports, now_ns);
	port = choose_free(ports, wish);
	if (!port)
		port = choose_resting(ports, wish);
	if (!port)
		return -ENOSPC;
	use(ports, port);
	if (wish == PORTS_PAIR)
		use(ports, port + 1);
	*out = (uint16_t)(ports->min + (port - ports->ports));
	return 0;
}

static bool has(const struct ports *ports, uint16_t number)
{
	return number >= ports->min && (size_t)(number - ports->min) < ports->count;
}

int ports_claim(struct ports *ports, uint16_t number)
{
	struct port *port;

	if (!has(ports, number))
		return -ERANGE;
	port = &ports->ports[number - ports->min];
	if (port->state == IN_USE)
		return -EADDRINUSE;
	use(ports, port);
	return 0;
}

void ports_give(struct ports *ports, uint16_t number, uint64_t now_ns)
{
	struct port *port = &ports->ports[number - ports->min];

	if (port->state != IN_USE)
		return;
	port->state = RESTING;
	port->rested_ns = now_ns + PORTS_REST_NS;
	TAILQ_INSERT_TAIL(&ports->resting, port, link);
	ports->in_use--;
}

void ports_set_user(struct ports *ports, uint16_t number, void *user)
{
	ports->ports[number - ports->min].user = user;
}

void *ports_user(const struct ports *ports, uint16_t number)
{
	const struct port *port = has(ports, number) ? &ports->ports[number - ports->min] : NULL;

	return port && port->state == IN_USE ? port->user : NULL;
}

size_t ports_in_use(const struct ports *ports)
{
	return ports->in_use;
}
