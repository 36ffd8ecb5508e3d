/*
 * canned: answers what turnload asks with ready-made messages of the size of a server's, and grants
 * nothing: what is left of a grant's cost when there is no server, the system calls that carry the
 * same datagrams.
 */
#include "controlplane/stun/stun.h"

#include <err.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#define BATCH      32
#define ROOM       1024
#define LIFETIME_S 3600
#define RELAY_PORT 49152

struct batch {
	struct mmsghdr messages[BATCH];
	struct iovec iov[BATCH];
	struct sockaddr_storage names[BATCH];
	uint8_t requests[BATCH][ROOM], answers[BATCH][ROOM];
};

static volatile sig_atomic_t stopping;

static void stop(int number)
{
	stopping = number;
}

static void put_challenge(struct stun_writer *w)
{
	static const uint8_t algorithms[8] = {0, 2, 0, 0, 0, 1, 0, 0};
	static const char nonce[] = "obMatJos2AAABcannedcannedcannedcannedcan";

	stun_put_error(w, STUN_UNAUTHENTICATED);
	stun_put(w, STUN_ATTR_REALM, "example.org", 11);
	stun_put(w, STUN_ATTR_NONCE, nonce, sizeof(nonce) - 1);
	stun_put(w, STUN_ATTR_PASSWORD_ALGORITHMS, algorithms, sizeof(algorithms));
}

static void put_success(struct stun_writer *w, uint16_t method, const struct tp_addr *client)
{
	static const uint8_t no_mac[20];

	if (method == STUN_METHOD_ALLOCATE) {
		struct tp_addr relay = tp_addr_with_port(client, RELAY_PORT);

		stun_put_xor_address(w, STUN_ATTR_XOR_RELAYED_ADDRESS, &relay);
		stun_put_u32(w, STUN_ATTR_LIFETIME, LIFETIME_S);
		stun_put_xor_address(w, STUN_ATTR_XOR_MAPPED_ADDRESS, client);
	}
	stun_put(w, STUN_ATTR_MESSAGE_INTEGRITY, no_mac, sizeof(no_mac));
}

/* 0: none. */
static size_t answer(
	const uint8_t *request, size_t len, const struct tp_addr *client, uint8_t out[ROOM])
{
	struct stun_message m;
	struct stun_writer w;
	bool known;

	if (stun_parse(request, len, &m) < 0 || m.class != STUN_REQUEST)
		return 0;
	known = stun_find(&m, STUN_ATTR_USERNAME).value != NULL;
	stun_begin(&w, out, ROOM, known ? STUN_SUCCESS : STUN_ERROR, m.method, m.transaction);
	if (known)
		put_success(&w, m.method, client);
	else
		put_challenge(&w);
	return stun_finish(&w);
}

static void prepare(struct batch *b)
{
	for (unsigned i = 0; i < BATCH; i++) {
		b->iov[i] = (struct iovec){b->requests[i], ROOM};
		b->messages[i].msg_hdr = (struct msghdr){.msg_name = &b->names[i],
			.msg_namelen = sizeof(b->names[i]),
			.msg_iov = &b->iov[i],
			.msg_iovlen = 1};
	}
}

/* The answers take the places of the requests. */
static unsigned answer_all(struct batch *b, unsigned received)
{
	unsigned count = 0;

	for (unsigned i = 0; i < received; i++) {
		struct tp_addr client;
		size_t len;

		if (tp_addr_from_sockaddr((struct sockaddr *)&b->names[i], &client) < 0)
			continue;
		len = answer(b->requests[i], b->messages[i].msg_len, &client, b->answers[count]);
		if (!len)
			continue;
		b->iov[count] = (struct iovec){b->answers[count], len};
		b->messages[count].msg_hdr.msg_name = &b->names[i];
		b->messages[count++].msg_hdr.msg_namelen = b->messages[i].msg_hdr.msg_namelen;
	}
	return count;
}

static void serve(int fd)
{
	static struct batch b;

	while (!stopping) {
		int received;
		unsigned count;

		prepare(&b);
		received = recvmmsg(fd, b.messages, BATCH, MSG_WAITFORONE, NULL);
		if (received <= 0)
			continue;
		count = answer_all(&b, (unsigned)received);
		if (count && sendmmsg(fd, b.messages, count, 0) < 0)
			warn("sendmmsg");
	}
}

int main(int argc, char *argv[])
{
	struct sigaction action = {.sa_handler = stop}; /* not SA_RESTART: it ends the waiting */
	struct sockaddr_storage sa;
	struct tp_addr address;
	socklen_t len;
	int fd;

	if (argc != 2 || tp_addr_parse(argv[1], &address) < 0) {
		fprintf(stderr, "usage: canned ADDRESS:PORT\n");
		return 2;
	}
	len = tp_addr_to_sockaddr(&address, &sa);
	fd = socket(sa.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || bind(fd, (struct sockaddr *)&sa, len) < 0)
		err(1, "%s", argv[1]);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	puts("ready");
	fflush(stdout);
	serve(fd);
	return 0;
}
