/*
 * Which packets a sender has to send when: evenly at a rate, as many as can be, or as calls do. Of
 * one sender; nothing waits.
 *
 * A call (MIX_RTP) is audio, a packet of 160 to 172 bytes each 20 ms, and video, 3 to 6 packets of
 * 1000 to 1200 bytes in a row 30 times a second: 185 packets a second, 1.3 Mbit/s. Calls do not
 * begin at the same moment.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum mix { MIX_NONE, MIX_RTP };

struct schedule_settings {
	enum mix mix;
	uint64_t rate; /* packets a second; 0: as many as can be; unused with a mix */
	uint32_t flows;
	uint16_t size; /* unused with a mix */
	uint16_t row;  /* packets in a row of one flow */
	bool random;   /* order of flows; unused with a mix */
	uint64_t seed;
};

struct packet_due {
	uint32_t flow;
	uint16_t size;
};

struct moment;

struct schedule {
	struct schedule_settings settings;
	uint64_t made; /* packets so far */
	uint64_t random;
	uint32_t flow;
	uint16_t in_row;
	/* Of calls: what happens in a period, in order of time. */
	struct moment *moments;
	uint64_t moments_count, moment, period;
	uint16_t frame_left; /* packets of the moment's video frame that are still to be sent */
};

/* -ENOMEM. */
int schedule_begin(struct schedule *schedule, const struct schedule_settings *settings);
void schedule_end(struct schedule *schedule);

/* What is due `elapsed_ns` after the beginning and was not told before: up to `room` packets. */
unsigned schedule_next(
	struct schedule *schedule, uint64_t elapsed_ns, struct packet_due *out, unsigned room);

/* A number below the limit; nothing but `random` of the schedule is used. */
uint32_t schedule_draw(struct schedule *schedule, uint32_t limit);
