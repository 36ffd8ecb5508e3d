/* Transport addresses: conversion and text. No state. */
#include "addr.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>

static const uint8_t v4_mapped[12] = {[10] = 0xff, [11] = 0xff};

struct tp_addr tp_addr_make(enum tp_family family, const void *ip, uint16_t port)
{
	struct tp_addr a = {.family = (uint8_t)family, .port = port};

	if (family == TP_IPV4) {
		memcpy(a.ip, v4_mapped, sizeof(v4_mapped));
		memcpy(a.ip + 12, ip, 4);
	} else {
		memcpy(a.ip, ip, 16);
	}
	return a;
}

int tp_addr_from_sockaddr(const struct sockaddr *sa, struct tp_addr *out)
{
	const struct sockaddr_in *in4 = (const void *)sa;
	const struct sockaddr_in6 *in6 = (const void *)sa;

	if (sa->sa_family == AF_INET) {
		*out = tp_addr_make(TP_IPV4, &in4->sin_addr, ntohs(in4->sin_port));
		return 0;
	}
	if (sa->sa_family != AF_INET6)
		return -EAFNOSUPPORT;
	if (memcmp(&in6->sin6_addr, v4_mapped, sizeof(v4_mapped)) == 0)
		*out = tp_addr_make(TP_IPV4, in6->sin6_addr.s6_addr + 12, ntohs(in6->sin6_port));
	else
		*out = tp_addr_make(TP_IPV6, &in6->sin6_addr, ntohs(in6->sin6_port));
	return 0;
}

socklen_t tp_addr_to_sockaddr(const struct tp_addr *a, struct sockaddr_storage *out)
{
	struct sockaddr_in *in4 = (void *)out;
	struct sockaddr_in6 *in6 = (void *)out;

	memset(out, 0, sizeof(*out));
	if (a->family == TP_IPV4) {
		in4->sin_family = AF_INET;
		in4->sin_port = htons(a->port);
		memcpy(&in4->sin_addr, a->ip + 12, 4);
		return sizeof(*in4);
	}
	in6->sin6_family = AF_INET6;
	in6->sin6_port = htons(a->port);
	memcpy(&in6->sin6_addr, a->ip, 16);
	return sizeof(*in6);
}

int tp_addr_parse_ip(const char *text, struct tp_addr *out)
{
	uint8_t ip[16];

	if (inet_pton(AF_INET, text, ip) == 1)
		*out = tp_addr_make(TP_IPV4, ip, 0);
	else if (inet_pton(AF_INET6, text, ip) == 1)
		*out = tp_addr_make(TP_IPV6, ip, 0);
	else
		return -EINVAL;
	return 0;
}

/* Splits "host:port" or "[host]:port"; the host is copied without its brackets. */
static int split_port(const char *text, char host[TP_ADDR_TEXT], uint16_t *port)
{
	const char *colon = strrchr(text, ':');
	size_t len;
	char *end;
	unsigned long value;

	if (!colon || colon[1] < '0' || colon[1] > '9')
		return -EINVAL;
	value = strtoul(colon + 1, &end, 10);
	if (*end != '\0' || value > UINT16_MAX)
		return -EINVAL;
	len = (size_t)(colon - text);
	if (*text == '[') {
		if (len < 3 || text[len - 1] != ']')
			return -EINVAL;
		text++;
		len -= 2;
	}
	if (len == 0 || len >= TP_ADDR_TEXT)
		return -EINVAL;
	memcpy(host, text, len);
	host[len] = '\0';
	*port = (uint16_t)value;
	return 0;
}

int tp_addr_parse(const char *text, struct tp_addr *out)
{
	char host[TP_ADDR_TEXT];
	struct tp_addr a;
	uint16_t port;

	if (split_port(text, host, &port) < 0 || tp_addr_parse_ip(host, &a) < 0)
		return -EINVAL;
	if ((a.family == TP_IPV6) != (*text == '['))
		return -EINVAL;
	*out = tp_addr_with_port(&a, port);
	return 0;
}

const char *tp_addr_ip_text(const struct tp_addr *a, char out[TP_ADDR_TEXT])
{
	if (a->family == TP_NO_FAMILY || !inet_ntop(a->family == TP_IPV4 ? AF_INET : AF_INET6,
						 tp_addr_bytes(a), out, TP_ADDR_TEXT))
		snprintf(out, TP_ADDR_TEXT, "-");
	return out;
}

const char *tp_addr_text(const struct tp_addr *a, char out[TP_ADDR_TEXT])
{
	char ip[TP_ADDR_TEXT];
	bool v6 = a->family == TP_IPV6;

	snprintf(out, TP_ADDR_TEXT, "%s%.45s%s:%u", v6 ? "[" : "", tp_addr_ip_text(a, ip),
		v6 ? "]" : "", a->port);
	return out;
}
