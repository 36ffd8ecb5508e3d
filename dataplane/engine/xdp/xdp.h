/*
 * What the files of engine/xdp share. Everything belongs to the control plane's thread. start() may
 * block on the kernel's verifier and needs privileges; afterwards nothing blocks or needs any.
 *
 * Functions that can refuse write a sentence for the operator into `reason` and return -errno.
 */
#pragma once

#include "attach.h"

struct turnpike_bpf;

/* Of one that was killed while it took another's place there are the links of both. */
#define XDP_LEFTOVERS_MAX (4 * TP_INTERFACES_MAX)

enum xdp_left_fate { XDP_LEFT_ALONE, XDP_LEFT_TAKEN, XDP_LEFT_ENDED };

/* A link that a killed predecessor left in the pin directory, and the program it has. */
struct xdp_leftover {
	int fd; /* -1: taken by an interface, or ended */
	int program_fd;
	uint32_t ifindex, program_id;
	char name[64]; /* of its pin */
	enum xdp_left_fate fate;
	struct xdp_interface *interface; /* that has taken it, or ended it to make room */
};

struct xdp_pins {
	char path[4096];
	int dir_fd; /* holds the lock; -1: none */
	uint32_t found_uid;
	struct xdp_leftover leftovers[XDP_LEFTOVERS_MAX];
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
	uint32_t *hops; /* of those: their next hops as they were, if they have been forgotten */
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
 * left there only if all of it is ours (threat D03), compared with the loaded program.
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
/*
 * Taking the predecessor's place, so that at any moment whoever is killed leaves pins that inspect
 * accepts. prepare: pins what is new beside what is there, before any link changes. add_links:
 * likewise, once all are attached. settle: from here on there is no way back: ends what nobody has
 * taken, and the new pins get the names of the old ones. withdraw: instead of settle: the directory
 * as it was found.
 */
int xdp_pins_prepare(struct tp_engine *engine, uint32_t owner_uid, char reason[TP_REASON_SIZE]);
int xdp_pins_add_links(const struct tp_engine *engine, char reason[TP_REASON_SIZE]);
void xdp_pins_settle(struct tp_engine *engine, uint32_t owner_uid);
void xdp_pins_withdraw(struct tp_engine *engine);
/* A link that was made anew in place of one that had ended: pinned as that one was. */
void xdp_pins_restore_link(struct tp_engine *engine, const struct xdp_leftover *left);
/* Ends and removes what a predecessor left, of whatever version; -EEXIST: some of it is not ours,
 * and still there. */
int xdp_pins_clear(struct xdp_pins *pins, char reason[TP_REASON_SIZE]);
/* All of them, and the directory. */
void xdp_pins_remove(struct xdp_pins *pins);
void xdp_pins_close(struct xdp_pins *pins);

/*
 * takeover.c. inspect: refuses an interface that has somebody else's program; changes nothing.
 * attach: the program in the best mode that is allowed. give_back: the predecessor's links have
 * their programs again, and ours have ended.
 */
int xdp_inspect_interface(
	struct tp_engine *engine, struct xdp_interface *interface, char reason[TP_REASON_SIZE]);
int xdp_attach(struct tp_engine *engine, struct xdp_interface *interface, enum tp_xdp_mode mode,
	char reason[TP_REASON_SIZE]);
void xdp_give_back(struct tp_engine *engine);
