/*
 * Tables with flows in them and frames of these flows, for what measures without any network:
 * corebench and workerbench. CHANNEL flows of one server address; a frame is
 * ChannelData from the next client.
 */
#pragma once

#include "dataplane/worker/host.h"

#define BENCH_FRAME_LEN 64
#define BENCH_IPV6_LEN  84
#define BENCH_IFINDEX   7

struct bench_tables {
	struct tp_memory memory;
	struct tp_table *table;
	uint32_t flows;
	uint32_t room; /* flows that the tables are made for, if there are fewer */
	bool ipv6;
	bool random;    /* in random order, else one after the other */
	uint64_t state; /* of the random numbers */
	uint32_t turn;
};

/* Ends the program, and says why, if it does not hold. */
void bench_must(bool ok, const char *what);

/* `flows` is set. */
void bench_tables_make(struct bench_tables *b, bool huge);

/* The first bytes, BENCH_FRAME_LEN or BENCH_IPV6_LEN, of the next flow's frame of that size. */
void bench_frame(struct bench_tables *b, uint8_t *at, uint32_t size);
