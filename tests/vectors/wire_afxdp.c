/*
 * AF_XDP over veth: the back end has one end of each cable, packet sockets the others. The tables
 * are BPF maps, which the steering program reads; what it leaves to the kernel is seen on the back
 * end's end of the cable, what a worker hands back on the loopback.
 */
#include "wire.h"

#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "dataplane/link/link.h"

static const char *const names[WIRE_REDIRECT + 1] = {"wire0", "wire1", "wire2", "wire3"};

static const struct tp_engine_options options = {
	.interfaces = names,
	.interfaces_count = WIRE_REDIRECT + 1,
	.workers = 1,
	.idle_sleep_us = 1000, /* a frame wakes it */
};

static struct tp_tables tables;
static int inner = -1, loopback = -1; /* of the kernel */
static int outer[WIRE_REDIRECT + 1] = {-1, -1, -1, -1};
static struct frame last; /* that was put */

static bool run(const char *command)
{
	return system(command) == 0;
}

/* For frames of every size the rows have. */
static bool prepare(const char **reason)
{
	*reason = "no cables";
	return run("for i in 0 1 2 3; do ip link add wire$i mtu 3200 type veth peer name far$i && "
		   "ip link set far$i mtu 3200 && ethtool -K far$i tx off gro on >/dev/null && "
		   "ip link set wire$i up && ip link set far$i up || exit 1; done");
}

static bool make_tables(const struct tp_shape *shape, struct tp_memory *memory, int fds[TP_REGIONS])
{
	if (tp_tables_create_maps(shape, &tables) != 0)
		return false;
	*memory = tables.memory;
	memcpy(fds, tables.fds, sizeof(tables.fds));
	return true;
}

static void drop_tables(void)
{
	tp_tables_close(&tables);
}

static bool connect_wire(const char **reason)
{
	*reason = "no packet socket";
	inner = wire_open_device("wire0");
	loopback = wire_open_device("lo");
	outer[0] = wire_open_device("far0");
	outer[WIRE_REDIRECT] = wire_open_device("far3");
	return inner >= 0 && loopback >= 0 && outer[0] >= 0 && outer[WIRE_REDIRECT] >= 0;
}

static void put(const struct frame *in)
{
	struct frame at = *in;

	last = *in;
	frame_locate(&at);
	last.l3 = at.l3;
	if (send(outer[0], in->bytes, in->len, 0) != (ssize_t)in->len)
		perror("wire0");
}

static bool left(uint32_t interface, struct frame *out)
{
	return wire_read(outer[interface], out);
}

/*
 * On the loopback an IP packet has lost the frame around it, and got an identification where it had
 * none. When it is what was put otherwise, it stands for that.
 */
static bool is_last(const struct frame *got)
{
	size_t len = got->len - ETH_HLEN;
	uint8_t packet[FRAME_MAX];

	if (got->len < ETH_HLEN + 20 || last.l3 + len > last.len)
		return false;
	memcpy(packet, got->bytes + ETH_HLEN, len);
	if (packet[0] >> 4 == 4 && frame_get16(&last, last.l3 + 4) == 0) {
		memset(packet + 4, 0, 2);
		memcpy(packet + 10, last.bytes + last.l3 + 10, 2);
	}
	return memcmp(packet, last.bytes + last.l3, len) == 0;
}

static bool left_alone(struct frame *out)
{
	return wire_read(inner, out);
}

static bool passed(struct frame *out)
{
	/* The kernel would not have it, nor does it get it. */
	if (last.bytes[last.l3] >> 4 == 4 && !frame_ip_checksum_ok(&last)) {
		*out = last;
		return true;
	}
	if (!wire_read(loopback, out))
		return false;
	if (is_last(out))
		*out = last;
	return true;
}

static uint32_t held(void)
{
	return 0; /* the audit counts them */
}

static void disconnect(void)
{
	close(inner);
	close(loopback);
	close(outer[0]);
	close(outer[WIRE_REDIRECT]);
}

static const struct wire wire_afxdp = {
	.name = "afxdp",
	.backend = &tp_backend_afxdp,
	.options = &options,
	.left_alone = left_alone,
	.prepare = prepare,
	.make_tables = make_tables,
	.drop_tables = drop_tables,
	.connect = connect_wire,
	.put = put,
	.left = left,
	.passed = passed,
	.held = held,
	.disconnect = disconnect,
};

const struct wire *const the_wire = &wire_afxdp;
