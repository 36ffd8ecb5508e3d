/*
 * The messages of the link as they lie in the socket: fixed sizes, the machine's own byte order.
 * Everything in them is the other side's word until message.c has looked at it.
 */
#pragma once

#include "link.h"

#define MESSAGE_MAGIC   UINT32_C(0x74704c31) /* "tpL1" */
#define MESSAGE_VERSION 1

enum message_type {
	MESSAGE_HELLO = 1,
	MESSAGE_STATE,
	MESSAGE_TABLES,
	MESSAGE_SAME,
	MESSAGE_REFUSED,
};

/* Every version has this and, in MESSAGE_REFUSED, the sentence right behind it. */
struct message_header {
	uint32_t magic;
	uint16_t version;
	uint16_t type; /* enum message_type */
	uint32_t size; /* of the whole message */
	uint32_t abi;
	uint64_t layout;
};

struct message_region {
	uint64_t offset;
	uint32_t fd; /* index into the descriptors that come along */
	uint32_t element_size;
	uint32_t count;
	uint32_t zero;
};

struct message_tables {
	uint32_t present; /* 0: none, and nothing else is set */
	uint32_t kind;    /* enum tp_tables_kind */
	uint32_t capacity;
	uint32_t workers;
	struct message_region regions[TP_REGIONS];
};

struct message_interface {
	char name[TP_IFNAME_SIZE];
	char mode[TP_IFNAME_SIZE];
	uint32_t ifindex;
	uint32_t attached;
};

/* HELLO, STATE */
struct message_hello {
	struct message_header header;
	char engine[16];
	uint32_t workers;
	uint32_t interfaces_count;
	struct message_interface interfaces[TP_INTERFACES_MAX];
	struct message_tables tables;
};

/* TABLES, SAME, REFUSED */
struct message_answer {
	struct message_header header;
	char why[TP_REASON_SIZE];
	struct message_tables tables;
};

union message {
	struct message_header header;
	struct message_hello hello;
	struct message_answer answer;
};

/* A message and the descriptors that came with it, which are the holder's to close. */
struct message_received {
	union message is;
	size_t len;
	int fds[TP_REGIONS];
	size_t fds_count;
};

/* Sends; `tables` (NULL: none) are described in *into, which is part of `message`. */
int message_send(int fd, enum message_type type, struct message_header *message, size_t size,
	struct message_tables *into, const struct tp_tables *tables);

/* -EAGAIN: nothing is there; -ECONNRESET: the other side is gone; -EPROTO: more than a message. */
int message_receive(int fd, struct message_received *out);
void message_drop(struct message_received *message);

/* 0, or -EPROTO and what is wrong with it. */
int message_check(const struct message_received *message, size_t size, char reason[TP_REASON_SIZE]);

/* Tables out of a message, with its descriptors; not mapped. -EPROTO likewise. */
int message_take_tables(struct message_received *message, const struct message_tables *from,
	struct tp_tables *out, char reason[TP_REASON_SIZE]);

int message_read_hello(
	const struct message_hello *from, struct tp_hello *out, char reason[TP_REASON_SIZE]);
void message_write_hello(const struct tp_hello *from, struct message_hello *out);

/* Writes the sentence, returns err. */
__attribute__((format(printf, 3, 4))) int link_refuse(
	char reason[TP_REASON_SIZE], int err, const char *format, ...);

/* Who is at the other end: root or `uid`? */
bool link_trusts(int fd, uint32_t uid);
