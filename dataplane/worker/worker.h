/*
 * The polling workers: one thread each around the core, whatever brings the frames (backend.h).
 * Started and stopped by the main thread; nothing else is shared with it but the tables.
 */
#pragma once

#include "backend.h"

#include <sched.h>

struct tp_workers;

/*
 * options->workers threads, pinned when there are cores; each is in its back end's hands
 * (ops->enter) when this returns. The tables stay where they are until tp_workers_stop(). 0, or
 * -errno and the reason; then nothing runs.
 */
int tp_workers_start(const struct tp_backend_ops *ops, struct tp_backend *backend,
	const struct tp_memory *memory, const struct tp_engine_options *options,
	struct tp_workers **out, char reason[TP_REASON_SIZE]);

/*
 * Where the process's other threads belong: wherever the caller may run, but for the cores that
 * workers are pinned to; unless that leaves none.
 */
cpu_set_t tp_cores_off_workers(const struct tp_engine_options *options);

/* Each worker ends its burst and leaves; returns when all have. NULL is legal. */
void tp_workers_stop(struct tp_workers *workers);
