/*
 * Who has which address on a link, for an end that no kernel speaks for: ARP (RFC 826) and
 * neighbour discovery (RFC 4861), as frames. No state.
 */
#pragma once

#include "frame.h"

#define NEIGHBOUR_FRAME_MAX 86

enum neighbour_kind { NEIGHBOUR_ASKS, NEIGHBOUR_TELLS };

struct neighbour_message {
	enum neighbour_kind kind;
	struct tp_addr target;      /* whose MAC address is asked for, or told */
	struct tp_addr sender;      /* of a question; ports are 0 */
	uint8_t mac[FRAME_MAC_LEN]; /* of a question: the sender's; else the target's */
};

/* False: it is no such frame, it is broken, or it asks without saying who wants to know. */
bool neighbour_read(const uint8_t *bytes, size_t len, struct neighbour_message *out);

/* `out` has room for NEIGHBOUR_FRAME_MAX; the frame's length is returned. `own` asks, or is told to
 * who asked for it. */
size_t neighbour_ask(uint8_t *out, const uint8_t mac[FRAME_MAC_LEN], const struct tp_addr *own,
	const struct tp_addr *target);
size_t neighbour_tell(
	uint8_t *out, const uint8_t mac[FRAME_MAC_LEN], const struct neighbour_message *asked);
