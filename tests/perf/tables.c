/* Flows and their frames. */
#include "tables.h"

#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define CHANNEL_MIN 0x4000
#define CHANNELS    16

void bench_must(bool ok, const char *what)
{
	if (ok)
		return;
	perror(what);
	exit(1);
}

static struct tp_addr address(const char *ip, uint32_t add, uint16_t port)
{
	struct tp_addr out;

	bench_must(tp_addr_parse_ip(ip, &out) == 0, ip);
	out.ip[14] = (uint8_t)(out.ip[14] + (add >> 8));
	out.ip[15] = (uint8_t)(out.ip[15] + (add & 0xff));
	out.port = port;
	return out;
}

/* Flow i: a client port for CHANNELS flows, and when ports run out another address. */
static uint16_t client_port(uint32_t i)
{
	return (uint16_t)(1024 + i / CHANNELS % 32768);
}

static uint32_t client_host(uint32_t i)
{
	return i / CHANNELS / 32768;
}

static void publish(struct bench_tables *b, uint32_t i)
{
	const char *client = b->ipv6 ? "2001:db8:1::2" : "198.51.100.2";
	const char *peer = b->ipv6 ? "2001:db8:2::1" : "203.0.113.1";
	struct tp_flow_spec spec = {
		.kind = TP_FLOW_CHANNEL,
		.in = {.remote = address(client, client_host(i), client_port(i)),
			.local_port = 3478,
			.channel = (uint16_t)(CHANNEL_MIN + i % CHANNELS)},
		.out = {.remote = address(peer, i % 64, (uint16_t)(10000 + i % 1000)),
			.local_port = (uint16_t)(49152 + i / CHANNELS % 16384)},
		.expires_ns = tp_clock_now_ns() + 3600 * TP_NS_PER_S,
		.allocation = i / CHANNELS + 1,
		.next_hop = 1,
	};
	uint32_t slot;

	bench_must(tp_table_publish(b->table, &spec, &slot) == 0, "a flow finds no slot");
}

void bench_tables_make(struct bench_tables *b, bool huge)
{
	struct tp_next_hop hop = {.ifindex = BENCH_IFINDEX,
		.destination = {2, 0, 0, 0, 0, 1},
		.source = {2, 0, 0, 0, 0, 2},
		.mtu = 1500};
	struct tp_addr local = address(b->ipv6 ? "2001:db8::1" : "192.0.2.1", 0, 0);
	struct tp_shape shape;
	uint8_t index;

	bench_must(
		tp_shape_init(b->room > b->flows ? b->room : b->flows, 1, 1, &shape) == 0, "shape");
	bench_must(tp_memory_create_plain(&shape, &b->memory) == 0, "memory");
	for (int i = 0; i < TP_REGIONS; i++)
		madvise(b->memory.regions[i],
			(size_t)shape.regions[i].element_size * shape.regions[i].count,
			huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
	bench_must(tp_table_create(&b->memory, 0x4fff, &b->table) == 0, "table");
	bench_must(tp_table_add_local(b->table, &local, &index) == 0, "local");
	tp_table_set_port(b->table, index, 3478, TP_PORT_LISTENER);
	tp_table_set_next_hop_record(b->table, 1, &hop);
	for (uint32_t i = 0; i < b->flows; i++)
		publish(b, i);
	tp_table_enable(b->table, true);
}

#define MACS 2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 3

static const uint8_t ipv4_template[BENCH_FRAME_LEN] = {MACS, 8, 0, 0x45, 0, 0, 0, 0, 1, 0x40, 0, 64,
	17, 0, 0, 198, 51, 100, 2, 192, 0, 2, 1, 0, 0, 3478 >> 8, 3478 & 0xff, 0, 0, 0x12, 0x34,
	0x40};
static const uint8_t ipv6_template[BENCH_IPV6_LEN] = {MACS, 0x86, 0xdd, 0x60, 0, 0, 0, 0, 0, 17, 64,
	0x20, 1, 0xd, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0,
	0, 0, 0, 0, 0, 0, 1, 0, 0, 3478 >> 8, 3478 & 0xff, 0, 0, 0x12, 0x34, 0x40};

static uint32_t next_flow(struct bench_tables *b)
{
	if (!b->random)
		return b->turn++ % b->flows;
	b->state = b->state * UINT64_C(6364136223846793005) + 1;
	return (uint32_t)((b->state >> 32) * b->flows >> 32);
}

static void put_len(uint8_t *at, uint32_t len)
{
	at[0] = (uint8_t)(len >> 8);
	at[1] = (uint8_t)len;
}

/* `source` and `udp`: where the last bytes of the address and the header are. */
static void put_flow(uint8_t *at, size_t source, size_t udp, uint32_t i, uint32_t size)
{
	uint32_t host = client_host(i);
	uint16_t port = client_port(i);

	at[source] = (uint8_t)(at[source] + (host >> 8));
	at[source + 1] = (uint8_t)(at[source + 1] + (host & 0xff));
	at[udp] = (uint8_t)(port >> 8);
	at[udp + 1] = (uint8_t)port;
	put_len(at + udp + 4, size - (uint32_t)udp);
	at[udp + 9] = (uint8_t)(i % CHANNELS);
	put_len(at + udp + 10, size - (uint32_t)udp - 12);
}

void bench_frame(struct bench_tables *b, uint8_t *at, uint32_t size)
{
	uint32_t i = next_flow(b);

	if (b->ipv6) {
		memcpy(at, ipv6_template, sizeof(ipv6_template));
		put_len(at + 18, size - 54);
		put_flow(at, 36, 54, i, size);
	} else {
		memcpy(at, ipv4_template, sizeof(ipv4_template));
		put_len(at + 16, size - 14);
		put_flow(at, 28, 34, i, size);
	}
}
