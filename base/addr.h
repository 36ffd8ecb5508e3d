/*
 * A transport address as the whole program carries it. IPv4 is stored v4-mapped, so that equality,
 * hashing and the flow tables need no second case; the family stays beside it, because an IPv6
 * address ::ffff:a.b.c.d named by a client is not the IPv4 address a.b.c.d (threat P03).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

enum tp_family { TP_NO_FAMILY = 0, TP_IPV4 = 4, TP_IPV6 = 6 };

struct tp_addr {
	uint8_t ip[16]; /* network order; IPv4 as ::ffff:a.b.c.d */
	uint16_t port;  /* host order */
	uint8_t family; /* enum tp_family */
	uint8_t zero;   /* always 0: addresses are compared and hashed as bytes */
};

/* "[2001:db8::1]:65535" and its end. */
#define TP_ADDR_TEXT 56

/* ip: 4 bytes for TP_IPV4, 16 for TP_IPV6, network order; port in host order. */
struct tp_addr tp_addr_make(enum tp_family family, const void *ip, uint16_t port);

/* A v4-mapped socket address becomes IPv4: that is how a dual-stack socket names IPv4 hosts. */
int tp_addr_from_sockaddr(const struct sockaddr *sa, struct tp_addr *out);
socklen_t tp_addr_to_sockaddr(const struct tp_addr *a, struct sockaddr_storage *out);

/* "192.0.2.1", "2001:db8::1": an address alone, port 0. -EINVAL for anything else. */
int tp_addr_parse_ip(const char *text, struct tp_addr *out);
/* The same with a port: "192.0.2.1:80", "[2001:db8::1]:80". */
int tp_addr_parse(const char *text, struct tp_addr *out);

/* "192.0.2.1" or "192.0.2.1:80"; returns out. */
const char *tp_addr_ip_text(const struct tp_addr *a, char out[TP_ADDR_TEXT]);
const char *tp_addr_text(const struct tp_addr *a, char out[TP_ADDR_TEXT]);

/* The 4 or 16 bytes that go on the wire. */
static inline const uint8_t *tp_addr_bytes(const struct tp_addr *a)
{
	return a->family == TP_IPV4 ? a->ip + 12 : a->ip;
}

static inline size_t tp_addr_bytes_len(const struct tp_addr *a)
{
	return a->family == TP_IPV4 ? 4 : 16;
}

static inline bool tp_addr_equal(const struct tp_addr *a, const struct tp_addr *b)
{
	return memcmp(a, b, sizeof(*a)) == 0;
}

static inline bool tp_addr_equal_ip(const struct tp_addr *a, const struct tp_addr *b)
{
	return a->family == b->family && memcmp(a->ip, b->ip, sizeof(a->ip)) == 0;
}

static inline struct tp_addr tp_addr_with_port(const struct tp_addr *a, uint16_t port)
{
	struct tp_addr out = *a;

	out.port = port;
	return out;
}
