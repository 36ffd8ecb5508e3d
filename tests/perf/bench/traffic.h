/*
 * Numbered packets with the time in them, in one direction: a thread sends, another receives and
 * keeps the books. The clients' ends are ChannelData on their first channel; the peer's end is one
 * socket.
 */
#pragma once

#include "tests/perf/clients.h"
#include "track.h"

#include <pthread.h>
#include <stdatomic.h>

/* What a packet has to have room for. */
#define TRAFFIC_SIZE_MIN 32
#define TRAFFIC_SIZE_MAX 1400

enum traffic_direction { TRAFFIC_UP, TRAFFIC_DOWN, TRAFFIC_DIRECTIONS };

struct traffic_settings {
	const struct clients *clients;
	int peer_fd;        /* UDP, non-blocking */
	uint64_t run;       /* tells our packets from anything else */
	uint64_t rate;      /* packets a second; 0: as many as can be */
	size_t size;        /* bytes of application data */
	uint64_t length_ns; /* how long to send */
};

struct traffic {
	struct traffic_settings settings;
	enum traffic_direction direction;
	int epoll; /* of the receiving end; data.u32 is the index into `receivers` */
	int *receivers;
	uint64_t *numbers; /* by flow: of the next packet to send */
	struct tracker *trackers;
	pthread_t sender, receiver;
	atomic_bool is_over;

	/* The sender's. */
	uint64_t offered, sent_ns;
	/* The receiver's. */
	_Atomic uint64_t arrived; /* everything of ours */
	uint64_t relayed;         /* never more than offered: each number once */
	uint64_t reordered, duplicated, too_late, foreign;
	uint64_t latencies[HISTOGRAM_SLOTS]; /* ns; of what arrived for the first time */
};

/* Starts both threads; what goes wrong ends the program. */
void traffic_begin(struct traffic *t, enum traffic_direction direction,
	const struct traffic_settings *settings);

/* Returns when all is sent and nothing more arrives. */
void traffic_end(struct traffic *t);
