/*
 * Ends as frames, for as many addresses as are wanted: received through AF_XDP, one socket for each
 * receive queue of an interface, and sent by the first of these or as live frames. The kernel goes
 * on answering for the addresses; a program takes what is the end's out of its way (pick.bpf.c).
 * Everything about queues is under one mutex, what live frames need under another.
 */
#include "end.h"
#include "hop.h"
#include "outbox.h"
#include "pick.skel.h"

#include "dataplane/engine/afxdp/afxdp.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <err.h>
#include <errno.h>
#include <ifaddrs.h>
#include <linux/if_xdp.h>
#include <net/if.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#define FRAME_SHIFT 11
#define NAP_US      20

#define LOOPBACK_IFINDEX 1 /* in every network namespace */

struct frames {
	struct end end;
	const char *name;
	struct hops hops; /* a sender's */
	struct outbox outbox;
	pthread_mutex_t sending;
	bool is_asked; /* as a client's: something must come */
	bool has_received;
	struct pick_bpf *program;
	struct bpf_link *link;
	int reserved; /* a socket that has the peers' port, so that nobody else gets it; or -1 */
	bool has_warned;
	pthread_mutex_t mutex;
	struct pollfd polls[AFXDP_QUEUES_MAX];
	struct afxdp_queue queues[AFXDP_QUEUES_MAX];
	uint32_t count, turn; /* of queues; the one to look at next */
	/* Frames whose datagrams were handed out. */
	struct afxdp_queue *held_of;
	uint32_t held[END_BURST], held_count;
};

/* ---- sending -----------------------------------------------------------------------------------
 */

static void check(const struct frames *f, const struct afxdp_queue *q)
{
	if (q->broken)
		errx(1, "%s: a ring of the AF_XDP socket is broken", f->name);
}

/* Waits for room. */
static void send_frame(struct frames *f, uint8_t *bytes, size_t len)
{
	struct afxdp_queue *q = &f->queues[0];
	const struct tp_packet pkt = {.data = bytes, .end = bytes + len};

	while (!afxdp_queue_send_copy(q, &pkt)) {
		check(f, q);
		afxdp_queue_flush(q);
		afxdp_queue_reap(q);
		if (!q->free_count)
			usleep(NAP_US);
	}
}

/* Its length; there is room for FRAME_MAX. */
static size_t write_frame(struct frames *f, const struct datagram *d, uint8_t *bytes)
{
	const struct frame_macs *macs = hops_to(&f->hops, &d->remote, NULL);
	struct tp_addr from = range_at(&f->end.range, d->at);
	size_t len = frame_write(bytes, macs, &from, &d->remote, d->bytes, d->len);

	if (!len)
		errx(1, "%s: a packet does not fit a frame", f->name);
	return len;
}

static void send_all(struct end *end, const struct datagram *all, unsigned count)
{
	struct frames *f = (struct frames *)end;
	uint8_t bytes[FRAME_MAX];

	pthread_mutex_lock(&f->mutex);
	afxdp_queue_reap(&f->queues[0]);
	for (unsigned i = 0; i < count; i++)
		send_frame(f, bytes, write_frame(f, &all[i], bytes));
	do
		afxdp_queue_flush(&f->queues[0]);
	while (f->queues[0].unfinished && !f->queues[0].broken);
	pthread_mutex_unlock(&f->mutex);
}

static void put_live(struct frames *f, const struct datagram *d, struct pick_frame *out)
{
	size_t headers = frame_headers_len((enum tp_family)d->remote.family);

	out->len = (uint32_t)write_frame(f, d, out->bytes);
	out->time_at = d->time_at ? (uint16_t)(headers + d->time_at) : 0;
	out->check_at = (uint16_t)(headers - sizeof(uint16_t)); /* the last of the UDP header */
}

static void send_live(struct end *end, const struct datagram *all, unsigned count)
{
	struct frames *f = (struct frames *)end;

	pthread_mutex_lock(&f->sending);
	for (unsigned at = 0; at < count; at += PICK_FRAMES) {
		unsigned part = count - at < PICK_FRAMES ? count - at : PICK_FRAMES;

		for (unsigned i = 0; i < part; i++)
			put_live(f, &all[at + i], &f->outbox.frames[i]);
		outbox_send(&f->outbox, part);
	}
	pthread_mutex_unlock(&f->sending);
}

/* ---- receiving ---------------------------------------------------------------------------------
 */

static void give_back(struct frames *f)
{
	for (uint32_t i = 0; i < f->held_count; i++)
		afxdp_queue_release(f->held_of, f->held[i]);
	f->held_count = 0;
}

static void warn_once(struct frames *f)
{
	if (!f->has_warned)
		warnx("%s: frames with wrong checksums are not counted; who sends on a veth device "
		      "needs `ethtool -K DEVICE tx off`",
			f->name);
	f->has_warned = true;
}

static unsigned read_frames(
	struct frames *f, const struct tp_packet *pkts, uint32_t count, struct datagram *out)
{
	unsigned taken = 0;

	for (uint32_t i = 0; i < count; i++) {
		struct frame_datagram d;
		uint32_t at;

		if (!frame_read(pkts[i].data, (size_t)(pkts[i].end - pkts[i].data), &d))
			warn_once(f);
		else if (range_find(&f->end.range, &d.to, &at) && at < f->end.count)
			out[taken++] = (struct datagram){.at = at, .bytes = d.data, .len = d.len};
	}
	f->has_received |= taken > 0;
	return taken;
}

/* Queues in turn. */
static unsigned receive_some(struct frames *f, struct datagram out[END_BURST])
{
	struct tp_packet pkts[END_BURST];
	unsigned taken = 0;

	pthread_mutex_lock(&f->mutex);
	give_back(f);
	for (uint32_t i = 0; i < f->count && !f->held_count; i++) {
		struct afxdp_queue *q = &f->queues[f->turn];

		f->turn = (f->turn + 1) % f->count;
		check(f, q);
		f->held_of = q;
		f->held_count = afxdp_queue_receive(q, pkts, f->held, END_BURST);
		taken = read_frames(f, pkts, f->held_count, out);
	}
	pthread_mutex_unlock(&f->mutex);
	return taken;
}

static unsigned receive(struct end *end, struct datagram out[END_BURST], int timeout_ms)
{
	struct frames *f = (struct frames *)end;
	unsigned taken = receive_some(f, out);

	if (taken || f->held_count || poll(f->polls, f->count, timeout_ms) <= 0)
		return taken;
	return receive_some(f, out);
}

/* ---- opening and closing -----------------------------------------------------------------------
 */

/* For want of a frame to receive into, which is counted twice, once as dropped; or of room in the
 * ring. */
static uint64_t unread(struct end *end)
{
	const struct frames *f = (const struct frames *)end;
	uint64_t total = 0;

	for (uint32_t i = 0; i < f->count; i++) {
		struct xdp_statistics counts = {0};
		socklen_t len = sizeof(counts);

		if (getsockopt(f->queues[i].fd, SOL_XDP, XDP_STATISTICS, &counts, &len) == 0)
			total += counts.rx_dropped + counts.rx_ring_full;
	}
	return total;
}

static void close_all(struct end *end)
{
	struct frames *f = (struct frames *)end;

	if (f->outbox.frames && f->is_asked && !f->has_received)
		warnx("%s: nothing came. At the other end of a veth device live frames are received "
		      "only where there is an XDP program or `ethtool -K DEVICE gro on`",
			f->name);
	outbox_close(&f->outbox);
	bpf_link__destroy(f->link);
	for (uint32_t i = 0; i < f->count; i++)
		afxdp_queue_close(&f->queues[i]);
	pick_bpf__destroy(f->program);
	hops_end(&f->hops);
	if (f->reserved >= 0)
		close(f->reserved);
	pthread_mutex_destroy(&f->mutex);
	pthread_mutex_destroy(&f->sending);
	free(f);
}

/* That has the first of the addresses. */
static void find_interface(const struct frames *f, char name[IF_NAMESIZE])
{
	struct ifaddrs *all, *a;
	struct tp_addr address;

	if (getifaddrs(&all) < 0)
		err(1, "interfaces");
	for (a = all; a; a = a->ifa_next) {
		if (a->ifa_addr && tp_addr_from_sockaddr(a->ifa_addr, &address) == 0 &&
			tp_addr_equal_ip(&address, &f->end.range.first))
			break;
	}
	if (!a)
		errx(1, "%s: no interface has this address", f->name);
	strncpy(name, a->ifa_name, IF_NAMESIZE - 1);
	name[IF_NAMESIZE - 1] = '\0';
	freeifaddrs(all);
}

/* Peers may be at any port that is free. */
static void reserve_port(struct frames *f)
{
	struct sockaddr_storage sa;
	socklen_t len = tp_addr_to_sockaddr(&f->end.range.first, &sa);

	f->reserved = socket(sa.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (f->reserved < 0 || bind(f->reserved, (struct sockaddr *)&sa, len) < 0 ||
		getsockname(f->reserved, (struct sockaddr *)&sa, &len) < 0 ||
		tp_addr_from_sockaddr((struct sockaddr *)&sa, &f->end.range.first) < 0)
		err(1, "%s", f->name);
}

static struct pick what_to_pick(const struct frames *f, const struct tp_addr *server)
{
	const struct tp_addr *first = server ? server : &f->end.range.first;
	struct pick pick = {
		.addresses = server ? 1 : f->end.range.addresses,
		.port = htons(first->port),
		.by_source = server != NULL,
		.is_ip6 = first->family == TP_IPV6,
	};

	memcpy(pick.ip, first->ip, sizeof(pick.ip));
	for (int i = 0; i < 4; i++)
		pick.ip[i] = ntohl(pick.ip[i]);
	return pick;
}

static int no_words(enum libbpf_print_level level, const char *format, va_list arguments)
{
	(void)level;
	(void)format;
	(void)arguments;
	return 0;
}

static void attach(struct frames *f, const struct pick *pick, const char *interface)
{
	libbpf_set_print(no_words);
	f->program = pick_bpf__open();
	if (!f->program)
		err(1, "%s: AF_XDP", f->name);
	memcpy((void *)&f->program->rodata->wanted, pick, sizeof(*pick));
	if (pick_bpf__load(f->program) < 0)
		err(1, "%s: loading an XDP program (root is needed)", f->name);
	f->link = bpf_program__attach_xdp(
		f->program->progs.turnpike_pick, (int)if_nametoindex(interface));
	if (!f->link && errno == EBUSY)
		errx(1, "%s: %s has an XDP program already", f->name, interface);
	if (!f->link)
		err(1, "%s: an XDP program on %s", f->name, interface);
}

/* As many as there are. */
static void open_queues(struct frames *f, const char *interface)
{
	struct afxdp_queue_options options = {.interface = interface,
		.ifindex = if_nametoindex(interface),
		.frame_shift = FRAME_SHIFT,
		.try_zero_copy = true};
	int map = bpf_map__fd(f->program->maps.sockets), failed = 0;

	for (; options.id < AFXDP_QUEUES_MAX; options.id++) {
		struct afxdp_queue *q = &f->queues[options.id];

		failed = afxdp_queue_open(&options, q);
		if (failed)
			break;
		f->polls[f->count++] = (struct pollfd){.fd = q->fd, .events = POLLIN};
		if (bpf_map_update_elem(map, &options.id, &q->fd, BPF_ANY) < 0)
			err(1, "%s: AF_XDP", f->name);
	}
	errno = -failed;
	if (!f->count)
		err(1, "%s: an AF_XDP socket on %s", f->name, interface);
}

struct end *end_open_frames(const struct end_settings *settings, bool live)
{
	static const struct end_ways by_af_xdp = {send_all, receive, unread, close_all};
	static const struct end_ways as_live = {send_live, receive, unread, close_all};
	struct frames *f = calloc(1, sizeof(*f));
	char interface[IF_NAMESIZE];
	struct pick pick;

	if (!f)
		err(1, "AF_XDP");
	f->end = (struct end){live ? &as_live : &by_af_xdp, settings->range, settings->count};
	f->name = settings->name;
	f->is_asked = settings->server != NULL;
	f->reserved = -1;
	pthread_mutex_init(&f->mutex, NULL);
	pthread_mutex_init(&f->sending, NULL);
	find_interface(f, interface);
	/* Where frames come from tells live ones from the others (pick.bpf.c). */
	if (live && if_nametoindex(interface) == LOOPBACK_IFINDEX)
		errx(1, "%s: live frames cannot leave by the loopback interface", f->name);
	if (!settings->server)
		reserve_port(f);
	pick = what_to_pick(f, settings->server);
	hops_begin(&f->hops, &settings->range.first);
	attach(f, &pick, interface);
	open_queues(f, interface);
	if (live)
		outbox_open(&f->outbox, f->program, if_nametoindex(interface), f->name);
	return &f->end;
}
