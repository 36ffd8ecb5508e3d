/*
 * A program on an interface: attached by a link, and asked for. What the engine xdp and the workers
 * of afxdp (engine/afxdp) have in common; nothing here knows which program it is.
 *
 * Functions that can refuse write a sentence for the operator into `reason` and return -errno.
 * Attaching needs privileges and blocks on the kernel; asking does neither.
 */
#pragma once

#include "dataplane/engine/engine.h"

struct mnl_socket;

#define XDP_WORDS_SIZE 128

/* What an interface has; id 0: nothing. */
struct xdp_attached {
	uint32_t id;
	bool generic;
};

struct xdp_interface {
	struct tp_engine_interface is;
	int link_fd;                  /* -1: none */
	struct xdp_attached before;   /* what start() found */
	bool taken_over;              /* from a predecessor's pin, without a gap */
	char refused[XDP_WORDS_SIZE]; /* the kernel's words against native mode, or "" */
};

/* Writes the sentence, returns err. */
__attribute__((format(printf, 3, 4))) int xdp_refuse(
	char reason[TP_REASON_SIZE], int err, const char *format, ...);

/* libbpf's words go into the log, at the level for developers; warns of threat D01. */
void xdp_set_up_libbpf(void);

/* The configured interfaces by name and index; link_fd is -1. `engine` is for the sentence. */
int xdp_take_interfaces(const struct tp_engine_options *options, const char *engine,
	struct xdp_interface out[TP_INTERFACES_MAX], size_t *count, char reason[TP_REASON_SIZE]);

/* The program in the best mode that is allowed; nothing of ours is there yet. */
int xdp_attach_new(int program_fd, struct xdp_interface *interface, enum tp_xdp_mode mode,
	char reason[TP_REASON_SIZE]);
/* Says whose program interface->before is: -EBUSY. */
int xdp_refuse_foreign(const struct xdp_interface *interface, char reason[TP_REASON_SIZE]);
/* Detaches before it returns; the descriptor is -1 afterwards. */
void xdp_link_end(int *fd);

/* Id and name of a program, "?" where they cannot be read. */
struct xdp_program_name {
	uint32_t id;
	char text[32];
};
struct xdp_program_name xdp_program_name(uint32_t id);
uint32_t xdp_program_id(int program_fd); /* 0: cannot be read */

/* The verifier's verdict, from its log: the line before the statistics. Edits the log. */
const char *xdp_last_words(char *log);

/* query.c: what is attached to an interface, by plain rtnetlink. */
struct xdp_query {
	struct mnl_socket *netlink;
	uint32_t seq;
};
int xdp_query_open(struct xdp_query *query);
int xdp_query(struct xdp_query *query, uint32_t ifindex, struct xdp_attached *out);
void xdp_query_close(struct xdp_query *query);

/* Is the program still there? -ENOLINK, once, and attached is false: no. */
int xdp_check(struct xdp_query *query, struct xdp_interface *interface, uint32_t program_id,
	char reason[TP_REASON_SIZE]);
