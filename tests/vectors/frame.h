/*
 * Frames built from a description, every checksum summed up over the whole packet: the second
 * opinion on the core's arithmetic. Shares no code with dataplane/core.
 */
#pragma once

#include "base/addr.h"

#define FRAME_MAX 3072

enum frame_checksum { CHECKSUM_GOOD, CHECKSUM_NONE, CHECKSUM_WRONG };

struct frame_spec {
	struct tp_addr source, destination; /* of one family */
	uint8_t link_destination[6];
	uint8_t link_source[6];
	uint16_t vlan[2];   /* tags, outermost first; 0 = none */
	uint16_t vlan_type; /* of the outermost; 0 = 0x8100 */
	uint8_t tos;        /* or traffic class */
	uint8_t ttl;
	uint16_t id;       /* IPv4 */
	uint16_t fragment; /* IPv4: the word with DF, MF, offset */
	uint32_t label;    /* IPv6 */
	uint8_t options;   /* IPv4: number of 32-bit words; IPv6: a header of 8 bytes if not 0 */
	uint8_t extension; /* IPv6: the number of that header */
	uint16_t channel;  /* ChannelData header in front of the data; 0 = none */
	uint16_t message;  /* STUN type of the message that has the data; 0 = none */
	const char *attributes; /* in their order (frame.c); NULL: "XD" */
	struct tp_addr peer;    /* XOR-PEER-ADDRESS */
	uint8_t transaction;    /* every byte of it */
	const uint8_t *data;
	size_t data_len;
	uint8_t padding; /* bytes behind the data, inside UDP */
	uint8_t padding_byte;
	size_t trailer; /* bytes behind the IP packet */
	enum frame_checksum checksum;
	bool wrong_ip_checksum;
};

/*
 * Attributes of a message: X XOR-PEER-ADDRESS, D DATA, N DONT-FRAGMENT, S SOFTWARE of 13 bytes, O
 * an unknown optional one, U an unknown required one, M MESSAGE-INTEGRITY, F FINGERPRINT, f a wrong
 * one; x and d others of the kind; L SOFTWARE of 300 bytes; i XOR-PEER-ADDRESS of a length that is
 * not its family's; e an attribute that ends behind the message.
 */
struct frame {
	uint8_t bytes[FRAME_MAX];
	size_t len;
	size_t l3, l4, payload; /* where they begin */
};

void frame_build(const struct frame_spec *spec, struct frame *out);

/* Sums over what is in the frame, whoever built it: are these checksums right? */
bool frame_ip_checksum_ok(const struct frame *frame);  /* true for IPv6 */
bool frame_udp_checksum_ok(const struct frame *frame); /* a checksum of 0 is not */

/* Right stays right, wrong wrong, none none; only where IPv6 needs one is one made. */
bool frame_udp_checksum_kept(const struct frame *before, const struct frame *after);

/* Finds l3, l4 and payload in a frame with at most one VLAN tag, no options. False: no UDP. */
bool frame_locate(struct frame *frame);

/*
 * What the core draws at random becomes 0, and the checksums follow: the transaction of a Data
 * indication (its XOR-PEER-ADDRESS too), kept in `transaction`, and the identification of IPv4 that
 * was IPv6 and may be fragmented.
 */
#define FRAME_TRANSACTION 12
void frame_forget_random(
	const struct frame *in, struct frame *out, uint8_t transaction[FRAME_TRANSACTION]);

/* Around an IP packet: a frame from nobody to nobody. */
void frame_wrap(const uint8_t *packet, size_t len, struct frame *out);
/* Makes it one, and 0 what the kernel's IP output chooses: identification, flow label. */
void frame_forget_kernel(struct frame *frame);

void frame_put16(struct frame *frame, size_t at, uint16_t value);
uint16_t frame_get16(const struct frame *frame, size_t at);
