/* sendmmsg of messages that are one datagram each, or a run of them. */
#include "transmit.h"

#include "options.h"

#include "base/cmsg.h"

#include <errno.h>
#include <netinet/udp.h>
#include <stdlib.h>

#define QUEUE_SIZE 64
/* What any kernel that has UDP_SEGMENT takes. */
#define RUN_COUNT_MAX 64
#define RUN_LEN_MAX   65000
/* What is larger has to be fragmented on most links, which is not done to runs. */
#define SIZE_MAX_USUAL 1472
/* Datagrams until a size that was refused is tried again: on some ways all are. */
#define REST 1000

#define CONTROL_SIZE (3 * CMSG_SPACE(sizeof(int)) + CMSG_SPACE(sizeof(struct in6_pktinfo)))

struct datagram {
	struct iovec *iov;
	size_t iov_count, len;
};

/* All of one size but the last one, which may be shorter and ends it. */
struct run {
	struct tp_addr to;
	struct tp_udp_marks marks;
	int fd;
	bool open;      /* more of them may come */
	uint16_t size;  /* of the first one */
	unsigned first; /* a number of a datagram */
	unsigned count; /* of datagrams */
	size_t len;     /* of all */
};

struct tp_udp_tx {
	struct mmsghdr messages[QUEUE_SIZE]; /* of the runs */
	struct run runs[QUEUE_SIZE];
	struct sockaddr_storage names[QUEUE_SIZE];
	union {
		struct cmsghdr align;
		uint8_t bytes[CONTROL_SIZE];
	} control[QUEUE_SIZE];
	struct datagram datagrams[QUEUE_SIZE];
	struct iovec iov[2 * QUEUE_SIZE]; /* of the datagrams, one behind the other */
	uint8_t heads[QUEUE_SIZE][TP_UDP_HEAD_SIZE];
	unsigned runs_count, datagrams_count, iov_count;
	size_t size_max; /* of what is joined */
	unsigned rest;   /* datagrams until it is the usual one again */
	struct tp_udp_counters counters;
};

int tp_udp_tx_new(struct tp_udp_tx **out)
{
	*out = calloc(1, sizeof(**out));
	if (!*out)
		return -ENOMEM;
	(*out)->size_max = SIZE_MAX_USUAL;
	return 0;
}

void tp_udp_tx_free(struct tp_udp_tx *tx)
{
	free(tx);
}

static struct cmsghdr *put_marks(struct msghdr *m, struct tp_udp_marks marks)
{
	const struct tp_ip_options *o = tp_ip_options(((struct sockaddr *)m->msg_name)->sa_family);
	struct cmsghdr *end = m->msg_control;

	/* What sockets have anyway: the kernel takes a short description faster than a long one. */
	if (marks.tos)
		end = tp_cmsg_put_int(end, o->level, o->tos, marks.tos);
	if (marks.ttl)
		end = tp_cmsg_put_int(end, o->level, o->ttl, marks.ttl);
	return end;
}

static struct cmsghdr *put_source(struct cmsghdr *c, const struct tp_addr *from)
{
	struct in_pktinfo v4 = {.ipi_ifindex = 0};
	struct in6_pktinfo v6 = {.ipi6_ifindex = 0};

	if (from->family == TP_IPV4) {
		memcpy(&v4.ipi_spec_dst, tp_addr_bytes(from), sizeof(v4.ipi_spec_dst));
		return tp_cmsg_put(c, IPPROTO_IP, IP_PKTINFO, &v4, sizeof(v4));
	}
	memcpy(&v6.ipi6_addr, from->ip, sizeof(v6.ipi6_addr));
	return tp_cmsg_put(c, IPPROTO_IPV6, IPV6_PKTINFO, &v6, sizeof(v6));
}

static bool same_marks(struct tp_udp_marks a, struct tp_udp_marks b)
{
	return a.ttl == b.ttl && a.tos == b.tos && a.dont_fragment == b.dont_fragment;
}

/* The run that is the last one in the queue, if the datagram may be its next. */
static struct run *find_run(struct tp_udp_tx *tx, int fd, const struct tp_addr *to, size_t len,
	struct tp_udp_marks marks)
{
	struct run *run = tx->runs_count > 0 ? &tx->runs[tx->runs_count - 1] : NULL;

	if (!run || !run->open || run->fd != fd || !same_marks(run->marks, marks) ||
		!tp_addr_equal(&run->to, to))
		return NULL;
	/* The kernel tells datagrams apart by their size: one of no bytes would be none. */
	if (len == 0 || len > run->size || run->size > tx->size_max ||
		run->len + len > RUN_LEN_MAX || run->count == RUN_COUNT_MAX)
		return NULL;
	return run;
}

/* Has no datagram yet. */
static struct run *begin_run(
	struct tp_udp_tx *tx, int fd, const struct tp_addr *to, struct tp_udp_marks marks)
{
	unsigned i = tx->runs_count++;
	struct msghdr *m = &tx->messages[i].msg_hdr;

	tx->runs[i] =
		(struct run){.to = *to, .marks = marks, .fd = fd, .first = tx->datagrams_count};
	*m = (struct msghdr){.msg_name = &tx->names[i],
		.msg_iov = &tx->iov[tx->iov_count],
		.msg_control = tx->control[i].bytes};
	m->msg_namelen = tp_addr_to_sockaddr(to, &tx->names[i]);
	tp_cmsg_end(m, m->msg_control, put_marks(m, marks));
	return &tx->runs[i];
}

static void add_bytes(struct tp_udp_tx *tx, struct datagram *datagram, void *bytes, size_t len)
{
	if (len == 0)
		return;
	datagram->iov[datagram->iov_count++] = (struct iovec){bytes, len};
	datagram->len += len;
	tx->iov_count++;
}

static void add_datagram(struct tp_udp_tx *tx, struct run *run, const void *head, size_t head_len,
	const void *data, size_t data_len)
{
	unsigned i = tx->datagrams_count++;
	struct datagram *datagram = &tx->datagrams[i];

	*datagram = (struct datagram){.iov = &tx->iov[tx->iov_count]};
	if (head_len)
		memcpy(tx->heads[i], head, head_len);
	add_bytes(tx, datagram, tx->heads[i], head_len);
	add_bytes(tx, datagram, (void *)data, data_len);
	tx->messages[run - tx->runs].msg_hdr.msg_iovlen += datagram->iov_count;
	if (run->count == 0)
		run->size = (uint16_t)datagram->len;
	run->open = run->open && datagram->len == run->size;
	run->len += datagram->len;
	run->count++;
}

static void make_room(struct tp_udp_tx *tx)
{
	if (tx->rest > 0 && --tx->rest == 0)
		tx->size_max = SIZE_MAX_USUAL;
	if (tx->datagrams_count == QUEUE_SIZE)
		tp_udp_flush(tx);
}

void tp_udp_queue(struct tp_udp_tx *tx, int fd, const struct tp_addr *to, const void *head,
	size_t head_len, const void *data, size_t data_len, struct tp_udp_marks marks)
{
	size_t len = head_len + data_len;
	struct run *run;

	make_room(tx);
	run = find_run(tx, fd, to, len, marks);
	if (!run) {
		run = begin_run(tx, fd, to, marks);
		run->open = len <= RUN_LEN_MAX;
	}
	add_datagram(tx, run, head, head_len, data, data_len);
}

void tp_udp_queue_from(struct tp_udp_tx *tx, int fd, const struct tp_addr *from,
	const struct tp_addr *to, const void *head, size_t head_len, const void *data,
	size_t data_len, struct tp_udp_marks marks)
{
	struct msghdr *m;
	struct run *run;

	make_room(tx);
	marks.dont_fragment = false;
	run = begin_run(tx, fd, to, marks);
	m = &tx->messages[run - tx->runs].msg_hdr;
	tp_cmsg_end(m, m->msg_control,
		put_source((void *)((uint8_t *)m->msg_control + m->msg_controllen), from));
	add_datagram(tx, run, head, head_len, data, data_len);
}

/* For what it is: too large, or the kernel will not cut it up (EIO before 6.10: no checksums). */
static bool is_refusal(int error)
{
	return error == EMSGSIZE || error == EINVAL || error == EIO;
}

/* An ICMP error that was pending is not this message's fault. */
static bool may_pass_now(int error)
{
	return error != EAGAIN && !is_refusal(error);
}

static bool send_datagram(int fd, const struct msghdr *m)
{
	if (sendmsg(fd, m, MSG_DONTWAIT) >= 0)
		return true;
	return may_pass_now(errno) && sendmsg(fd, m, MSG_DONTWAIT) >= 0;
}

/* What cannot leave as a run may still do so one by one, or some of it. */
static void send_apart(struct tp_udp_tx *tx, const struct run *run, bool refused)
{
	struct msghdr m = tx->messages[run - tx->runs].msg_hdr;

	if (refused) {
		tx->size_max = run->size - 1;
		tx->rest = REST;
	}
	m.msg_controllen -= CMSG_SPACE(sizeof(run->size));
	for (unsigned i = run->first; i < run->first + run->count; i++) {
		m.msg_iov = tx->datagrams[i].iov;
		m.msg_iovlen = tx->datagrams[i].iov_count;
		if (send_datagram(run->fd, &m))
			tx->counters.sent++;
		else
			tx->counters.failed++;
	}
}

static void count_sent(struct tp_udp_tx *tx, unsigned first, unsigned end)
{
	for (unsigned i = first; i < end; i++) {
		tx->counters.sent += tx->runs[i].count;
		tx->counters.joined += tx->runs[i].count - 1;
	}
}

/* Sends runs first..end - 1, all of one socket; what the kernel refuses is counted and left. */
static void send_runs(struct tp_udp_tx *tx, unsigned first, unsigned end)
{
	bool retried = false;

	while (first < end) {
		int sent = sendmmsg(
			tx->runs[first].fd, tx->messages + first, end - first, MSG_DONTWAIT);

		if (sent > 0) {
			count_sent(tx, first, first + (unsigned)sent);
			first += (unsigned)sent;
			retried = false;
			continue;
		}
		if (!retried && may_pass_now(errno)) {
			retried = true;
			continue;
		}
		if (tx->runs[first].count > 1)
			send_apart(tx, &tx->runs[first], is_refusal(errno));
		else
			tx->counters.failed++;
		first++;
		retried = false;
	}
}

static void tell_sizes(struct tp_udp_tx *tx)
{
	for (unsigned i = 0; i < tx->runs_count; i++) {
		struct msghdr *m = &tx->messages[i].msg_hdr;
		struct cmsghdr *end = (void *)((uint8_t *)m->msg_control + m->msg_controllen);

		if (tx->runs[i].count > 1)
			tp_cmsg_end(m, m->msg_control,
				tp_cmsg_put(end, IPPROTO_UDP, UDP_SEGMENT, &tx->runs[i].size,
					sizeof(tx->runs[i].size)));
	}
}

static void set_fragmenting(int fd, int family, bool allowed)
{
	const struct tp_ip_options *o = tp_ip_options(family);

	tp_set_option(fd, o->level, o->mtu_discover, allowed ? o->fragment : o->no_fragment);
}

void tp_udp_flush(struct tp_udp_tx *tx)
{
	tell_sizes(tx);
	for (unsigned first = 0, end; first < tx->runs_count; first = end) {
		const struct run *run = &tx->runs[first];
		int family = tx->names[first].ss_family;
		bool whole = run->marks.dont_fragment;

		for (end = first + 1; end < tx->runs_count; end++) {
			if (tx->runs[end].fd != run->fd ||
				tx->runs[end].marks.dont_fragment != whole)
				break;
		}
		if (whole)
			set_fragmenting(run->fd, family, false);
		send_runs(tx, first, end);
		if (whole)
			set_fragmenting(run->fd, family, true);
	}
	tx->runs_count = tx->datagrams_count = tx->iov_count = 0;
}

struct tp_udp_counters tp_udp_tx_counters(const struct tp_udp_tx *tx)
{
	return tx->counters;
}
