/*
 * The packet vectors: one row, one fact. Every row runs through the native core and, as root,
 * through the loaded BPF program: same verdict, same bytes, same counters.
 */
#include <stdio.h>
#include <stdlib.h>

#include "probe.h"
#include "wire.h"

enum { BOTH = 0 };

struct change {
	bool off, layout, unplaced;
	uint16_t channel_max;
};

struct row {
	const char *name;
	enum tp_verdict want;
	uint8_t family; /* BOTH, TP_IPV4, TP_IPV6 */
	struct probe in;
	struct change change;
	bool no_room; /* no byte in front of the frame: only the native core can be shown that */
};

#define UP(...)                                                                                    \
	{                                                                                          \
		.from = CLIENT, ##__VA_ARGS__                                                      \
	}
#define DOWN(...)                                                                                  \
	{                                                                                          \
		.from = PEER, ##__VA_ARGS__                                                        \
	}
#define AT(...)                                                                                    \
	{                                                                                          \
		{                                                                                  \
			__VA_ARGS__                                                                \
		}                                                                                  \
	}
#define STUN "\0\1\0\0\x21\x12\xa4\x42"

/* clang-format off */
static const struct row rows[] = {
	{"channel data to a bound peer loses its header", TP_RELAYED, BOTH, UP()},
	{"a bound peer's datagram gains it", TP_RELAYED, BOTH, DOWN()},
	{"relay port 49153, up", TP_RELAYED, BOTH, UP(.lane = 0x4002)},
	{"relay port 49153, down", TP_RELAYED, BOTH, DOWN(.lane = 0x4002)},
	{"relay port 49407, up", TP_RELAYED, BOTH, UP(.lane = 0x4003)},
	{"relay port 49407, down", TP_RELAYED, BOTH, DOWN(.lane = 0x4003)},
	{"relay port 49408, up", TP_RELAYED, BOTH, UP(.lane = 0x4004)},
	{"relay port 49408, down", TP_RELAYED, BOTH, DOWN(.lane = 0x4004)},
	{"relay port 65535, up", TP_RELAYED, BOTH, UP(.lane = 0x4005)},
	{"relay port 65535, down", TP_RELAYED, BOTH, DOWN(.lane = 0x4005)},
	{"the last channel number, up", TP_RELAYED, BOTH, UP(.lane = 0x4fff)},
	{"the last channel number, down", TP_RELAYED, BOTH, DOWN(.lane = 0x4fff)},

	/* whose packet */
	{"another address", TP_NOT_OURS, TP_IPV4, UP(.destination = "192.0.2.3")},
	{"another address", TP_NOT_OURS, TP_IPV6, UP(.destination = "2001:db8::3")},
	{"a port that is not ours", TP_NOT_OURS, BOTH, DOWN(.port = PORT_CLOSED)},
	{"the byte-swapped port of a listener", TP_NOT_OURS, BOTH, UP(.port = 0x960d)},
	{"the listener's port on the relay address", TP_NOT_OURS, TP_IPV4, UP(.destination = "192.0.2.2")},
	{"a relay port on the listener's address", TP_NOT_OURS, TP_IPV4, DOWN(.destination = "192.0.2.1")},
	{"::ffff:192.0.2.1 is not 192.0.2.1", TP_NOT_OURS, TP_IPV6, UP(.destination = "::ffff:192.0.2.1")},
	{"ARP", TP_NOT_OURS, BOTH, UP(.patch = AT(2, LINK, 12, 0x0806))},
	{"TCP over IPv4", TP_NOT_OURS, TP_IPV4, UP(.patch = AT(1, L3, 9, 6))},
	{"TCP over IPv6", TP_NOT_OURS, TP_IPV6, UP(.patch = AT(1, L3, 6, 6))},
	{"ICMPv6", TP_NOT_OURS, TP_IPV6, UP(.patch = AT(1, L3, 6, 58))},
	{"no next header", TP_NOT_OURS, TP_IPV6, UP(.patch = AT(1, L3, 6, 59))},
	{"protocol 0 over IPv4", TP_NOT_OURS, TP_IPV4, UP(.patch = AT(1, L3, 9, 0))},
	{"version 6 under the ethertype of IPv4", TP_NOT_OURS, TP_IPV4, UP(.patch = AT(1, L3, 0, 0x65))},
	{"version 4 under the ethertype of IPv6", TP_NOT_OURS, TP_IPV6, UP(.patch = AT(1, L3, 0, 0x45))},
	{"broken, but not to us", TP_NOT_OURS, BOTH, DOWN(.port = PORT_CLOSED, .patch = AT(2, L4, 4, 0xffff))},
	{"a martian, but not to us", TP_NOT_OURS, TP_IPV4, DOWN(.port = PORT_CLOSED, .source = "127.0.0.1")},
	{"no checksum, but not to us", TP_NOT_OURS, TP_IPV6, DOWN(.port = PORT_CLOSED, .frame.checksum = CHECKSUM_NONE)},

	/* listener */
	{"a STUN message", TP_CONTROL, BOTH, UP(.raw = STUN, .size = 8)},
	{"an empty datagram to a listener", TP_CONTROL, BOTH, UP(.raw = "", .size = EMPTY)},
	{"first byte 0x3f", TP_CONTROL, BOTH, UP(.raw = "\x3f\1\0\0", .size = 4)},
	{"first byte 0x50", TP_CONTROL, BOTH, UP(.raw = "\x50\0\0\0", .size = 4)},
	{"first byte 0x80", TP_CONTROL, BOTH, UP(.raw = "\x80\0\0\0", .size = 4)},
	{"first byte 0xff", TP_CONTROL, BOTH, UP(.raw = "\xff", .size = 1)},
	{"a channel for old clients, nobody bound it", TP_NO_FLOW, BOTH,
		UP(.raw = "\x7f\xff\0\0", .size = 4), .change.channel_max = 0x7ffe},
	{"with old clients 0x80 is still none", TP_CONTROL, BOTH,
		UP(.raw = "\x80\0\0\0", .size = 4), .change.channel_max = 0x7ffe},
	{"a header of one byte", TP_MALFORMED, BOTH, UP(.raw = "\x40", .size = 1)},
	{"a header of two bytes", TP_MALFORMED, BOTH, UP(.raw = "\x40\1", .size = 2)},
	{"a header of three bytes", TP_MALFORMED, BOTH, UP(.raw = "\x40\1\0", .size = 3)},
	{"a header of three bytes, Ethernet padding there", TP_MALFORMED, BOTH,
		UP(.raw = "\x40\1\0", .size = 3, .frame.trailer = 20)},
	{"40 00 ff ff 00", TP_MALFORMED, BOTH, UP(.raw = "\x40\0\xff\xff\0", .size = 5)},
	{"40 00 00 00 of a channel nobody bound", TP_NO_FLOW, BOTH, UP(.raw = "\x40\0\0\0", .size = 4)},
	{"a length one beyond the datagram", TP_MALFORMED, BOTH, UP(.patch = AT(2, PAYLOAD, 2, 6))},
	{"a length one beyond, Ethernet padding there", TP_MALFORMED, BOTH,
		UP(.frame.trailer = 9, .patch = AT(2, PAYLOAD, 2, 6))},
	{"four bytes behind the data", TP_PADDED, BOTH, UP(.frame.padding = 4)},
	{"many bytes behind the data", TP_PADDED, BOTH, UP(.frame.padding = 200)},
	{"a channel nobody bound", TP_NO_FLOW, BOTH, UP(.frame.channel = 0x4002 + 0x100)},
	{"a channel nobody bound, of a client with an allocation", TP_UNBOUND, BOTH, UP(.source_port = WORLD_KNOWN_CLIENT_PORT)},
	{"the same client from another port", TP_NO_FLOW, BOTH, UP(.source_port = WORLD_KNOWN_CLIENT_PORT + 1)},
	{"the byte-swapped number of a bound channel", TP_NO_FLOW, BOTH, UP(.frame.channel = 0x4140)},
	{"a bound channel of another port", TP_NO_FLOW, BOTH, UP(.source_port = 40001)},
	{"a bound channel of another client", TP_NO_FLOW, TP_IPV4, UP(.source = "198.51.100.8")},
	{"a bound channel of another client", TP_NO_FLOW, TP_IPV6, UP(.source = "2001:db8:c::8")},
	{"a client that differs in the upper half", TP_NO_FLOW, TP_IPV6, UP(.source = "2001:db8:d::7")},
	{"no match, some flows unplaced", TP_UNPLACED, BOTH, UP(.frame.channel = 0x4102), .change.unplaced = true},
	{"a match, some flows unplaced", TP_RELAYED, BOTH, UP(), .change.unplaced = true},
	{"an expired channel", TP_EXPIRED, BOTH, UP(.lane = 0x4010)},

	/* relay ports */
	{"a peer with a permission only", TP_NO_NEXT_HOP, BOTH, DOWN(.port = PORT_PERMISSION)},
	{"any port of that peer", TP_NO_NEXT_HOP, BOTH, DOWN(.port = PORT_PERMISSION, .source_port = 1)},
	{"a permission that is over", TP_EXPIRED, BOTH, DOWN(.port = PORT_LAPSED)},
	{"nobody granted it", TP_NO_FLOW, BOTH, DOWN(.port = PORT_UNGRANTED)},
	{"nobody granted it, some flows unplaced", TP_UNPLACED, BOTH, DOWN(.port = PORT_UNGRANTED), .change.unplaced = true},
	{"a peer's other port, channel but no permission", TP_NO_FLOW, BOTH, DOWN(.source_port = 5001)},
	{"another peer", TP_NO_FLOW, TP_IPV4, DOWN(.source = "203.0.113.10")},
	{"another peer", TP_NO_FLOW, TP_IPV6, DOWN(.source = "2001:db8:a::a")},
	{"channel over, permission lives", TP_NO_NEXT_HOP, BOTH, DOWN(.port = PORT_CHANNEL_OVER)},
	{"channel over, permission too", TP_EXPIRED, BOTH, DOWN(.port = PORT_EVERYTHING_OVER)},
	{"channel over, no permission", TP_NO_FLOW, BOTH, DOWN(.lane = 0x4010)},
	{"a port that the control plane serves", TP_SLOW_PORT, BOTH, DOWN(.port = PORT_SLOW)},
	{"an empty datagram of a peer", TP_RELAYED, BOTH, DOWN(.size = EMPTY)},

	/* IP */
	{"more fragments", TP_FRAGMENT, TP_IPV4, UP(.frame.fragment = 0x2000)},
	{"more fragments, don't fragment", TP_FRAGMENT, TP_IPV4, UP(.frame.fragment = 0x6000)},
	{"a fragment at 8 that looks like UDP and ChannelData", TP_FRAGMENT, TP_IPV4, UP(.frame.fragment = 1)},
	{"a fragment at the end of all fragments", TP_FRAGMENT, TP_IPV4, UP(.frame.fragment = 0x1fff)},
	{"a fragment at 0x100 * 8", TP_FRAGMENT, TP_IPV4, DOWN(.frame.fragment = 0x0100)},
	{"don't fragment is kept, and the id with it", TP_RELAYED, TP_IPV4, UP(.frame.fragment = 0x4000)},
	{"don't fragment, down", TP_RELAYED, TP_IPV4, DOWN(.frame.fragment = 0x4000)},
	{"one word of options", TP_OPTIONS, TP_IPV4, UP(.frame.options = 1)},
	{"ten words of options", TP_OPTIONS, TP_IPV4, UP(.frame.options = 10)},
	{"a header of 16 bytes", TP_MALFORMED, TP_IPV4, UP(.patch = AT(1, L3, 0, 0x44))},
	{"a header of 0 bytes", TP_MALFORMED, TP_IPV4, UP(.patch = AT(1, L3, 0, 0x40))},
	{"a header of 16 bytes, down", TP_MALFORMED, TP_IPV4, DOWN(.patch = AT(1, L3, 0, 0x44))},
	{"a header of 16 bytes, not ours", TP_NOT_OURS, TP_IPV4, DOWN(.port = PORT_CLOSED, .patch = AT(1, L3, 0, 0x44))},
	{"hop-by-hop options", TP_OPTIONS, TP_IPV6, UP(.frame.options = 1, .frame.extension = 0)},
	{"a routing header", TP_OPTIONS, TP_IPV6, UP(.frame.options = 1, .frame.extension = 43)},
	{"a fragment header", TP_FRAGMENT, TP_IPV6, UP(.frame.options = 1, .frame.extension = 44)},
	{"an authentication header", TP_OPTIONS, TP_IPV6, UP(.frame.options = 1, .frame.extension = 51)},
	{"destination options", TP_OPTIONS, TP_IPV6, UP(.frame.options = 1, .frame.extension = 60)},
	{"a mobility header", TP_OPTIONS, TP_IPV6, UP(.frame.options = 1, .frame.extension = 135)},
	{"a HIP header", TP_OPTIONS, TP_IPV6, UP(.frame.options = 1, .frame.extension = 139)},
	{"a shim6 header", TP_OPTIONS, TP_IPV6, UP(.frame.options = 1, .frame.extension = 140)},
	{"TTL 2", TP_RELAYED, BOTH, UP(.frame.ttl = 2)},
	{"TTL 255", TP_RELAYED, BOTH, DOWN(.frame.ttl = 255)},
	{"TTL 1, up", TP_TTL_EXPIRED, BOTH, UP(.frame.ttl = 1)},
	{"TTL 1, down", TP_TTL_EXPIRED, BOTH, DOWN(.frame.ttl = 1)},
	{"TTL 0", TP_TTL_EXPIRED, TP_IPV4, UP(.patch = AT(1, L3, 8, 0))},
	{"hop limit 0", TP_TTL_EXPIRED, TP_IPV6, UP(.patch = AT(1, L3, 7, 0))},
	{"TTL 1 to a port that the kernel serves", TP_SLOW_PORT, BOTH, DOWN(.port = PORT_SLOW, .frame.ttl = 1)},

	/* lengths */
	{"UDP length 0", TP_MALFORMED, BOTH, UP(.patch = AT(2, L4, 4, 0))},
	{"UDP length 7", TP_MALFORMED, BOTH, UP(.patch = AT(2, L4, 4, 7))},
	{"UDP length 8 with data behind", TP_OPTIONS, BOTH, UP(.patch = AT(2, L4, 4, 8))},
	{"UDP length ffff", TP_MALFORMED, BOTH, UP(.patch = AT(2, L4, 4, 0xffff))},
	{"UDP length 0, down", TP_MALFORMED, BOTH, DOWN(.patch = AT(2, L4, 4, 0))},
	{"UDP length 7, down", TP_MALFORMED, BOTH, DOWN(.patch = AT(2, L4, 4, 7))},
	{"UDP length 8, down", TP_OPTIONS, BOTH, DOWN(.patch = AT(2, L4, 4, 8))},
	{"UDP length ffff, down", TP_MALFORMED, BOTH, DOWN(.patch = AT(2, L4, 4, 0xffff))},
	{"UDP length one less", TP_OPTIONS, BOTH, DOWN(.patch = AT(2, L4, 4, 12))},
	{"UDP length one more, Ethernet padding there", TP_MALFORMED, BOTH, DOWN(.frame.trailer = 4, .patch = AT(2, L4, 4, 14))},
	{"IP length 0", TP_MALFORMED, TP_IPV4, DOWN(.patch = AT(2, L3, 2, 0))},
	{"IP length 19", TP_MALFORMED, TP_IPV4, DOWN(.patch = AT(2, L3, 2, 19))},
	{"IP length 20", TP_MALFORMED, TP_IPV4, DOWN(.patch = AT(2, L3, 2, 20))},
	{"IP length 27", TP_MALFORMED, TP_IPV4, DOWN(.patch = AT(2, L3, 2, 27))},
	{"IP length 28", TP_MALFORMED, TP_IPV4, DOWN(.patch = AT(2, L3, 2, 28))},
	{"IP length beyond the frame", TP_MALFORMED, TP_IPV4, DOWN(.patch = AT(2, L3, 2, 34))},
	{"IP length ffff", TP_MALFORMED, TP_IPV4, UP(.patch = AT(2, L3, 2, 0xffff))},
	{"payload length 0", TP_MALFORMED, TP_IPV6, DOWN(.patch = AT(2, L3, 4, 0))},
	{"payload length 7", TP_MALFORMED, TP_IPV6, DOWN(.patch = AT(2, L3, 4, 7))},
	{"payload length 8", TP_MALFORMED, TP_IPV6, DOWN(.patch = AT(2, L3, 4, 8))},
	{"payload length beyond the frame", TP_MALFORMED, TP_IPV6, DOWN(.patch = AT(2, L3, 4, 14))},
	{"payload length ffff", TP_MALFORMED, TP_IPV6, UP(.patch = AT(2, L3, 4, 0xffff))},
	{"both lengths agree and lie", TP_MALFORMED, TP_IPV4, {.from = PEER, .patch = {{2, L3, 2, 1000}, {2, L4, 4, 980}}}},
	{"both lengths agree and lie", TP_MALFORMED, TP_IPV6, {.from = PEER, .patch = {{2, L3, 4, 980}, {2, L4, 4, 980}}}},
	{"both lengths say 7", TP_MALFORMED, TP_IPV4, {.from = PEER, .patch = {{2, L3, 2, 27}, {2, L4, 4, 7}}}},
	{"both lengths say 7", TP_MALFORMED, TP_IPV6, {.from = PEER, .patch = {{2, L3, 4, 7}, {2, L4, 4, 7}}}},
	{"both lengths say 0", TP_MALFORMED, TP_IPV6, {.from = PEER, .patch = {{2, L3, 4, 0}, {2, L4, 4, 0}}}},
	{"both lengths ffff", TP_MALFORMED, TP_IPV6, {.from = PEER, .patch = {{2, L3, 4, 0xffff}, {2, L4, 4, 0xffff}}}},

	/* checksums */
	{"no checksum stays none", TP_RELAYED, TP_IPV4, UP(.frame.checksum = CHECKSUM_NONE)},
	{"no checksum stays none, down", TP_RELAYED, TP_IPV4, DOWN(.frame.checksum = CHECKSUM_NONE)},
	{"no checksum over IPv6", TP_NO_CHECKSUM, TP_IPV6, UP(.frame.checksum = CHECKSUM_NONE)},
	{"no checksum over IPv6, down", TP_NO_CHECKSUM, TP_IPV6, DOWN(.frame.checksum = CHECKSUM_NONE)},
	{"a wrong checksum stays wrong", TP_RELAYED, BOTH, UP(.frame.checksum = CHECKSUM_WRONG)},
	{"a wrong checksum stays wrong, down", TP_RELAYED, BOTH, DOWN(.frame.checksum = CHECKSUM_WRONG)},
	{"a wrong checksum, odd padding", TP_RELAYED, BOTH,
		UP(.frame.checksum = CHECKSUM_WRONG, .frame.padding = 3, .frame.padding_byte = 0x5a)},
	{"a wrong header checksum stays wrong", TP_RELAYED, TP_IPV4, UP(.frame.wrong_ip_checksum = true)},
	{"a wrong header checksum stays wrong, down", TP_RELAYED, TP_IPV4, DOWN(.frame.wrong_ip_checksum = true)},

	/* VLAN */
	{"a tag comes off", TP_RELAYED, BOTH, UP(.frame.vlan = {5})},
	{"a tag comes off, down", TP_RELAYED, BOTH, DOWN(.frame.vlan = {5})},
	{"a tag is put on", TP_RELAYED, BOTH, UP(.lane = 0x4013)},
	{"a tag is put on, down", TP_RELAYED, BOTH, DOWN(.lane = 0x4013)},
	{"a tag is replaced", TP_RELAYED, BOTH, UP(.lane = 0x4013, .frame.vlan = {0xefff})},
	{"a tag is replaced, down", TP_RELAYED, BOTH, DOWN(.lane = 0x4013, .frame.vlan = {0xefff})},
	{"a service tag comes off", TP_RELAYED, BOTH, UP(.frame.vlan = {5}, .frame.vlan_type = 0x88a8)},
	{"two tags", TP_OPTIONS, BOTH, UP(.frame.vlan = {5, 6})},
	{"a service tag and a tag", TP_OPTIONS, BOTH, UP(.frame.vlan = {5, 6}, .frame.vlan_type = 0x88a8)},
	{"a tag before ARP", TP_NOT_OURS, BOTH, UP(.frame.vlan = {5}, .patch = AT(2, LINK, 16, 0x0806))},

	/* senders */
	{"source port 0", TP_BAD_SOURCE, BOTH, UP(.source_port = PORT_ZERO)},
	{"source port 0, down", TP_BAD_SOURCE, BOTH, DOWN(.source_port = PORT_ZERO)},
	{"source port 0 with a permission", TP_BAD_SOURCE, BOTH, DOWN(.source_port = PORT_ZERO, .port = PORT_PERMISSION)},
	{"source 0.0.0.0", TP_BAD_SOURCE, TP_IPV4, UP(.source = "0.0.0.0")},
	{"source 0.1.2.3", TP_BAD_SOURCE, TP_IPV4, UP(.source = "0.1.2.3")},
	{"source 127.0.0.1", TP_BAD_SOURCE, TP_IPV4, UP(.source = "127.0.0.1")},
	{"source 127.255.255.255", TP_BAD_SOURCE, TP_IPV4, DOWN(.source = "127.255.255.255")},
	{"source 224.0.0.1", TP_BAD_SOURCE, TP_IPV4, DOWN(.source = "224.0.0.1")},
	{"source 240.0.0.1", TP_BAD_SOURCE, TP_IPV4, DOWN(.source = "240.0.0.1")},
	{"source 255.255.255.255", TP_BAD_SOURCE, TP_IPV4, DOWN(.source = "255.255.255.255")},
	{"source is the listener", TP_BAD_SOURCE, TP_IPV4, UP(.source = "192.0.2.1")},
	{"source is the relay", TP_BAD_SOURCE, TP_IPV4, DOWN(.source = "192.0.2.2")},
	{"source ::", TP_BAD_SOURCE, TP_IPV6, UP(.source = "::")},
	{"source ::1", TP_BAD_SOURCE, TP_IPV6, UP(.source = "::1")},
	{"source ff02::1", TP_BAD_SOURCE, TP_IPV6, DOWN(.source = "ff02::1")},
	{"source ::ffff:198.51.100.7 is not that client", TP_BAD_SOURCE, TP_IPV6, UP(.source = "::ffff:198.51.100.7")},
	{"source is the listener", TP_BAD_SOURCE, TP_IPV6, UP(.source = "2001:db8::1")},
	{"source is the relay", TP_BAD_SOURCE, TP_IPV6, DOWN(.source = "2001:db8::2")},
	{"a STUN message from ourselves", TP_BAD_SOURCE, TP_IPV4, UP(.raw = STUN, .size = 8, .source = "192.0.2.1")},
	{"a neighbour of 127/8 is a stranger", TP_NO_FLOW, TP_IPV4, UP(.source = "128.0.0.1")},
	{"a neighbour of 224/3 is a stranger", TP_NO_FLOW, TP_IPV4, UP(.source = "223.255.255.255")},

	/* flows */
	{"no next hop yet", TP_NO_NEXT_HOP, BOTH, UP(.lane = 0x4011)},
	{"no next hop yet, down", TP_NO_NEXT_HOP, BOTH, DOWN(.lane = 0x4011)},
	{"a next hop never written", TP_NO_NEXT_HOP, BOTH, UP(.lane = 0x4012)},
	{"a next hop being written", TP_NO_NEXT_HOP, BOTH, DOWN(.lane = 0x4018)},
	{"a next hop on a foreign interface", TP_NO_NEXT_HOP, BOTH, UP(.lane = 0x4015)},
	{"a next hop on no interface", TP_NO_NEXT_HOP, BOTH, UP(.lane = 0x401a)},
	{"a next hop on no interface, down", TP_NO_NEXT_HOP, BOTH, DOWN(.lane = 0x401a)},
	{"out by another interface", TP_RELAYED, BOTH, UP(.lane = 0x4014)},
	{"out by another interface, down", TP_RELAYED, BOTH, DOWN(.lane = 0x4014)},
	{"169.254/16 may send to us", TP_RELAYED, TP_IPV4, DOWN(.lane = 0x4022)},
	{"a client may be a neighbour on the link", TP_RELAYED, BOTH, UP(.lane = 0x4019)},
	{"a client may be a neighbour on the link, down", TP_RELAYED, BOTH, DOWN(.lane = 0x4019)},
	{"what has no next hop keeps its TTL", TP_NO_NEXT_HOP, BOTH, UP(.lane = 0x4011, .frame.trailer = 3, .frame.padding = 2)},

	/* tables */
	{"kill switch", TP_OFF, BOTH, UP(), .change.off = true},
	{"kill switch, and nobody's packet", TP_OFF, BOTH, DOWN(.port = PORT_CLOSED), .change.off = true},
	{"another layout", TP_OFF, BOTH, DOWN(), .change.layout = true},
	{"no room for the ChannelData header", TP_NO_ROOM, BOTH, DOWN(), .no_room = true},
	{"no room for the tag", TP_NO_ROOM, BOTH, DOWN(.lane = 0x4013), .no_room = true},
	{"a tag takes the header's place", TP_RELAYED, BOTH, UP(.lane = 0x4013), .no_room = true},
};
/* clang-format on */

static struct world world;
static struct bpf_runner *bpf;
static struct wire_runner *wire; /* instead of the BPF program, in a program of its own */
static unsigned passed, failed, through_bpf, through_wire;

/* Rewritten for the kernel's IP output. */
static bool is_output(const struct row *row)
{
	return world.outputs && (row->want == TP_TOO_BIG || row->want == TP_NO_NEXT_HOP);
}

static void change_world(const struct change *change)
{
	struct tp_config *config = world.memory.regions[TP_REGION_CONFIG];

	config->gate = change->off ? 0 : config->layout ^ change->layout;
	config->unplaced = change->unplaced;
	if (change->channel_max)
		config->channel_max = change->channel_max;
}

static bool complain(const char *what, const struct outcome *got, const struct frame *want)
{
	printf("  %s: verdict %d, %zu bytes\n", what, got->verdict, got->frame.len);
	for (size_t i = 0; i < want->len && i < got->frame.len; i++)
		if (want->bytes[i] != got->frame.bytes[i])
			printf("  byte %zu: %02x, want %02x\n", i, got->frame.bytes[i],
				want->bytes[i]);
	return false;
}

/* The bytes alone would do; this says it without the builder of expectations. */
static bool checksums_fit(const struct frame_spec *spec, struct frame *frame)
{
	return frame_locate(frame) &&
	       frame_udp_checksum_ok(frame) == (spec->checksum == CHECKSUM_GOOD) &&
	       frame_ip_checksum_ok(frame) == !spec->wrong_ip_checksum;
}

static struct tp_flow_counters sum_flow_counters(void)
{
	struct tp_flow_counters sum = {0};

	for (uint32_t i = 0; i < tp_table_slots(world.table); i++) {
		struct tp_flow_counters flow = world_counted(&world.memory, i);

		sum.packets += flow.packets;
		sum.bytes += flow.bytes;
	}
	return sum;
}

/* One verdict, or one packet in its direction, and nothing else: the sum moves by what it should.
 */
static bool counted_once(const struct row *row, const struct frame_spec *spec,
	struct tp_worker_counters before, struct tp_flow_counters flows_before)
{
	struct tp_worker_counters after = tp_table_totals(world.table);
	struct tp_flow_counters flows = sum_flow_counters();
	int direction = row->in.from == CLIENT ? TP_CLIENT_TO_PEER : TP_PEER_TO_CLIENT;

	before.outputs += is_output(row);
	if (row->want != TP_RELAYED)
		before.verdicts[row->want]++;
	if (row->want == TP_RELAYED || is_output(row)) {
		enum tp_pair pair = spec->source.family == TP_IPV4 ? TP_V4_TO_V4 : TP_V6_TO_V6;

		before.relayed[direction][pair].packets++;
		before.relayed[direction][pair].bytes += spec->data_len;
		flows_before.packets++;
		flows_before.bytes += spec->data_len;
	}
	return memcmp(&before, &after, sizeof(before)) == 0 &&
	       flows.packets == flows_before.packets && flows.bytes == flows_before.bytes;
}

static bool run_native(const struct row *row, const struct frame_spec *spec, const struct frame *in,
	struct outcome *native)
{
	struct frame want = *in;
	struct tp_worker_counters totals = tp_table_totals(world.table);
	struct tp_flow_counters flows = sum_flow_counters();
	uint32_t egress = 0;

	native_run(&world, in, row->no_room ? 0 : HEADROOM, native);
	if (native->verdict != row->want)
		return complain("native", native, in);
	if (!counted_once(row, spec, totals, flows))
		return complain("native: counters", native, in);
	if (native->output != is_output(row))
		return complain("native: output", native, in);
	if (native->output && row->in.port)
		return true; /* of a permission: ways.c */
	if (row->want == TP_RELAYED || native->output) {
		probe_expect(&row->in, &world, spec, native->output, &want, &egress);
		if ((row->want == TP_RELAYED && egress != native->egress) ||
			!checksums_fit(spec, &native->frame))
			return complain("native: checksums or egress", native, &want);
	}
	if (tp_verdict_fate(row->want) != TP_FATE_DROP && !frame_equal(&native->frame, &want))
		return complain("native: bytes", native, &want);
	return true;
}

static bool run_bpf(const struct frame *in, const struct outcome *native)
{
	static struct outcome got;

	if (!bpf_run(bpf, &world, in, &got))
		return true;
	through_bpf++;
	if (got.verdict != native->verdict || !frame_equal(&got.frame, &native->frame))
		return complain("BPF", &got, &native->frame);
	if (got.verdict == TP_RELAYED && got.egress != native->egress)
		return complain("BPF: egress", &got, &native->frame);
	return bpf_counters_equal(bpf, &world) || complain("BPF: counters", &got, &native->frame);
}

static bool run_wire(const struct frame *in, const struct outcome *native)
{
	static struct outcome got;

	if (!wire_run(wire, &world, in, &got))
		return true;
	through_wire++;
	if (got.verdict == WIRE_STEERED)
		return (tp_verdict_fate(native->verdict) == TP_FATE_PASS &&
			       frame_equal(&got.frame, in)) ||
		       complain("steering", &got, in);
	if (got.verdict != native->verdict || !wire_frame_equal(&got, native))
		return complain(the_wire->name, &got, &native->frame);
	if (got.verdict == TP_RELAYED && got.egress != native->egress)
		return complain("egress", &got, &native->frame);
	return wire_counters_equal(wire, &world) || complain("counters", &got, &native->frame);
}

static void run(const struct row *row, enum tp_family family)
{
	struct tp_config *config = world.memory.regions[TP_REGION_CONFIG];
	struct tp_config before = *config;
	static struct outcome native;
	struct frame_spec spec;
	struct frame in;
	bool ok;

	probe_build(&row->in, family, &spec, &in);
	change_world(&row->change);
	if (bpf && !row->no_room)
		bpf_copy_world(bpf, &world);
	if (wire && !row->no_room)
		wire_copy_world(wire, &world);
	ok = run_native(row, &spec, &in, &native);
	if (ok && bpf && !row->no_room)
		ok = run_bpf(&in, &native);
	if (ok && wire && !row->no_room)
		ok = run_wire(&in, &native);
	*config = before;
	if (ok)
		passed++;
	else
		printf("FAILED: %s (IPv%d)\n", row->name, family), failed++;
}

static void run_families(const struct row *row)
{
	if (row->family != TP_IPV6)
		run(row, TP_IPV4);
	if (row->family != TP_IPV4)
		run(row, TP_IPV6);
}

/* Every size with every padding, of zeros and of something else, and Ethernet's behind it. */
static void run_sizes(void)
{
	static const size_t sizes[] = {EMPTY, 1, 2, 3, 4, 5, 31, 32, 160, 161, 1199, 1200};
	struct row row = {"size", TP_RELAYED};

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		row.in = (struct probe){.from = PEER, .size = sizes[i]};
		run_families(&row);
		for (uint8_t padding = 0; padding < 8; padding++) {
			row.in = (struct probe){.from = CLIENT, .size = sizes[i]};
			row.in.frame.padding = padding & 3;
			row.in.frame.padding_byte = padding & 4 ? 0xa7 : 0;
			row.in.frame.trailer = padding * 3u;
			run_families(&row);
		}
	}
}

static size_t largest(const struct row *row, enum tp_family family, size_t mtu)
{
	return mtu - (family == TP_IPV4 ? 20 : 40) - 8 - (row->in.from == PEER ? 4 : 0);
}

/* The largest packet for the next hop, and one byte more. */
static void run_mtu(void)
{
	static const struct {
		uint16_t lane;
		size_t mtu;
	} links[] = {{0x4001, 1500}, {0x4013, 1500}, {0x4017, 1280}};
	struct row row = {"MTU"};

	for (int i = 0; i < 3 * 2 * 2; i++) {
		enum tp_family family = i & 1 ? TP_IPV4 : TP_IPV6;

		row.in = (struct probe){.from = i & 2 ? PEER : CLIENT, .lane = links[i / 4].lane};
		row.in.size = largest(&row, family, links[i / 4].mtu);
		row.want = TP_RELAYED;
		run(&row, family);
		row.in.size++;
		row.want = TP_TOO_BIG;
		run(&row, family);
		row.in.frame.padding = row.in.from == CLIENT ? 3 : 0;
		row.in.size--;
		row.want = TP_RELAYED;
		run(&row, family);
	}
}

static void run_traffic_classes(void)
{
	static const uint8_t dscp[] = {0, 46, 63};
	struct row row = {"DSCP and ECN", TP_RELAYED};

	for (uint8_t i = 0; i < 12; i++) {
		row.in = (struct probe){.from = i & 1 ? PEER : CLIENT};
		row.in.frame.tos = (uint8_t)(dscp[i / 4] << 2 | (i & 3));
		run_families(&row);
	}
}

/* A frame that ends early: nobody's while it has no ports, then a contradiction. */
static void run_truncated(void)
{
	struct row row = {"truncated"};

	for (int i = 0; i < 4; i++) {
		enum tp_family family = i & 1 ? TP_IPV4 : TP_IPV6;
		size_t headers = 14 + (family == TP_IPV4 ? 20 : 40) + 8;
		size_t whole = headers + (i & 2 ? 0 : 4) + 5;

		row.in = (struct probe){.from = i & 2 ? PEER : CLIENT};
		for (size_t len = 0; len < whole; len++) {
			row.in.cut = whole - len;
			row.want = len < headers ? TP_NOT_OURS : TP_MALFORMED;
			run(&row, family);
		}
	}
}

static void run_forbidden(void)
{
	struct row row = {"forbidden peer", TP_FORBIDDEN};

	for (uint16_t channel = 0x4020; channel < 0x4028; channel++) {
		row.in = (struct probe){.from = CLIENT, .lane = channel};
		run_families(&row);
	}
	row.name = "neighbour of a forbidden peer";
	row.want = TP_RELAYED;
	for (uint16_t channel = 0x4030; channel < 0x4035; channel++) {
		row.in = (struct probe){.from = CLIENT, .lane = channel};
		run_families(&row);
		row.in.from = PEER;
		run_families(&row);
	}
}

/*
 * A datagram whose sum is 0 carries ffff. The first word of the data is chosen so that this happens
 * to the packet that comes in, or to the one that leaves.
 */
static void run_ffff(enum world_address from, enum tp_family family, bool leaving)
{
	uint8_t data[6] = {0, 0, 1, 2, 3, 4};
	struct row row = {"checksum ffff", TP_RELAYED, BOTH,
		{.from = from, .size = sizeof(data), .frame.data = data}};
	struct frame_spec spec;
	struct frame frame;
	uint32_t egress;

	for (int i = 0; i < 2; i++) {
		probe_build(&row.in, family, &spec, &frame);
		if (leaving)
			probe_expect(&row.in, &world, &spec, false, &frame, &egress);
		if (i == 0)
			memcpy(data, frame.bytes + frame.l4 + 6, 2);
	}
	if (frame_get16(&frame, frame.l4 + 6) != 0xffff) {
		printf("FAILED: no checksum ffff came about\n");
		failed++;
	}
	run(&row, family);
}

int main(void)
{
	const char *reason = NULL;

	bpf = the_wire ? NULL : bpf_open(&reason);
	world_create(&world, bpf ? bpf_redirect_ifindex(bpf) : 2);
	world.outputs = the_wire != NULL; /* whether it can be opened or not */
	if (the_wire)
		wire = wire_open(&world, &reason);
	if (bpf)
		bpf_load(bpf, &world);
	if (!bpf && !wire)
		printf("%s runs left out: %s\n", the_wire ? the_wire->name : "BPF", reason);

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		run_families(&rows[i]);
	run_sizes();
	run_mtu();
	run_traffic_classes();
	run_truncated();
	run_forbidden();
	for (int i = 0; i < 8; i++)
		run_ffff(i & 1 ? PEER : CLIENT, i & 2 ? TP_IPV4 : TP_IPV6, i & 4);

	if (!wire_close(wire))
		failed++;
	bpf_close(bpf);
	world_destroy(&world);
	printf("%u of them through the BPF program too, %u through a worker\n", through_bpf,
		through_wire);
	printf("%u passed, %u failed, %u skipped\n", passed, failed, bpf || wire ? 0u : 1u);
	return failed || passed < 250;
}
