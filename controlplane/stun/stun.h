/*
 * STUN messages (RFC 8489): decoding in place, encoding into a caller's buffer. No I/O, no
 * allocation, no state between messages (threat F18).
 */
#pragma once

#include "base/addr.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STUN_COOKIE          UINT32_C(0x2112A442)
#define STUN_HEADER_LEN      20
#define STUN_TRANSACTION_LEN 12
#define STUN_ATTRIBUTES_MAX  384 /* a full Ethernet frame of them (F11), no more (F12) */
#define STUN_UNKNOWN_MAX     16  /* listed in a 420; bounds the answer (STUN-6.3.1-2) */
#define STUN_USERNAME_MAX    763 /* what a parser accepts (RFC 8489, 14.3) */

enum stun_class {
	STUN_REQUEST = 0x0000,
	STUN_INDICATION = 0x0010,
	STUN_SUCCESS = 0x0100,
	STUN_ERROR = 0x0110,
};

enum stun_method {
	STUN_METHOD_BINDING = 0x001,
	STUN_METHOD_ALLOCATE = 0x003,
	STUN_METHOD_REFRESH = 0x004,
	STUN_METHOD_SEND = 0x006,
	STUN_METHOD_DATA = 0x007,
	STUN_METHOD_CREATE_PERMISSION = 0x008,
	STUN_METHOD_CHANNEL_BIND = 0x009,
};

enum stun_code {
	STUN_OK = 0,
	STUN_TRY_ALTERNATE = 300,
	STUN_BAD_REQUEST = 400,
	STUN_UNAUTHENTICATED = 401,
	STUN_FORBIDDEN = 403,
	STUN_UNKNOWN_ATTRIBUTE = 420,
	STUN_ALLOCATION_MISMATCH = 437,
	STUN_STALE_NONCE = 438,
	STUN_ADDRESS_FAMILY_NOT_SUPPORTED = 440,
	STUN_WRONG_CREDENTIALS = 441,
	STUN_UNSUPPORTED_TRANSPORT = 442,
	STUN_PEER_ADDRESS_FAMILY_MISMATCH = 443,
	STUN_ALLOCATION_QUOTA_REACHED = 486,
	STUN_SERVER_ERROR = 500,
	STUN_INSUFFICIENT_CAPACITY = 508,
	/* No answer at all: what the RFC calls "silently discarded". Never on the wire. */
	STUN_DISCARD = -1,
};

/* Attributes that this server reads or sends (IANA type, name). */
#define STUN_ATTRIBUTES(X)                                                                         \
	X(0x0001, MAPPED_ADDRESS)                                                                  \
	X(0x0006, USERNAME)                                                                        \
	X(0x0008, MESSAGE_INTEGRITY)                                                               \
	X(0x0009, ERROR_CODE)                                                                      \
	X(0x000A, UNKNOWN_ATTRIBUTES)                                                              \
	X(0x000C, CHANNEL_NUMBER)                                                                  \
	X(0x000D, LIFETIME)                                                                        \
	X(0x0012, XOR_PEER_ADDRESS)                                                                \
	X(0x0013, DATA)                                                                            \
	X(0x0014, REALM)                                                                           \
	X(0x0015, NONCE)                                                                           \
	X(0x0016, XOR_RELAYED_ADDRESS)                                                             \
	X(0x0017, REQUESTED_ADDRESS_FAMILY)                                                        \
	X(0x0018, EVEN_PORT)                                                                       \
	X(0x0019, REQUESTED_TRANSPORT)                                                             \
	X(0x001A, DONT_FRAGMENT)                                                                   \
	X(0x001C, MESSAGE_INTEGRITY_SHA256)                                                        \
	X(0x001D, PASSWORD_ALGORITHM)                                                              \
	X(0x001E, USERHASH)                                                                        \
	X(0x0020, XOR_MAPPED_ADDRESS)                                                              \
	X(0x0022, RESERVATION_TOKEN)                                                               \
	X(0x8000, ADDITIONAL_ADDRESS_FAMILY)                                                       \
	X(0x8001, ADDRESS_ERROR_CODE)                                                              \
	X(0x8002, PASSWORD_ALGORITHMS)                                                             \
	X(0x8004, ICMP)                                                                            \
	X(0x8022, SOFTWARE)                                                                        \
	X(0x8028, FINGERPRINT)

enum stun_attribute_type {
#define X(type, name) STUN_ATTR_##name = (type),
	STUN_ATTRIBUTES(X)
#undef X
};

/* The same ones counted from 0. */
enum stun_attribute_index {
#define X(type, name) STUN_INDEX_##name,
	STUN_ATTRIBUTES(X)
#undef X
		STUN_INDEX_END
};

/* A value inside the message; NULL when the attribute is absent. A present empty one is not NULL.
 */
struct stun_attribute {
	const uint8_t *value;
	uint16_t len; /* without padding */
};

struct stun_message {
	const uint8_t *bytes; /* the whole message, header included */
	size_t len;
	enum stun_class class;
	uint16_t method;
	const uint8_t *transaction; /* STUN_TRANSACTION_LEN bytes */

	/* Ends of what the integrity attributes cover; 0 when absent. */
	size_t integrity_at;
	size_t integrity256_at;
	bool has_fingerprint; /* and it was right */

	size_t attributes_end;          /* attributes at or behind it are ignored (RFC 8489, 9) */
	uint16_t first[STUN_INDEX_END]; /* of each that is not: where, in fours; 0: there is none */
	uint16_t unknown[STUN_UNKNOWN_MAX]; /* comprehension-required, not known; no duplicates */
	uint8_t unknown_count;
};

/* Is the datagram STUN by its first two bits and cookie? Cheap; says nothing about the rest. */
bool stun_is(const uint8_t *bytes, size_t len);

/*
 * Decodes a whole datagram. -EBADMSG: to be discarded in silence: header length not a multiple of 4
 * or not the datagram's, an attribute that runs past the end, more than STUN_ATTRIBUTES_MAX, a
 * FINGERPRINT that is wrong (RFC 8489, 6.3 and 7).
 */
int stun_parse(const uint8_t *bytes, size_t len, struct stun_message *out);

/* The first attribute of that type before the integrity attributes (RFC 8489, 14: first wins). */
struct stun_attribute stun_find(const struct stun_message *m, enum stun_attribute_type type);

/* Repeated attributes: start with *cursor = 0; value is NULL behind the last one. */
struct stun_attribute stun_next(
	const struct stun_message *m, enum stun_attribute_type type, size_t *cursor);

/* XOR-PEER-ADDRESS and the like. -EINVAL: family not 1 or 2, or a length that is not the family's.
 */
int stun_read_xor_address(
	const struct stun_message *m, struct stun_attribute a, struct tp_addr *out);
int stun_read_u32(struct stun_attribute a, uint32_t *out);

enum stun_integrity { STUN_NO_INTEGRITY, STUN_SHA1, STUN_SHA256 };

/* Right for this key? MESSAGE-INTEGRITY-SHA256 decides where both are there. Constant time. */
bool stun_check_integrity(const struct stun_message *m, const uint8_t *key, size_t key_len);

/* The beginning of the MAC that decides; 0: there is none of that length. */
uint64_t stun_mac_word(const struct stun_message *m);

/* A message under construction. Overflow is remembered; stun_finish() then returns 0. */
struct stun_writer {
	uint8_t *bytes;
	size_t size;
	size_t len;
	bool overflow;
};

/* Starts a message; transaction NULL: a random one (indications). */
void stun_begin(struct stun_writer *w, uint8_t *bytes, size_t size, enum stun_class class,
	uint16_t method, const uint8_t *transaction);
void stun_put(struct stun_writer *w, uint16_t type, const void *value, size_t len);
void stun_put_u32(struct stun_writer *w, uint16_t type, uint32_t value);
void stun_put_xor_address(struct stun_writer *w, uint16_t type, const struct tp_addr *a);
void stun_put_error(struct stun_writer *w, enum stun_code code);
/* Last but for the fingerprint. */
void stun_put_integrity(
	struct stun_writer *w, enum stun_integrity kind, const uint8_t *key, size_t key_len);
void stun_put_fingerprint(struct stun_writer *w);
/* Length of the finished message, 0 if it did not fit. */
size_t stun_finish(struct stun_writer *w);
