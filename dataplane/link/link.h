/*
 * How turnpike-dataplane and turnpiked find each other: a Unix seqpacket socket beside the control
 * socket, whose messages carry the shared tables as file descriptors. turnpiked listens; either
 * side may start first, restart, or die, and the other goes on with the memory it has mapped.
 *
 *   dataplane -> HELLO    ABI, layout, engine, interfaces, workers; with the tables it holds, if
 *                         any
 *   turnpiked -> TABLES   their shape and descriptors: take these
 *             or SAME     go on with those you hold
 *             or REFUSED  a sentence why not
 *   dataplane -> STATE    its interfaces again, when one was lost or is back
 *
 * The tables outlive each process alone: a restarted turnpiked takes back the memory that the
 * workers have mapped, and adopts what is in it; restarted workers get it from turnpiked. When a
 * restarted turnpiked needs tables of another shape, the workers cannot follow without privileges:
 * turnpike-dataplane says so and exits with 1, for its supervisor to start it anew.
 *
 * Nobody but root and the data plane's user may connect (the socket is its group's, mode 0660, or,
 * where both daemons have one user, 0600; peer credentials are checked). The descriptors that come
 * are still checked: what is too small or could shrink is not mapped.
 *
 * Each side's functions are for one thread of its own. None blocks.
 */
#pragma once

#include "dataplane/engine/engine.h"

#define TP_LINK_NAME "dataplane.sock" /* in the folder of the control socket */

/* What the tables lie in. */
enum tp_tables_kind { TP_TABLES_MAPS, TP_TABLES_PAGES, TP_TABLES_HUGE_PAGES };

/* The shared tables as what can be handed to another process. */
struct tp_tables {
	struct tp_memory memory; /* mapped here; regions are NULL before tp_tables_map() */
	int fds[TP_REGIONS];     /* one a region; the same one several times where they share it */
	uint64_t offsets[TP_REGIONS];
	enum tp_tables_kind kind;
};

/*
 * New tables, zeroed and mapped: a BPF_F_MMAPABLE array a region, named like it (needs
 * privileges); or one file in memory, of huge pages where enough of them are free. Close with
 * tp_tables_close().
 */
int tp_tables_create_maps(const struct tp_shape *shape, struct tp_tables *out);
int tp_tables_create_pages(const struct tp_shape *shape, struct tp_tables *out);

/* Maps tables that came by the link. -EBADF: a descriptor is not what its shape says. */
int tp_tables_map(struct tp_tables *tables);

/* Is it one memory, of which each has a descriptor? */
bool tp_tables_are_same(const struct tp_tables *a, const struct tp_tables *b);

/* Unmaps and closes; tables that are all zero but for fds of -1 are legal. */
void tp_tables_close(struct tp_tables *tables);
struct tp_tables tp_tables_none(void);

struct tp_hello {
	char engine[16];
	uint32_t workers;
	uint32_t interfaces_count;
	struct tp_engine_interface interfaces[TP_INTERFACES_MAX];
};

/* Who runs the daemons once they have given up root: of one another nothing else is asked. */
struct tp_link_users {
	uint32_t control_uid; /* turnpiked's: the socket is its own, and it removes it */
	uint32_t dataplane_uid, dataplane_gid;
};

/*
 * turnpike-dataplane's side.
 *
 * connect: the socket, or -EAGAIN: nobody listens there yet. Another error is described in
 * `reason`: -EPERM, whoever listens is neither root nor `control_uid`.
 * hello: `held` are the tables that the workers have mapped, NULL: none.
 */
int tp_link_connect(const char *path, uint32_t control_uid, int *fd, char reason[TP_REASON_SIZE]);
int tp_link_hello(int fd, const struct tp_hello *hello, const struct tp_tables *held);
int tp_link_state(int fd, const struct tp_hello *hello);

/*
 * What came, once the socket is readable. 0: TABLES, mapped in *out; -EALREADY: SAME. Otherwise the
 * connection is of no more use: -ECONNREFUSED: turnpiked refused, and says why; -ECONNRESET: it is
 * gone; -EPROTO: what came is no answer, `reason` says what is wrong with it. -EAGAIN: nothing yet.
 */
int tp_link_answer(int fd, struct tp_tables *out, char reason[TP_REASON_SIZE]);

/*
 * turnpiked's side: one turnpike-dataplane at a time, others are refused.
 *
 * listen: replaces the socket of a dead process. -EADDRINUSE: a live one answers there.
 * fd: readable when tp_link_next() has something to tell.
 */
struct tp_link;
int tp_link_listen(const char *path, const struct tp_link_users *users, struct tp_link **out,
	char reason[TP_REASON_SIZE]);
int tp_link_fd(const struct tp_link *link);

enum tp_link_event {
	TP_LINK_NOTHING, /* more to tell */
	TP_LINK_HELLO, /* *hello is set, and *offered: the caller's to close, not mapped yet; answer
			  with tables, same or refuse */
	TP_LINK_STATE, /* *hello: interfaces only */
	TP_LINK_LOST,  /* the one whose HELLO was answered is gone */
};

/* Call it until it says NOTHING. */
enum tp_link_event tp_link_next(
	struct tp_link *link, struct tp_hello *hello, struct tp_tables *offered);
int tp_link_give(struct tp_link *link, const struct tp_tables *tables);
int tp_link_same(struct tp_link *link);
void tp_link_refuse(struct tp_link *link, const char *why);

/* Removes the socket as far as the process still may. NULL is legal. */
void tp_link_close(struct tp_link *link);
