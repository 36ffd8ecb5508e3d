/*
 * corebench: what the core costs a polling worker, without any NIC. Frames of N flows stand in
 * buffers as a driver would hand them out, a burst at a time; the same loop runs once with the
 * relay in it and once with a MAC swap, in turns, and the fastest round of each counts. What is
 * printed is nanoseconds per packet, so their difference is what relaying adds.
 *
 *   corebench [--flows N] [--random] [--huge] [--rounds N]
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "dataplane/worker/host.h"

#include "dataplane/core/burst.h"

#define FRAME_LEN   64
#define FRAME_ROOM  128
#define FRAME_SIZE  2048
#define FRAMES      4096 /* as many as a NIC's ring with its pool: more than L1, less than L2 */
#define BURST       32
#define ROUND       (1u << 20)
#define CHANNEL_MIN 0x4000
#define CHANNELS    16
#define IFINDEX     7

struct bench {
	struct tp_memory memory;
	struct tp_table *table;
	struct tp_host host;
	uint32_t interfaces[TP_INTERFACES_MAX];
	uint8_t *frames;
	uint32_t flows;
	bool random;
	uint64_t state; /* of the generator's random numbers */
	uint32_t turn;
};

static void must(bool ok, const char *what)
{
	if (ok)
		return;
	perror(what);
	exit(1);
}

static struct tp_addr address(const char *ip, uint32_t add, uint16_t port)
{
	struct tp_addr out;

	must(tp_addr_parse_ip(ip, &out) == 0, ip);
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

static void publish(struct bench *b, uint32_t i)
{
	struct tp_flow_spec spec = {
		.kind = TP_FLOW_CHANNEL,
		.in = {.remote = address("198.51.100.2", client_host(i), client_port(i)),
			.local_port = 3478,
			.channel = (uint16_t)(CHANNEL_MIN + i % CHANNELS)},
		.out = {.remote = address("203.0.113.1", i % 64, (uint16_t)(10000 + i % 1000)),
			.local_port = (uint16_t)(49152 + i / CHANNELS % 16384)},
		.expires_ns = tp_clock_now_ns() + 3600 * TP_NS_PER_S,
		.allocation = i / CHANNELS + 1,
		.next_hop = 1,
	};
	uint32_t slot;

	must(tp_table_publish(b->table, &spec, &slot) == 0, "a flow finds no slot");
}

static void make_tables(struct bench *b, bool huge)
{
	struct tp_next_hop hop = {.ifindex = IFINDEX,
		.destination = {2, 0, 0, 0, 0, 1},
		.source = {2, 0, 0, 0, 0, 2},
		.mtu = 1500};
	struct tp_addr local = address("192.0.2.1", 0, 0);
	struct tp_shape shape;
	uint8_t index;

	must(tp_shape_init(b->flows, 1, 1, &shape) == 0, "shape");
	must(tp_memory_create_plain(&shape, &b->memory) == 0, "memory");
	for (int i = 0; i < TP_REGIONS; i++)
		madvise(b->memory.regions[i],
			(size_t)shape.regions[i].element_size * shape.regions[i].count,
			huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
	must(tp_table_create(&b->memory, 0x4fff, &b->table) == 0, "table");
	must(tp_table_add_local(b->table, &local, &index) == 0, "local");
	tp_table_set_port(b->table, index, 3478, TP_PORT_LISTENER);
	tp_table_set_next_hop_record(b->table, 1, &hop);
	for (uint32_t i = 0; i < b->flows; i++)
		publish(b, i);
	tp_table_enable(b->table, true);
}

static void make_host(struct bench *b)
{
	b->interfaces[0] = IFINDEX;
	b->host = tp_host_over(&b->memory, b->interfaces, 0);
	b->host.now_ns = tp_clock_now_ns();
	b->host.ticks = tp_ticks(b->host.now_ns);
	b->frames = mmap(NULL, (size_t)FRAMES * FRAME_SIZE, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	must(b->frames != MAP_FAILED, "frames");
	madvise(b->frames, (size_t)FRAMES * FRAME_SIZE, MADV_HUGEPAGE);
}

static const uint8_t template[FRAME_LEN] = {2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 3, 8, 0, 0x45, 0, 0,
	FRAME_LEN - 14, 0, 1, 0x40, 0, 64, 17, 0, 0, 198, 51, 100, 2, 192, 0, 2, 1, 0, 0, 3478 >> 8,
	3478 & 0xff, 0, FRAME_LEN - 34, 0x12, 0x34, 0x40, 0, 0, FRAME_LEN - 46};

static uint32_t next_flow(struct bench *b)
{
	if (!b->random)
		return b->turn++ % b->flows;
	b->state = b->state * UINT64_C(6364136223846793005) + 1;
	return (uint32_t)((b->state >> 32) * b->flows >> 32);
}

static void make_frame(struct bench *b, uint8_t *at)
{
	uint32_t i = next_flow(b);
	uint32_t host = client_host(i);
	uint16_t port = client_port(i);

	memcpy(at, template, FRAME_LEN);
	at[28] = (uint8_t)(at[28] + (host >> 8));
	at[29] = (uint8_t)(at[29] + (host & 0xff));
	at[34] = (uint8_t)(port >> 8);
	at[35] = (uint8_t)port;
	at[43] = (uint8_t)(i % CHANNELS);
}

static void make_burst(struct bench *b, uint32_t first, struct tp_packet pkts[BURST])
{
	for (uint32_t i = 0; i < BURST; i++) {
		uint8_t *room = b->frames + (size_t)((first + i) % FRAMES) * FRAME_SIZE;

		make_frame(b, room + FRAME_ROOM);
		pkts[i] = (struct tp_packet){.data = room + FRAME_ROOM,
			.end = room + FRAME_ROOM + FRAME_LEN,
			.room = room,
			.room_end = room + FRAME_SIZE,
			.ingress = IFINDEX};
	}
}

static __attribute__((noinline)) void relay(struct bench *b, struct tp_packet pkts[BURST])
{
	enum tp_verdict verdicts[BURST];

	tp_relay_burst(&b->host, pkts, verdicts, BURST);
	for (uint32_t i = 0; i < BURST; i++)
		must(verdicts[i] == TP_RELAYED, "a packet was not relayed");
}

static __attribute__((noinline)) void swap(struct bench *b, struct tp_packet pkts[BURST])
{
	for (uint32_t i = 0; i < BURST; i++) {
		uint8_t mac[6];

		memcpy(mac, pkts[i].data, 6);
		memmove(pkts[i].data, pkts[i].data + 6, 6);
		memcpy(pkts[i].data + 6, mac, 6);
	}
}

static double run(struct bench *b, void (*work)(struct bench *, struct tp_packet *))
{
	struct tp_packet pkts[BURST];
	uint64_t begin = tp_clock_now_ns();

	for (uint32_t done = 0; done < ROUND; done += BURST) {
		make_burst(b, done, pkts);
		work(b, pkts);
	}
	return (double)(tp_clock_now_ns() - begin) / ROUND;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {{"flows", required_argument, NULL, 'f'},
		{"random", no_argument, NULL, 'r'}, {"huge", no_argument, NULL, 'h'},
		{"rounds", required_argument, NULL, 'n'}, {0}};
	static struct bench b = {.flows = 1, .state = 1};
	double relayed = 1e9, swapped = 1e9;
	int option, rounds = 20;
	bool huge = false;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option == 'f')
			b.flows = (uint32_t)strtoul(optarg, NULL, 10);
		else if (option == 'r')
			b.random = true;
		else if (option == 'h')
			huge = true;
		else if (option == 'n')
			rounds = atoi(optarg);
		else
			return 2;
	}
	must(b.flows > 0 && b.flows <= 8u << 20, "flows");
	make_tables(&b, huge);
	make_host(&b);
	for (int i = 0; i < rounds; i++) {
		double r = run(&b, relay), s = run(&b, swap);

		relayed = r < relayed ? r : relayed;
		swapped = s < swapped ? s : swapped;
	}
	printf("{\"flows\": %u, \"relay_ns\": %.1f, \"swap_ns\": %.1f, \"added_ns\": %.1f}\n",
		b.flows, relayed, swapped, relayed - swapped);
	return 0;
}
