/*
 * Numbered packets with the time in them, in one direction: a thread sends, another receives and
 * keeps the books. The clients' ends are ChannelData on their first channel; the peer's end is one
 * socket.
 */
#pragma once

#include "books.h"
#include "tests/perf/clients.h"

#include <pthread.h>

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
	enum direction direction;
	int epoll; /* of the receiving end; data.u32 is the index into `receivers` */
	int *receivers;
	uint64_t *numbers; /* by flow: of the next packet to send */
	struct books books;
	pthread_t sender, receiver;
	atomic_bool is_over;

	/* The sender's. */
	uint64_t offered, sent_ns;
};

/* Starts both threads; what goes wrong ends the program. */
void traffic_begin(
	struct traffic *t, enum direction direction, const struct traffic_settings *settings);

/* Returns when all is sent and nothing more arrives. */
void traffic_end(struct traffic *t);
