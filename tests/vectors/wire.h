/*
 * A third way to run the fast path: the polling worker as turnpike-dataplane runs it, over a back
 * end whose other end of the wire is in the test's hands. One frame at a time: the worker's
 * counters tell when it is done. What the worker gives to the kernel's IP output arrives at the
 * other end of a cable to which all of the kernel's routes lead.
 */
#pragma once

#include "dataplane/worker/backend.h"
#include "runner.h"

#define WIRE_REDIRECT                                                                              \
	3 /* place of the interface by which HOP_REDIRECT leaves; 0: where all enter */

struct wire {
	const char *name;
	const struct tp_backend_ops *backend;

	/* What the back end is opened with: at least WIRE_REDIRECT + 1 interfaces. */
	const struct tp_engine_options *options;

	/* A program in front of the worker leaves to the kernel what is not for it: the frame.
	 * NULL: all frames come to the worker. */
	bool (*left_alone)(struct frame *out);

	/* In the new namespace, before anything else. NULL: nothing to do. */
	bool (*prepare)(const char **reason);
	/* Memory that is more than memory, and its descriptors. NULL: plain memory. */
	bool (*make_tables)(
		const struct tp_shape *shape, struct tp_memory *memory, int fds[TP_REGIONS]);
	void (*drop_tables)(void);

	/* After the back end's start(): takes the other ends. False, and `reason`: cannot. */
	bool (*connect)(const char **reason);

	void (*put)(const struct frame *in);
	/* What left by an interface, or went to the kernel; false: nothing is there. */
	bool (*left)(uint32_t interface, struct frame *out);
	bool (*passed)(struct frame *out);

	/* Buffers that somebody holds; the same before and after a packet. */
	uint32_t (*held)(void);
	void (*disconnect)(void);
};

/* The one this program was built with; NULL: none. */
extern const struct wire *const the_wire;

struct wire_runner;

/*
 * Moves the process into a network namespace of its own and starts a worker there. NULL, and
 * `reason` says why: no root, or built without a wire. Ends the program when something fails that
 * should not.
 */
struct wire_runner *wire_open(const struct world *world, const char **reason);

/* Makes the worker's tables equal to the world, counters included; after every change of it. */
void wire_copy_world(struct wire_runner *runner, const struct world *world);

/*
 * False: the wire takes no frame of that size. DROP: the frame is the one that came. Verdict
 * WIRE_STEERED: no worker saw it, the kernel has it.
 */
#define WIRE_STEERED TP_VERDICT_COUNT
bool wire_run(struct wire_runner *runner, const struct world *world, const struct frame *in,
	struct outcome *out);

/* Has the same come out as of the native core? What is dropped nobody sees. */
bool wire_frame_equal(struct outcome *got, const struct outcome *native);

/* Are all counters equal to those the native core wrote? */
bool wire_counters_equal(const struct wire_runner *runner, const struct world *world);

/* Has every buffer come back? The back end's own audit included. */
bool wire_close(struct wire_runner *runner);

/* A packet socket on a device that sees what comes in there, and the next frame with its tag where
 * it was; false: there is none. */
int wire_open_device(const char *name);
bool wire_read(int fd, struct frame *out);
