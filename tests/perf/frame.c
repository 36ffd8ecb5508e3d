#include "frame.h"

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>

#define HOPS 64
#define DF   0x4000

size_t frame_headers_len(enum tp_family family)
{
	return sizeof(struct ethhdr) + sizeof(struct udphdr) +
	       (family == TP_IPV4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr));
}

/* Words as they lie in memory, which one's complement allows (RFC 1071, 2 B). */
static uint64_t sum(const void *bytes, size_t len)
{
	const uint8_t *at = bytes;
	uint64_t total = 0;

	for (; len >= 4; len -= 4, at += 4) {
		uint32_t word;

		memcpy(&word, at, sizeof(word));
		total += word;
	}
	if (len) {
		uint32_t word = 0;

		memcpy(&word, at, len);
		total += word;
	}
	return total;
}

static uint16_t fold(uint64_t total)
{
	while (total >> 16)
		total = (total & 0xffff) + (total >> 16);
	return (uint16_t)total;
}

uint16_t frame_checksum(const struct tp_addr *from, const struct tp_addr *to, uint8_t protocol,
	const uint8_t *message, size_t len)
{
	size_t address_len = tp_addr_bytes_len(from);
	uint64_t total = sum(tp_addr_bytes(from), address_len) +
			 sum(tp_addr_bytes(to), address_len) + htons(protocol) +
			 htons((uint16_t)len);

	return (uint16_t)~fold(total + sum(message, len));
}

static void write_ip4(
	uint8_t *out, const struct tp_addr *from, const struct tp_addr *to, size_t len)
{
	struct iphdr ip = {
		.version = 4,
		.ihl = 5,
		.tot_len = htons((uint16_t)(sizeof(ip) + len)),
		.frag_off = htons(DF),
		.ttl = HOPS,
		.protocol = IPPROTO_UDP,
	};

	memcpy(&ip.saddr, tp_addr_bytes(from), sizeof(ip.saddr));
	memcpy(&ip.daddr, tp_addr_bytes(to), sizeof(ip.daddr));
	ip.check = (uint16_t)~fold(sum(&ip, sizeof(ip)));
	memcpy(out, &ip, sizeof(ip));
}

static void write_ip6(
	uint8_t *out, const struct tp_addr *from, const struct tp_addr *to, size_t len)
{
	struct ipv6hdr ip = {
		.version = 6,
		.payload_len = htons((uint16_t)len),
		.nexthdr = IPPROTO_UDP,
		.hop_limit = HOPS,
	};

	memcpy(&ip.saddr, tp_addr_bytes(from), sizeof(ip.saddr));
	memcpy(&ip.daddr, tp_addr_bytes(to), sizeof(ip.daddr));
	memcpy(out, &ip, sizeof(ip));
}

size_t frame_write(uint8_t *out, const struct frame_macs *macs, const struct tp_addr *from,
	const struct tp_addr *to, const uint8_t *data, size_t len)
{
	size_t headers = frame_headers_len((enum tp_family)from->family);
	size_t udp_len = sizeof(struct udphdr) + len;
	uint8_t *at = out + headers - sizeof(struct udphdr);
	struct ethhdr ethernet = {
		.h_proto = htons(from->family == TP_IPV4 ? ETH_P_IP : ETH_P_IPV6)};
	struct udphdr udp = {htons(from->port), htons(to->port), htons((uint16_t)udp_len), 0};

	if (headers + len > FRAME_MAX)
		return 0;
	memcpy(ethernet.h_dest, macs->destination, FRAME_MAC_LEN);
	memcpy(ethernet.h_source, macs->source, FRAME_MAC_LEN);
	memcpy(out, &ethernet, sizeof(ethernet));
	if (from->family == TP_IPV4)
		write_ip4(out + sizeof(ethernet), from, to, udp_len);
	else
		write_ip6(out + sizeof(ethernet), from, to, udp_len);
	memcpy(at, &udp, sizeof(udp));
	memcpy(at + sizeof(udp), data, len);
	udp.check = frame_checksum(from, to, IPPROTO_UDP, at, udp_len);
	if (!udp.check) /* which would say that there is none (RFC 768) */
		udp.check = 0xffff;
	memcpy(at, &udp, sizeof(udp));
	return headers + len;
}

/* Where the UDP header is; NULL: not here. */
static uint8_t *read_ip4(uint8_t *bytes, size_t len, struct frame_datagram *d)
{
	struct iphdr ip;

	if (len < sizeof(ip))
		return NULL;
	memcpy(&ip, bytes, sizeof(ip));
	if (ip.version != 4 || ip.ihl != 5 || ip.protocol != IPPROTO_UDP ||
		(ntohs(ip.frag_off) & ~DF) || fold(sum(&ip, sizeof(ip))) != 0xffff)
		return NULL;
	d->from = tp_addr_make(TP_IPV4, &ip.saddr, 0);
	d->to = tp_addr_make(TP_IPV4, &ip.daddr, 0);
	return bytes + sizeof(ip);
}

static uint8_t *read_ip6(uint8_t *bytes, size_t len, struct frame_datagram *d)
{
	struct ipv6hdr ip;

	if (len < sizeof(ip))
		return NULL;
	memcpy(&ip, bytes, sizeof(ip));
	if (ip.version != 6 || ip.nexthdr != IPPROTO_UDP)
		return NULL;
	d->from = tp_addr_make(TP_IPV6, &ip.saddr, 0);
	d->to = tp_addr_make(TP_IPV6, &ip.daddr, 0);
	return bytes + sizeof(ip);
}

/* There may be padding behind it. Over IPv4 a checksum of 0 says that there is none. */
static bool read_udp(uint8_t *bytes, size_t len, struct frame_datagram *d)
{
	struct udphdr udp;
	size_t udp_len;

	if (len < sizeof(udp))
		return false;
	memcpy(&udp, bytes, sizeof(udp));
	udp_len = ntohs(udp.len);
	if (udp_len < sizeof(udp) || udp_len > len)
		return false;
	if ((udp.check || d->from.family == TP_IPV6) &&
		frame_checksum(&d->from, &d->to, IPPROTO_UDP, bytes, udp_len) != 0)
		return false;
	d->from.port = ntohs(udp.source);
	d->to.port = ntohs(udp.dest);
	d->data = bytes + sizeof(udp);
	d->len = udp_len - sizeof(udp);
	return true;
}

bool frame_read(uint8_t *bytes, size_t len, struct frame_datagram *out)
{
	struct ethhdr ethernet;
	uint8_t *udp = NULL;

	if (len < sizeof(ethernet))
		return false;
	memcpy(&ethernet, bytes, sizeof(ethernet));
	if (ethernet.h_proto == htons(ETH_P_IP))
		udp = read_ip4(bytes + sizeof(ethernet), len - sizeof(ethernet), out);
	else if (ethernet.h_proto == htons(ETH_P_IPV6))
		udp = read_ip6(bytes + sizeof(ethernet), len - sizeof(ethernet), out);
	return udp && read_udp(udp, len - (size_t)(udp - bytes), out);
}
