/*
 * What became of numbered packets: each carries a stamp that says which one it is and when it was
 * sent, and the receiving end keeps the books of one direction. A thread writes them; what is
 * atomic others may read meanwhile. Nothing waits.
 */
#pragma once

#include "tests/perf/histogram.h"
#include "track.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum direction { DIRECTION_UP, DIRECTION_DOWN, DIRECTIONS };

struct stamp {
	/* run: tells our packets from anything else; the last 16 bits are the step of the run. */
	uint64_t run, number, sent_ns;
	uint32_t flow;
	uint16_t size; /* of the packet's application data */
	uint16_t direction;
};

#define CHANNELDATA_HEADER 4
/* A packet is its stamp and zeros. */
#define PACKET_SIZE_MIN sizeof(struct stamp)
#define PACKET_SIZE_MAX 1400
#define PACKET_ROOM     (CHANNELDATA_HEADER + PACKET_SIZE_MAX + 4) /* of padding */

/* Clients send and get ChannelData; peers what is in it. `out` has PACKET_ROOM zeros behind what
 * is written; the datagram's length is returned. */
size_t stamp_write(uint8_t *out, const struct stamp *stamp, bool channeldata);
/* Where in it sent_ns is. */
size_t stamp_time_at(bool channeldata);

struct books {
	uint64_t run;
	uint64_t from_ns; /* what was sent before that is not counted: it warms up */
	enum direction direction;
	uint32_t flows;
	struct tracker *trackers; /* by flow; the caller's */

	_Atomic uint64_t arrived; /* everything of ours */
	_Atomic uint64_t relayed; /* never more than offered: each number once */
	uint64_t reordered, duplicated, too_late, foreign;
	uint64_t latencies[HISTOGRAM_SLOTS]; /* ns; of what arrived for the first time */
};

/* A datagram that came to the receiving end. */
void books_take(struct books *books, const uint8_t *bytes, size_t len, uint64_t now_ns);
