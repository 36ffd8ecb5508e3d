#include "neighbour.h"

#include <arpa/inet.h>
#include <linux/icmpv6.h>
#include <linux/if_arp.h>
#include <linux/if_ether.h>
#include <linux/ipv6.h>

#define SOLICITATION  135
#define ADVERTISEMENT 136
#define OPTION_SOURCE 1 /* link-layer address */
#define OPTION_TARGET 2
#define SOLICITED     UINT32_C(0x60000000) /* and it overrides what was known */
#define HOPS          255 /* what is less has come through a router (RFC 4861, 7.1) */

struct arp_frame {
	struct ethhdr ethernet;
	uint16_t hardware, protocol;
	uint8_t hardware_len, protocol_len;
	uint16_t operation;
	uint8_t sender_mac[FRAME_MAC_LEN], sender[4], target_mac[FRAME_MAC_LEN], target[4];
} __attribute__((packed));

struct option {
	uint8_t type, eights;
	uint8_t mac[FRAME_MAC_LEN];
};

struct discovery {
	uint8_t type, code;
	uint16_t check;
	uint32_t flags;
	uint8_t target[16];
	struct option option; /* where it has one, ours first and alone */
} __attribute__((packed));

struct discovery_frame {
	struct ethhdr ethernet;
	struct ipv6hdr ip;
	struct discovery message;
} __attribute__((packed));

_Static_assert(sizeof(struct discovery_frame) == NEIGHBOUR_FRAME_MAX, "no padding");

static const uint8_t everybody[FRAME_MAC_LEN] = {255, 255, 255, 255, 255, 255};

static struct ethhdr ethernet(
	const uint8_t to[FRAME_MAC_LEN], const uint8_t from[FRAME_MAC_LEN], uint16_t protocol)
{
	struct ethhdr e = {.h_proto = htons(protocol)};

	memcpy(e.h_dest, to, FRAME_MAC_LEN);
	memcpy(e.h_source, from, FRAME_MAC_LEN);
	return e;
}

/* ---- writing -----------------------------------------------------------------------------------
 */

/* The shortest frame of an Ethernet: not every device pads. */
static size_t write_arp(uint8_t *out, const struct arp_frame *frame)
{
	memset(out, 0, ETH_ZLEN);
	memcpy(out, frame, sizeof(*frame));
	return ETH_ZLEN;
}

static struct arp_frame arp(uint16_t operation, const uint8_t mac[FRAME_MAC_LEN],
	const struct tp_addr *own, const struct tp_addr *target)
{
	struct arp_frame frame = {
		.ethernet = ethernet(everybody, mac, ETH_P_ARP),
		.hardware = htons(ARPHRD_ETHER),
		.protocol = htons(ETH_P_IP),
		.hardware_len = FRAME_MAC_LEN,
		.protocol_len = sizeof(frame.sender),
		.operation = htons(operation),
	};

	memcpy(frame.sender_mac, mac, FRAME_MAC_LEN);
	memcpy(frame.sender, tp_addr_bytes(own), sizeof(frame.sender));
	memcpy(frame.target, tp_addr_bytes(target), sizeof(frame.target));
	return frame;
}

static size_t write_discovery(uint8_t *out, const uint8_t to_mac[FRAME_MAC_LEN],
	const uint8_t mac[FRAME_MAC_LEN], const struct tp_addr *from, const struct tp_addr *to,
	struct discovery *message)
{
	struct discovery_frame frame = {
		.ethernet = ethernet(to_mac, mac, ETH_P_IPV6),
		.ip = {.version = 6,
			.payload_len = htons(sizeof(*message)),
			.nexthdr = IPPROTO_ICMPV6,
			.hop_limit = HOPS},
	};

	message->option.eights = 1;
	memcpy(message->option.mac, mac, FRAME_MAC_LEN);
	message->check = frame_checksum(
		from, to, IPPROTO_ICMPV6, (const uint8_t *)message, sizeof(*message));
	memcpy(&frame.ip.saddr, tp_addr_bytes(from), sizeof(frame.ip.saddr));
	memcpy(&frame.ip.daddr, tp_addr_bytes(to), sizeof(frame.ip.daddr));
	frame.message = *message;
	memcpy(out, &frame, sizeof(frame));
	return sizeof(frame);
}

/* The solicited-node multicast address of the target (RFC 4291, 2.7.1) is where to ask. */
static size_t solicit(uint8_t *out, const uint8_t mac[FRAME_MAC_LEN], const struct tp_addr *own,
	const struct tp_addr *target)
{
	const uint8_t *last = target->ip + 12;
	const uint8_t group[16] = {
		0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, last[1], last[2], last[3]};
	const uint8_t group_mac[FRAME_MAC_LEN] = {0x33, 0x33, 0xff, last[1], last[2], last[3]};
	struct tp_addr to = tp_addr_make(TP_IPV6, group, 0);
	struct discovery message = {.type = SOLICITATION, .option.type = OPTION_SOURCE};

	memcpy(message.target, target->ip, sizeof(message.target));
	return write_discovery(out, group_mac, mac, own, &to, &message);
}

size_t neighbour_ask(uint8_t *out, const uint8_t mac[FRAME_MAC_LEN], const struct tp_addr *own,
	const struct tp_addr *target)
{
	struct arp_frame frame;

	if (target->family == TP_IPV6)
		return solicit(out, mac, own, target);
	frame = arp(ARPOP_REQUEST, mac, own, target);
	return write_arp(out, &frame);
}

size_t neighbour_tell(
	uint8_t *out, const uint8_t mac[FRAME_MAC_LEN], const struct neighbour_message *asked)
{
	struct discovery message = {
		.type = ADVERTISEMENT, .flags = htonl(SOLICITED), .option.type = OPTION_TARGET};
	struct arp_frame frame;

	if (asked->target.family == TP_IPV6) {
		memcpy(message.target, asked->target.ip, sizeof(message.target));
		return write_discovery(
			out, asked->mac, mac, &asked->target, &asked->sender, &message);
	}
	frame = arp(ARPOP_REPLY, mac, &asked->target, &asked->sender);
	memcpy(frame.ethernet.h_dest, asked->mac, FRAME_MAC_LEN);
	memcpy(frame.target_mac, asked->mac, FRAME_MAC_LEN);
	return write_arp(out, &frame);
}

/* ---- reading -----------------------------------------------------------------------------------
 */

static bool is_unspecified(const uint8_t *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (bytes[i])
			return false;
	}
	return true;
}

static bool read_arp(const uint8_t *bytes, size_t len, struct neighbour_message *out)
{
	struct arp_frame frame;
	uint16_t operation;

	if (len < sizeof(frame))
		return false;
	memcpy(&frame, bytes, sizeof(frame));
	operation = ntohs(frame.operation);
	if (frame.hardware != htons(ARPHRD_ETHER) || frame.protocol != htons(ETH_P_IP) ||
		frame.hardware_len != FRAME_MAC_LEN || frame.protocol_len != sizeof(frame.sender) ||
		(operation != ARPOP_REQUEST && operation != ARPOP_REPLY) ||
		is_unspecified(frame.sender, sizeof(frame.sender)))
		return false;
	out->kind = operation == ARPOP_REQUEST ? NEIGHBOUR_ASKS : NEIGHBOUR_TELLS;
	out->sender = tp_addr_make(TP_IPV4, frame.sender, 0);
	out->target =
		out->kind == NEIGHBOUR_TELLS ? out->sender : tp_addr_make(TP_IPV4, frame.target, 0);
	memcpy(out->mac, frame.sender_mac, FRAME_MAC_LEN);
	return true;
}

/* Options begin behind the target. */
static bool find_mac(const uint8_t *option, size_t len, uint8_t wanted, uint8_t mac[FRAME_MAC_LEN])
{
	while (len >= sizeof(struct option)) {
		size_t option_len = (size_t)option[1] * 8;

		if (option_len == 0 || option_len > len)
			return false;
		if (option[0] == wanted) {
			memcpy(mac, option + 2, FRAME_MAC_LEN);
			return true;
		}
		option += option_len;
		len -= option_len;
	}
	return false;
}

static bool read_discovery(const uint8_t *bytes, size_t len, struct neighbour_message *out)
{
	const size_t least = offsetof(struct discovery, option);
	struct discovery_frame frame;
	struct tp_addr from, to;
	size_t message_len;

	if (len < sizeof(frame) - sizeof(struct option))
		return false;
	memcpy(&frame, bytes, sizeof(frame) - sizeof(struct option));
	bytes += sizeof(frame.ethernet) + sizeof(frame.ip);
	message_len = ntohs(frame.ip.payload_len);
	if (frame.ip.version != 6 || frame.ip.nexthdr != IPPROTO_ICMPV6 ||
		frame.ip.hop_limit != HOPS || message_len < least ||
		message_len > len - sizeof(frame.ethernet) - sizeof(frame.ip))
		return false;
	from = tp_addr_make(TP_IPV6, &frame.ip.saddr, 0);
	to = tp_addr_make(TP_IPV6, &frame.ip.daddr, 0);
	if (frame_checksum(&from, &to, IPPROTO_ICMPV6, bytes, message_len) != 0 ||
		(frame.message.type != SOLICITATION && frame.message.type != ADVERTISEMENT) ||
		frame.message.code || is_unspecified(from.ip, sizeof(from.ip)))
		return false;
	out->kind = frame.message.type == SOLICITATION ? NEIGHBOUR_ASKS : NEIGHBOUR_TELLS;
	out->sender = from;
	out->target = tp_addr_make(TP_IPV6, frame.message.target, 0);
	if (find_mac(bytes + least, message_len - least,
		    out->kind == NEIGHBOUR_ASKS ? OPTION_SOURCE : OPTION_TARGET, out->mac))
		return true;
	/* When it is asked of one alone there may be no option: who sent it is in the frame. */
	memcpy(out->mac, frame.ethernet.h_source, FRAME_MAC_LEN);
	return true;
}

bool neighbour_read(const uint8_t *bytes, size_t len, struct neighbour_message *out)
{
	struct ethhdr header;

	if (len < sizeof(header))
		return false;
	memcpy(&header, bytes, sizeof(header));
	if (header.h_proto == htons(ETH_P_ARP))
		return read_arp(bytes, len, out);
	return header.h_proto == htons(ETH_P_IPV6) && read_discovery(bytes, len, out);
}
