/*
 * The relay ports of one address: which are free, in use, or resting after use. Choice is uniform
 * and not guessable (RFC 6056; threat N02); a freed port rests, so that its last peer's packets
 * meet nobody new (threat L08). One thread. No I/O after ports_new().
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define PORTS_REST_NS UINT64_C(60000000000)

enum ports_wish {
	PORTS_ANY,
	PORTS_EVEN, /* RFC 8656, 7.2: EVEN-PORT with R = 0 */
	PORTS_PAIR, /* R = 1: both N, even, and N + 1 are taken */
};

struct ports;

int ports_new(uint16_t min, uint16_t max, struct ports **out);
void ports_free(struct ports *ports);

/*
 * Takes a port that has rested; when there is none of the kind, the one that has rested longest.
 * -ENOSPC: none.
 */
int ports_take(struct ports *ports, enum ports_wish wish, uint64_t now_ns, uint16_t *out);

/* Takes this one, which a former life has used. -ERANGE: not one of these; -EADDRINUSE. */
int ports_claim(struct ports *ports, uint16_t number);

/* Gives back one port, which must be in use. */
void ports_give(struct ports *ports, uint16_t number, uint64_t now_ns);

/* Who has the port that is in use; NULL at first, and for every other number. */
void ports_set_user(struct ports *ports, uint16_t number, void *user);
void *ports_user(const struct ports *ports, uint16_t number);

size_t ports_in_use(const struct ports *ports);
