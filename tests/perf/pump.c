/*
 * pump: measures what a packet costs. `pump generate` sends frames of given flows as live frames
 * out of an interface, counts what comes back there, and tells the wall time and the CPU time that
 * the whole machine spent; with --stamp also how long frames were under way; `pump hold` keeps a
 * reference program attached. Run by tests/perf/cost.
 */
#include "awake.h"
#include "bench.h"
#include "bench.skel.h"
#include "live.h"
#include "percentiles.h"
#include "spare.h"

#include "base/clock.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <getopt.h>
#include <linux/if_packet.h>
#include <linux/udp.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define FRAME_MAX  1600
#define BATCH      LIVE_BATCH
#define RUN_MAX    (1u << 15)
#define DRAWS_EACH 4 /* of a target, in the mean, before all begins anew */
#define DRAWS_MIN  (1u << 20)
#define STAMP_LEN  8 /* the time a frame was sent, behind what encodes its data */

/* A slice is 20 ms long, a whole number of the ticks of any usual kernel. */
#define BURST_NS   (TP_NS_PER_MS / 2)
#define BURSTS     40u
#define SLICES_MAX 2000u
/* After two slices, more than 1/20 of the time: the core is for those who are not real-time. */
#define OTHERS_US 3000

#define FRAME_HEADERS (sizeof(struct ethhdr) + sizeof(struct iphdr) + sizeof(struct udphdr))

struct arguments {
	const char *interface, *targets, *against;
	struct in_addr source, destination;
	unsigned char mac[ETH_ALEN];
	unsigned size; /* bytes of payload the peer is to see */
	unsigned long long count;
	unsigned long rate; /* packets a second; 0 = flat out */
	int cpu;
	bool plain, random, bounced, stamp;
	struct in_addr send_peer; /* frames are Send indications to it; 0.0.0.0 = ChannelData */
	unsigned sink_port;       /* also counted: what comes back to it */
};

/* What is sent. */
struct supply {
	struct bench_frame frame;
	struct bench_target *targets;
	unsigned count;
};

/* CPU time that was spent in slices in which frames are measured, and in which they are dropped. */
struct slices {
	unsigned long long measured[SLICES_MAX], dropped[SLICES_MAX];
	unsigned count;
};

static void die(const char *what)
{
	fprintf(stderr, "pump: %s: %s\n", what, strerror(errno));
	exit(1);
}

static unsigned sum16(const void *bytes, size_t len)
{
	const unsigned char *p = bytes;
	unsigned sum = 0;

	for (size_t i = 0; i + 1 < len; i += 2)
		sum += (unsigned)p[i] << 8 | p[i + 1];
	return len & 1 ? sum + ((unsigned)p[len - 1] << 8) : sum;
}

static unsigned short fold(unsigned sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (unsigned short)sum;
}

static size_t udp_payload(const struct arguments *a)
{
	if (a->send_peer.s_addr)
		return a->size + BENCH_SEND_LEN;
	return a->size + (a->plain ? 0 : 4);
}

/* Type, length, magic cookie, a transaction id; XOR-PEER-ADDRESS; DATA (RFC 8656, 11.1). */
static void make_send(const struct arguments *a, unsigned char out[BENCH_SEND_LEN])
{
	static const unsigned char start[BENCH_SEND_LEN] = {0x00, 0x16, 0, 0, 0x21, 0x12, 0xa4,
		0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0x00, 0x12, 0, 8, 0, 1, 0, 0, 0, 0, 0,
		0, 0x00, 0x13};
	uint32_t peer = ntohl(a->send_peer.s_addr) ^ 0x2112a442u;
	uint16_t port = BENCH_SEND_PORT ^ 0x2112, len = (uint16_t)(16 + a->size);

	memcpy(out, start, sizeof(start));
	out[2] = (unsigned char)(len >> 8);
	out[3] = (unsigned char)len;
	out[26] = (unsigned char)(port >> 8);
	out[27] = (unsigned char)port;
	for (int i = 0; i < 4; i++)
		out[28 + i] = (unsigned char)(peer >> (24 - 8 * i));
	out[34] = (unsigned char)(a->size >> 8);
	out[35] = (unsigned char)a->size;
}

/* Ethernet and IPv4 as every frame has them. The first 4 bytes of a plain payload stay zero. */
static struct bench_frame make_frame(const struct arguments *a, unsigned char own_mac[ETH_ALEN])
{
	size_t udp_len = sizeof(struct udphdr) + udp_payload(a);
	struct bench_frame f = {
		.ethernet = {.h_proto = htons(ETH_P_IP)},
		.ip = {.version = 4,
			.ihl = 5,
			.ttl = 64,
			.protocol = IPPROTO_UDP,
			.frag_off = htons(0x4000),
			.tot_len = htons((uint16_t)(sizeof(struct iphdr) + udp_len)),
			.saddr = a->source.s_addr,
			.daddr = a->destination.s_addr},
		.udp_len = htons((uint16_t)udp_len),
		.channel_len = a->plain || a->send_peer.s_addr ? 0 : htons((uint16_t)a->size),
		.sink_port = htons(a->bounced ? BENCH_LISTENER_PORT : (uint16_t)a->sink_port),
		.is_send = a->send_peer.s_addr != 0,
	};

	memcpy(f.ethernet.h_dest, a->mac, ETH_ALEN);
	memcpy(f.ethernet.h_source, own_mac, ETH_ALEN);
	if (f.is_send)
		make_send(a, f.send);
	f.ip.check = htons((uint16_t)~fold(sum16(&f.ip, sizeof(f.ip))));
	return f;
}

/* Payload bytes are all zero behind what encodes them, so the sum needs only the headers. */
static uint16_t checksum(const struct bench_frame *f, const struct bench_target *t)
{
	unsigned sum = sum16(&f->ip.saddr, 8) + IPPROTO_UDP + 2u * ntohs(f->udp_len) +
		       ntohs(t->source_port) + ntohs(t->destination_port) + ntohs(t->channel) +
		       ntohs(f->channel_len) + sum16(f->send, sizeof(f->send));
	unsigned short check = (unsigned short)~fold(sum);

	return htons(check ? check : 0xffff);
}

/*
 * Targets in random order, laid out as they are drawn: the generator reads on in memory, and does
 * not wait for it where a relay has taken the cache that it had to itself.
 */
static struct bench_target *draw(const struct bench_target *from, unsigned *count)
{
	unsigned draws = *count > DRAWS_MIN / DRAWS_EACH ? *count * DRAWS_EACH : DRAWS_MIN;
	struct bench_target *out = malloc(draws * sizeof(*out));
	unsigned long long state = 1;

	if (!out)
		die("memory");
	for (unsigned i = 0; i < draws; i++) {
		state = state * 6364136223846793005ull + 1;
		out[i] = from[(state >> 32) * *count >> 32];
	}
	*count = draws;
	return out;
}

/* Lines "source-port destination-port channel". */
static struct bench_target *read_targets(
	const struct arguments *a, const struct bench_frame *f, unsigned *count)
{
	FILE *file = fopen(a->targets, "r");
	struct bench_target *targets = NULL;
	unsigned source, destination, channel, size = 0, n = 0;

	if (!file)
		die(a->targets);
	while (fscanf(file, "%u %u %u", &source, &destination, &channel) == 3) {
		if (n == size) {
			size = size ? size * 2 : 1024;
			targets = realloc(targets, size * sizeof(*targets));
			if (!targets)
				die("memory");
		}
		targets[n] =
			(struct bench_target){htons((uint16_t)source), htons((uint16_t)destination),
				a->plain || f->is_send ? 0 : htons((uint16_t)channel), 0};
		targets[n].checksum = checksum(f, &targets[n]);
		n++;
	}
	fclose(file);
	*count = n;
	if (a->random && n) {
		struct bench_target *drawn = draw(targets, count);

		free(targets);
		return drawn;
	}
	return targets;
}

static void own_mac(const char *interface, unsigned char mac[ETH_ALEN])
{
	struct ifreq request = {0};
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", interface);
	if (fd < 0 || ioctl(fd, SIOCGIFHWADDR, &request) < 0)
		die(interface);
	memcpy(mac, request.ifr_hwaddr.sa_data, ETH_ALEN);
	close(fd);
}

static struct bench_bpf *load(const struct arguments *a, const struct supply *from)
{
	struct bench_bpf *skel = bench_bpf__open();

	if (!skel || from->count == 0)
		die("no program or no targets");
	memcpy((void *)&skel->rodata->frame, &from->frame, sizeof(from->frame));
	skel->rodata->targets_count = from->count;
	if (a->stamp)
		skel->rodata->stamp_offset = (uint32_t)(FRAME_HEADERS + (a->bounced ? 4 : 0));
	bpf_map__set_max_entries(skel->maps.targets, from->count);
	if (bench_bpf__load(skel) < 0)
		die("load");
	for (unsigned i = 0; i < from->count; i++)
		if (bpf_map__update_elem(skel->maps.targets, &i, sizeof(i), &from->targets[i],
			    sizeof(from->targets[i]), BPF_ANY) < 0)
			die("targets");
	return skel;
}

static unsigned long long read_counter(const struct bpf_map *map, unsigned index)
{
	int cpus = libbpf_num_possible_cpus();
	unsigned long long sum = 0, *values = calloc((size_t)cpus, sizeof(*values));

	if (!values || bpf_map__lookup_elem(map, &index, sizeof(index), values,
			       (size_t)cpus * sizeof(*values), 0) < 0)
		die("counters");
	for (int i = 0; i < cpus; i++)
		sum += values[i];
	free(values);
	return sum;
}

/* Nanoseconds a frame, as the kernel measured this run. */
static unsigned run_batch(struct bench_bpf *skel, const struct arguments *a, unsigned repeat)
{
	static unsigned char frame[FRAME_MAX];
	const struct live live = {
		.program = bpf_program__fd(skel->progs.generate),
		.ingress = if_nametoindex(a->interface),
		.frame = frame,
		.len = (uint32_t)(FRAME_HEADERS + udp_payload(a)),
	};
	uint32_t took_ns;

	errno = -live_run(&live, repeat, &took_ns);
	if (errno)
		die("test run");
	return took_ns;
}

/* Returns the fastest run: what the loop costs when nobody else wants the core. */
static unsigned run_flat_out(struct bench_bpf *skel, const struct arguments *a)
{
	unsigned fastest = UINT32_MAX;

	for (unsigned long long sent = 0; sent < a->count;) {
		unsigned part = a->count - sent < RUN_MAX ? (unsigned)(a->count - sent) : RUN_MAX;

		unsigned took = run_batch(skel, a, part);

		if (took < fastest)
			fastest = took;
		sent += part;
	}
	return fastest;
}

/* The whole frame of one target, for senders that cannot run the generator program. */
static size_t build_frame(const struct bench_frame *f, const struct bench_target *t,
	const struct arguments *a, unsigned char *out)
{
	struct udphdr udp = {t->source_port, t->destination_port, f->udp_len, t->checksum};
	size_t at = 0;

	memcpy(out, &f->ethernet, sizeof(f->ethernet));
	at += sizeof(f->ethernet);
	memcpy(out + at, &f->ip, sizeof(f->ip));
	at += sizeof(f->ip);
	memcpy(out + at, &udp, sizeof(udp));
	at += sizeof(udp);
	memset(out + at, 0, udp_payload(a));
	if (f->is_send) {
		memcpy(out + at, f->send, sizeof(f->send));
	} else {
		memcpy(out + at, &t->channel, 2);
		memcpy(out + at + 2, &f->channel_len, 2);
	}
	return at + udp_payload(a);
}

/* What a payload of zeros was summed up to has to learn of the time. */
static void stamp(unsigned char *frame, const struct arguments *a, unsigned long long now)
{
	unsigned char *at = frame + FRAME_HEADERS + (a->plain ? 0 : 4);
	struct udphdr *udp = (void *)(frame + FRAME_HEADERS - sizeof(*udp));
	unsigned short check;

	memcpy(at, &now, STAMP_LEN);
	check = (unsigned short)~fold((unsigned short)~ntohs(udp->check) + sum16(at, STAMP_LEN));
	udp->check = htons(check ? check : 0xffff);
}

static int packet_socket(const char *interface)
{
	struct sockaddr_ll address = {
		.sll_family = AF_PACKET, .sll_ifindex = (int)if_nametoindex(interface)};
	int fd = socket(AF_PACKET, SOCK_RAW, 0), on = 1;

	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
		setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &on, sizeof(on)) < 0)
		die("packet socket");
	return fd;
}

static void wait_until(unsigned long long then_ns)
{
	while (spare_look() < then_ns)
		;
}

static unsigned frames_a_burst(const struct arguments *a)
{
	return (unsigned)(a->rate * BURST_NS / TP_NS_PER_S);
}

static unsigned long long slices_of(const struct arguments *a)
{
	return a->count / (BURSTS * frames_a_burst(a));
}

static void send_burst(
	const struct arguments *a, const struct supply *from, int fd, unsigned long long first)
{
	static unsigned char bytes[BATCH][FRAME_MAX];
	struct mmsghdr messages[BATCH] = {0};
	struct iovec iov[BATCH];
	unsigned count = frames_a_burst(a);

	for (unsigned i = 0; i < count; i++) {
		const struct bench_target *t = &from->targets[(first + i) % from->count];

		iov[i] = (struct iovec){bytes[i], build_frame(&from->frame, t, a, bytes[i])};
		messages[i].msg_hdr.msg_iov = &iov[i];
		messages[i].msg_hdr.msg_iovlen = 1;
	}
	if (sendmmsg(fd, messages, count, 0) != (int)count)
		die("send");
}

/* Returns the CPU time that was spent meanwhile. */
static unsigned long long run_slice(
	const struct arguments *a, const struct supply *from, int fd, unsigned number)
{
	unsigned long long first = (unsigned long long)number * BURSTS * frames_a_burst(a);
	unsigned long long before = spare_spent(), start = spare_look();

	for (unsigned i = 0; i < BURSTS; i++) {
		wait_until(start + i * BURST_NS);
		send_burst(a, from, fd, first + (unsigned long long)i * frames_a_burst(a));
	}
	wait_until(start + BURSTS * BURST_NS);
	return spare_spent() - before;
}

/*
 * Paced: in turns slices of time in which frames go where they are measured, and slices in which
 * the same ones go where they are dropped. A packet socket, as live frames of a program that is
 * attached nowhere cannot be paced: each run of them waits for a grace period of the kernel.
 */
static void run_paced(const struct arguments *a, const struct supply *from, struct slices *out)
{
	int fd = packet_socket(a->interface), against = packet_socket(a->against);

	for (out->count = 0; out->count < slices_of(a); out->count++) {
		out->measured[out->count] = run_slice(a, from, fd, out->count);
		out->dropped[out->count] = run_slice(a, from, against, out->count);
		usleep(OTHERS_US);
	}
	close(fd);
	close(against);
}

/* One frame at a time: none waits for another, and what is late is not made up for by a burst. */
static void run_stamped(const struct arguments *a, const struct supply *from)
{
	static unsigned char bytes[FRAME_MAX];
	unsigned long long due = tp_clock_now_ns(), now;
	int fd = packet_socket(a->interface);

	for (unsigned long long sent = 0; sent < a->count; sent++) {
		size_t len =
			build_frame(&from->frame, &from->targets[sent % from->count], a, bytes);

		do
			now = tp_clock_now_ns();
		while (now < due);
		stamp(bytes, a, now);
		if (send(fd, bytes, len, 0) != (ssize_t)len)
			die("send");
		due = now + TP_NS_PER_S / a->rate;
	}
	close(fd);
}

static void print_slices(const char *name, const unsigned long long *spent, unsigned count)
{
	printf(", \"%s\": [", name);
	for (unsigned i = 0; i < count; i++)
		printf("%s%llu", i ? ", " : "", spent[i]);
	printf("]");
}

static void print_latencies(const struct bench_bpf *skel)
{
	static uint64_t counts[HISTOGRAM_SLOTS];

	for (unsigned i = 0; i < HISTOGRAM_SLOTS; i++)
		counts[i] = read_counter(skel->maps.latencies, i);
	printf(", \"latency_ns\": ");
	percentiles_print(stdout, counts);
}

static void stay_on(int core)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET((size_t)core, &set);
	if (sched_setaffinity(0, sizeof(set), &set) < 0)
		die("core");
}

/* Sends all, and prints what it has to say except whether they came back. */
static void run(struct bench_bpf *skel, const struct arguments *a, const struct supply *from)
{
	static struct slices slices;
	unsigned long long start = tp_clock_now_ns();
	unsigned fastest;

	if (a->stamp) {
		awake_begin(a->cpu);
		run_stamped(a, from);
		awake_end();
	} else if (a->rate) {
		spare_begin();
		run_paced(a, from, &slices);
		spare_end();
		print_slices("measured_ns", slices.measured, slices.count);
		print_slices("dropped_ns", slices.dropped, slices.count);
		printf(", \"slice\": %u", BURSTS * frames_a_burst(a));
	} else {
		fastest = run_flat_out(skel, a);
		printf(", \"elapsed_ns\": %llu, \"fastest_ns\": %u", tp_clock_now_ns() - start,
			fastest);
	}
}

static int generate(const struct arguments *a)
{
	struct supply from;
	struct bench_bpf *skel;
	struct bpf_link *link;
	unsigned char mac[ETH_ALEN];
	unsigned long long before;

	own_mac(a->interface, mac);
	from.frame = make_frame(a, mac);
	from.targets = read_targets(a, &from.frame, &from.count);
	skel = load(a, &from);
	link = bpf_program__attach_xdp(skel->progs.sink, (int)if_nametoindex(a->interface));
	if (!link)
		die("sink");
	stay_on(a->cpu);
	run_batch(skel, a, BATCH);
	usleep(20000);
	before = read_counter(skel->maps.counters, BENCH_RECEIVED);
	printf("{\"sent\": %llu", a->count);
	run(skel, a, &from);
	usleep(100000);
	printf(", \"received\": %llu", read_counter(skel->maps.counters, BENCH_RECEIVED) - before);
	if (a->stamp)
		print_latencies(skel);
	printf("}\n");
	free(from.targets);
	bpf_link__destroy(link);
	bench_bpf__destroy(skel);
	return 0;
}

static void stop_waiting(int signal)
{
}

/* Attaches until SIGTERM: bounce, or sink where only the generator is to be weighed. */
static int hold(const char *interface, const char *program, unsigned burn_ns)
{
	struct bench_bpf *skel = bench_bpf__open();
	struct bench_frame frame = {.sink_port = htons(BENCH_LISTENER_PORT)};
	struct sigaction action = {.sa_handler = stop_waiting};
	struct bpf_link *link;

	if (!skel)
		die("open");
	memcpy((void *)&skel->rodata->frame, &frame, sizeof(frame));
	skel->rodata->burn_ns = burn_ns;
	if (bench_bpf__load(skel) < 0)
		die("load");
	link = bpf_program__attach_xdp(
		strcmp(program, "bounce") == 0 ? skel->progs.bounce : skel->progs.sink,
		(int)if_nametoindex(interface));
	if (!link)
		die(interface);
	sigaction(SIGTERM, &action, NULL);
	printf("attached\n");
	fflush(stdout);
	pause();
	bpf_link__destroy(link);
	bench_bpf__destroy(skel);
	return 0;
}

static int usage(void)
{
	fprintf(stderr,
		"usage: pump hold INTERFACE bounce|sink [NS]\n"
		"       pump generate --interface IF --mac MAC --source IP --destination IP\n"
		"            --targets FILE --size BYTES --count N [--cpu N]\n"
		"            [--plain] [--random] [--bounced] [--send PEER] [--sink-port N]\n"
		"            [--rate PPS --against IF | --rate PPS --stamp]\n");
	return 2;
}

static bool parse_mac(const char *text, unsigned char mac[ETH_ALEN])
{
	return sscanf(text, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", &mac[0], &mac[1], &mac[2], &mac[3],
		       &mac[4], &mac[5]) == ETH_ALEN;
}

static bool can_be_paced(const struct arguments *a)
{
	unsigned frames = frames_a_burst(a);

	if (a->stamp)
		return a->rate && !a->against && !a->send_peer.s_addr && a->size >= STAMP_LEN;
	if (!a->rate)
		return !a->against;
	return a->against && frames >= 1 && frames <= BATCH && a->count % (BURSTS * frames) == 0 &&
	       slices_of(a) <= SLICES_MAX;
}

static bool parse(int argc, char *argv[], struct arguments *a)
{
	static const struct option options[] = {{"interface", 1, 0, 'i'}, {"mac", 1, 0, 'm'},
		{"source", 1, 0, 's'}, {"destination", 1, 0, 'd'}, {"targets", 1, 0, 't'},
		{"size", 1, 0, 'z'}, {"count", 1, 0, 'n'}, {"rate", 1, 0, 'r'}, {"cpu", 1, 0, 'c'},
		{"plain", 0, 0, 'p'}, {"random", 0, 0, 'o'}, {"bounced", 0, 0, 'b'},
		{"send", 1, 0, 'e'}, {"sink-port", 1, 0, 'k'}, {"stamp", 0, 0, 'w'},
		{"against", 1, 0, 'a'}, {0}};
	bool ok = true;

	for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
		switch (c) {
		case 'i':
			a->interface = optarg;
			break;
		case 'm':
			ok &= parse_mac(optarg, a->mac);
			break;
		case 's':
			ok &= inet_pton(AF_INET, optarg, &a->source) == 1;
			break;
		case 'd':
			ok &= inet_pton(AF_INET, optarg, &a->destination) == 1;
			break;
		case 't':
			a->targets = optarg;
			break;
		case 'z':
			a->size = (unsigned)strtoul(optarg, NULL, 10);
			break;
		case 'n':
			a->count = strtoull(optarg, NULL, 10);
			break;
		case 'r':
			a->rate = strtoul(optarg, NULL, 10);
			break;
		case 'c':
			a->cpu = (int)strtol(optarg, NULL, 10);
			break;
		case 'p':
			a->plain = true;
			break;
		case 'o':
			a->random = true;
			break;
		case 'b':
			a->bounced = true;
			break;
		case 'e':
			ok &= inet_pton(AF_INET, optarg, &a->send_peer) == 1;
			break;
		case 'k':
			a->sink_port = (unsigned)strtoul(optarg, NULL, 10);
			break;
		case 'w':
			a->stamp = true;
			break;
		case 'a':
			a->against = optarg;
			break;
		default:
			ok = false;
		}
	}
	return ok && can_be_paced(a) && a->interface && a->targets && a->size >= 4 &&
	       a->size <= 1400 && a->count > 0;
}

int main(int argc, char *argv[])
{
	struct arguments a = {0};

	if ((argc == 4 || argc == 5) && strcmp(argv[1], "hold") == 0)
		return hold(argv[2], argv[3], argc == 5 ? (unsigned)strtoul(argv[4], NULL, 10) : 0);
	if (argc < 2 || strcmp(argv[1], "generate") != 0 || !parse(argc - 1, argv + 1, &a))
		return usage();
	return generate(&a);
}
