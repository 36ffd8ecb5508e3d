/*
 * The two ways to run the fast path over a world: the native core in a buffer of exactly the
 * frame's size, so that a sanitizer sees every byte too far; and the BPF program as the kernel
 * loaded it, one packet per BPF_PROG_TEST_RUN, on maps that hold the same bytes.
 */
#pragma once

#include "frame.h"
#include "world.h"

#define HEADROOM 128
#define TAILROOM 16

struct outcome {
	enum tp_verdict verdict;
	struct frame frame; /* as it left, nothing random in it; only bytes and len are set */
	uint8_t transaction[FRAME_TRANSACTION]; /* of a Data indication, as it left */
	uint32_t egress;                        /* RELAYED: ifindex */
	bool output; /* PASS: rewritten, for the kernel's IP output; wrapped (frame.h) */
};

/* Without room in front there is none behind either, else TAILROOM. */
void native_run(
	const struct world *world, const struct frame *in, size_t headroom, struct outcome *out);

/* A packet of the common shape whose flow is revoked as soon as it is found. */
void native_run_revoked(const struct world *world, const struct frame *in, struct outcome *out);

/* The same as a polling worker does it (core/burst.h): up to TP_BURST frames together. */
void native_run_burst(const struct world *world, const struct frame *in, uint32_t count,
	size_t headroom, struct outcome *out);

/* True when both frames have the same bytes. */
bool frame_equal(const struct frame *a, const struct frame *b);

struct bpf_runner;

/*
 * Moves the process into a network namespace of its own. NULL, and `reason` says why: no root, or
 * built without XDP. Ends the program when the kernel refuses what it should take.
 */
struct bpf_runner *bpf_open(const char **reason);
uint32_t bpf_redirect_ifindex(const struct bpf_runner *runner);

/* Loads the program for tables of this world's shape. */
void bpf_load(struct bpf_runner *runner, const struct world *world);

/* Makes the maps equal to the world, counters included; after every change of it. */
void bpf_copy_world(struct bpf_runner *runner, const struct world *world);

/* False: the kernel takes no frame that short. */
bool bpf_run(struct bpf_runner *runner, const struct world *world, const struct frame *in,
	struct outcome *out);

/* Are all counters equal to those the native core wrote? */
bool bpf_counters_equal(const struct bpf_runner *runner, const struct world *world);
void bpf_close(struct bpf_runner *runner);
