/*
 * Frames that leave an interface as live frames: they are written into memory that the program of
 * an end (pick.bpf.c) copies them out of. The program is attached and stays its owner's. One thread
 * at a time. What goes wrong ends the program that this is part of.
 */
#pragma once

#include "pick.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pick_bpf;

struct outbox {
	struct pick_bpf *program;
	struct pick_frame *frames; /* PICK_FRAMES, mapped; fill in, then send */
	const char *name;          /* for what goes wrong */
};

/* Of the network namespace that the interface is in. */
void outbox_open(
	struct outbox *outbox, struct pick_bpf *program, uint32_t ifindex, const char *name);
void outbox_close(struct outbox *outbox);

/* The first `count` of them; returns when they have left. */
void outbox_send(struct outbox *outbox, uint32_t count);
