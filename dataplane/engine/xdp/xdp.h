/*
 * What the files of engine/xdp share. Everything belongs to the control plane's thread. start() may
 * block on the kernel's verifier and needs privileges; afterwards nothing blocks or needs any.
 *
 * Functions that can refuse write a sentence for the operator into `reason` and return -errno.
 */
#pragma once

#include "attach.h"

struct turnpike_bpf;

/* A link that a killed predecessor left in the pin directory. */
struct xdp_leftover {
	int fd; /* -1: taken by an interface */
	uint32_t ifindex, program_id;
};

struct xdp_pins {
	char path[4096];
	int dir_fd; /* holds the lock; -1: none */
	struct xdp_leftover leftovers[TP_INTERFACES_MAX];
	size_t leftovers_count;
};

struct tp_engine {
	struct tp_memory memory;
	struct turnpike_bpf *program; /* NULL once start() is through */
	uint32_t program_id;
	struct xdp_interface interfaces[TP_INTERFACES_MAX];
	size_t interfaces_count;
	struct xdp_pins pins;
	bool reuses_tables; /* a predecessor's: its program goes on with them */
	struct xdp_query query;
};

/*
 * program.c: open: sizes the program and its maps. load: into the kernel, and maps the tables,
 * which are zeroed unless a predecessor's were taken for them in between. Undone by _close().
 */
int xdp_program_open(
	struct tp_engine *engine, const struct tp_shape *shape, char reason[TP_REASON_SIZE]);
int xdp_program_load(struct tp_engine *engine, char reason[TP_REASON_SIZE]);
int xdp_program_fd(const struct tp_engine *engine);

/* A table's map by the table's name: that is its own name, or its section's (turnpike.bpf.c). */
struct bpf_map *xdp_program_map(const struct turnpike_bpf *program, const char *name);
int xdp_program_set_interfaces(struct tp_engine *engine, char reason[TP_REASON_SIZE]);
/* Closes the descriptors; mappings, links and pins keep everything alive. */
void xdp_program_close(struct tp_engine *engine);
void xdp_program_unmap(struct tp_engine *engine);

/*
 * pins.c. lock: mounts bpffs, makes and locks the directory. inspect: accepts what a predecessor
 * left there only if all of it is ours (threat D03), compared with the loaded program; nothing is
 * changed before xdp_pins_write(), which replaces all.
 */
int xdp_pins_lock(
	struct xdp_pins *pins, const char *path, uint32_t owner_uid, char reason[TP_REASON_SIZE]);
int xdp_pins_inspect(struct tp_engine *engine, char reason[TP_REASON_SIZE]);
/*
 * Before the program is loaded: gives it the tables of a predecessor, if all of them are there,
 * ours, of the same shape and in use. False: it gets new ones.
 */
bool xdp_pins_reuse_tables(struct tp_engine *engine);
/* Has the predecessor's program the same interfaces in the same places? */
bool xdp_pins_same_interfaces(const struct tp_engine *engine);
int xdp_pins_write(struct tp_engine *engine, uint32_t owner_uid, char reason[TP_REASON_SIZE]);
/* Ends and removes what a predecessor left, of whatever version; -EEXIST: some of it is not ours,
 * and still there. */
int xdp_pins_clear(struct xdp_pins *pins, char reason[TP_REASON_SIZE]);
void xdp_pins_remove(struct xdp_pins *pins);
void xdp_pins_close(struct xdp_pins *pins);

/*
 * takeover.c. inspect: refuses an interface that has somebody else's program; changes nothing.
 * attach: the program in the best mode that is allowed.
 */
int xdp_inspect_interface(
	struct tp_engine *engine, struct xdp_interface *interface, char reason[TP_REASON_SIZE]);
int xdp_attach(struct tp_engine *engine, struct xdp_interface *interface, enum tp_xdp_mode mode,
	char reason[TP_REASON_SIZE]);
