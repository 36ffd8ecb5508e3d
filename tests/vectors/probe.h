/*
 * A packet in terms of the world: who sends it, over which lane, and what is unusual about it.
 * Fields that are 0 mean "as usual".
 */
#pragma once

#include "runner.h"

#define EMPTY     SIZE_MAX /* probe.size: no data */
#define PORT_ZERO (-1)     /* probe.source_port: port 0 */

enum layer { LINK, L3, L4, PAYLOAD };

struct patch {
	uint8_t width; /* bytes; 0 = no patch */
	enum layer layer;
	uint8_t at;
	uint16_t value;
};

struct probe {
	enum world_address from;          /* CLIENT or PEER */
	uint16_t lane;                    /* by channel; 0 = WORLD_CHANNEL */
	const char *source, *destination; /* addresses without port */
	int32_t source_port;
	uint16_t port;           /* destination */
	size_t size;             /* of the data; 0 = 5 bytes */
	const char *raw;         /* instead of ChannelData: these bytes, `size` of them */
	struct frame_spec frame; /* addresses, data and channel may be left 0 */
	struct patch patch[2];   /* after the checksums were made */
	size_t cut;              /* bytes that are missing at the end */
};

/* The frame, and what it was made from. */
void probe_build(const struct probe *probe, enum tp_family family, struct frame_spec *spec,
	struct frame *out);

/* Fills what was left 0 in `spec`, whose addresses are set, builds the frame and patches it. */
void probe_finish(size_t size, const struct patch *patches, size_t patches_count,
	struct frame_spec *spec, struct frame *out);

/* What it should leave as when it is relayed, and where; or, wrapped, by the kernel's IP output. */
void probe_expect(const struct probe *probe, const struct world *world, const struct frame_spec *in,
	bool output, struct frame *out, uint32_t *egress);
