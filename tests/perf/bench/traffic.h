/*
 * Numbered packets with the time in them. At either end a thread receives for as long as traffic
 * stands, and keeps the books; the clients' also renews their allocations. In a step, a thread for
 * each direction sends. Clients' packets are ChannelData on their first channel.
 */
#pragma once

#include "books.h"
#include "schedule.h"
#include "tests/perf/clients.h"

#include <pthread.h>

struct step {
	uint64_t rate;   /* packets a second in each direction; 0: as many as can be */
	uint32_t active; /* only that many allocations carry packets */
};

/* Of a direction. */
struct way {
	bool is_used;
	uint64_t offered, sent_ns;
	uint64_t relayed, reordered, duplicated, too_late, foreign;
	uint64_t unread; /* lost, but by the receiving end, which was too slow */
	uint64_t latencies[HISTOGRAM_SLOTS];
};

struct outcome {
	struct step step;
	struct way ways[DIRECTIONS];
	bool is_interrupted;
	double cpu_ns; /* of the process that is watched, below 0: none is */
};

struct receiver {
	struct end *end;
	struct clients *clients; /* whose answers come here too, or NULL */
	pthread_t thread;
	pthread_mutex_t mutex; /* held while a burst is looked at */
	struct books *books;   /* of the step that runs, or NULL; under the mutex */
	const atomic_bool *is_over;
};

struct traffic_settings {
	struct clients *clients;
	struct end *client_end, *peer_end;
	bool directions[DIRECTIONS];
	enum mix mix;
	bool random;  /* order of flows */
	uint16_t row; /* packets in a row of one flow when sending flat out */
	uint16_t size;
	uint64_t length_ns, warm_up_ns;
	const atomic_bool *stop; /* a step ends early */
	/* Now and then: what happened in both directions, and how much of the time is over. */
	void (*progress)(void *arg, const struct step *step, uint64_t offered, uint64_t relayed,
		double part);
	void *arg;
};

struct traffic {
	struct traffic_settings settings;
	struct receiver receivers[DIRECTIONS]; /* by the direction whose packets come there */
	atomic_bool is_over;
	uint64_t run; /* the last 16 bits: the step */
};

/* What goes wrong ends the program. Answers to clients come to the receiver from now on. */
void traffic_begin(struct traffic *t, const struct traffic_settings *settings);

/* Sends, waits until nothing more arrives, and says what became of it. */
void traffic_run(struct traffic *t, const struct step *step, struct outcome *out);

/* No renewals any more. */
void traffic_end(struct traffic *t);

/* Percent of what was offered. */
double way_loss(const struct way *way);
