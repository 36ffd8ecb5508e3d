/* A walk through an ICMP error to the ports in the packet that it quotes. No state, no I/O. */
#include "icmp.h"

#include "dataplane/core/checksum.h"

#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>

enum {
	ICMP_LEN = 8, /* of both versions; behind it is the quoted packet */
	IPV6_FRAGMENT_LEN = 8,
	IPV6_HEADERS_MAX = 8, /* extension headers that are looked through */
};

struct bytes {
	const uint8_t *at;
	size_t left;
};

static bool skip(struct bytes *from, size_t len)
{
	if (len > from->left)
		return false;
	from->at += len;
	from->left -= len;
	return true;
}

static uint16_t get16(const uint8_t *at)
{
	return (uint16_t)(at[0] << 8 | at[1]);
}

/* RFC 792 and RFC 4443 promise more of it than the ports: what is shorter is no quote. */
static bool read_ports(const struct bytes *udp, struct icmp_error *out)
{
	if (udp->left < TP_UDP_LEN)
		return false;
	out->source.port = get16(udp->at);
	out->destination.port = get16(udp->at + 2);
	return true;
}

/* The length of an IPv4 header, all of which is there; 0: there is none. */
static size_t ipv4_header_len(const struct bytes *from)
{
	size_t len;

	if (from->left < TP_IPV4_LEN || from->at[0] >> 4 != 4)
		return 0;
	len = (from->at[0] & 15) * (size_t)4;
	return len >= TP_IPV4_LEN && len <= from->left ? len : 0;
}

/* Only the first fragment has a UDP header. */
static bool read_ipv4_quote(struct bytes *quote, struct icmp_error *out)
{
	const struct tp_ipv4 *ip = (const void *)quote->at;
	size_t len = ipv4_header_len(quote);

	if (len == 0 || ip->protocol != IPPROTO_UDP || (tp_from_be16(ip->fragment) & 0x1fff) != 0)
		return false;
	out->source = tp_addr_make(TP_IPV4, &ip->source, 0);
	out->destination = tp_addr_make(TP_IPV4, &ip->destination, 0);
	return skip(quote, len) && read_ports(quote, out);
}

bool icmp_parse_v4(const uint8_t *bytes, size_t len, struct icmp_error *out)
{
	struct bytes from = {bytes, len};
	size_t header_len = ipv4_header_len(&from);
	const uint8_t *icmp;

	if (header_len == 0 || bytes[offsetof(struct tp_ipv4, protocol)] != IPPROTO_ICMP)
		return false;
	skip(&from, header_len);
	/* Raw sockets get what the kernel has not looked at yet. */
	if (tp_sum_fold_wide(tp_sum_bytes(from.at, from.left)) != 0xffff)
		return false;
	icmp = from.at;
	if (!skip(&from, ICMP_LEN) || (icmp[0] != ICMP_UNREACH && icmp[0] != ICMP_TIMXCEED))
		return false;
	*out = (struct icmp_error){.type = icmp[0], .code = icmp[1]};
	if (out->type == ICMP_UNREACH && out->code == ICMP_UNREACH_NEEDFRAG)
		out->data = get16(icmp + 6);
	return read_ipv4_quote(&from, out);
}

/* The length of an extension header; 0: it is none, or what follows is no UDP header. */
static size_t extension_len(uint8_t kind, const struct bytes *from)
{
	if (from->left < IPV6_FRAGMENT_LEN)
		return 0;
	switch (kind) {
	case IPPROTO_HOPOPTS:
	case IPPROTO_ROUTING:
	case IPPROTO_DSTOPTS:
		return (from->at[1] + (size_t)1) * 8;
	case IPPROTO_AH:
		return (from->at[1] + (size_t)2) * 4;
	case IPPROTO_FRAGMENT:
		return (get16(from->at + 2) & 0xfff8) == 0 ? IPV6_FRAGMENT_LEN : 0;
	default:
		return 0;
	}
}

static bool skip_extensions(struct bytes *from, uint8_t kind)
{
	for (int i = 0; i < IPV6_HEADERS_MAX && kind != IPPROTO_UDP; i++) {
		size_t len = extension_len(kind, from);

		if (len == 0)
			return false;
		kind = from->at[0];
		if (!skip(from, len))
			return false;
	}
	return kind == IPPROTO_UDP;
}

static bool read_ipv6_quote(struct bytes *quote, struct icmp_error *out)
{
	const struct tp_ipv6 *ip = (const void *)quote->at;

	if (!skip(quote, sizeof(*ip)) || *(const uint8_t *)ip >> 4 != 6)
		return false;
	out->source = tp_addr_make(TP_IPV6, ip->source, 0);
	out->destination = tp_addr_make(TP_IPV6, ip->destination, 0);
	return skip_extensions(quote, ip->next_header) && read_ports(quote, out);
}

bool icmp_parse_v6(const uint8_t *bytes, size_t len, struct icmp_error *out)
{
	struct bytes from = {bytes, len};

	if (!skip(&from, ICMP_LEN) || bytes[0] < ICMP6_DST_UNREACH ||
		bytes[0] > ICMP6_TIME_EXCEEDED)
		return false;
	*out = (struct icmp_error){.type = bytes[0], .code = bytes[1]};
	if (out->type == ICMP6_PACKET_TOO_BIG)
		out->data = (uint32_t)get16(bytes + 4) << 16 | get16(bytes + 6);
	return read_ipv6_quote(&from, out);
}
