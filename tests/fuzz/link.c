/*
 * dataplane/link: an honest greeting with tables, spoiled by the input. First how long it is, then
 * how many descriptors come along, then triples: where (2 bytes), and what is written there.
 */
#include "fuzz.h"

#include "base/log.h"
#include "dataplane/link/message.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

static struct tp_tables tables;
static struct message_received honest;

static const struct tp_hello hello = {
	.engine = "dpdk",
	.workers = 2,
	.interfaces_count = 2,
	.interfaces = {{"eth0", 2, "dpdk", true}, {"eth1", 7, "dpdk", false}},
};

/* What an honest greeting looks like, by eavesdropping. */
static void begin(void)
{
	struct tp_shape shape;
	int pair[2];

	if (honest.len > 0)
		return;
	tp_log_set_level(TP_LOG_ERROR);
	MUST(tp_shape_init(64, 2, 7, &shape) == 0);
	MUST(tp_tables_create_pages(&shape, &tables) == 0);
	MUST(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
	MUST(tp_link_hello(pair[0], &hello, &tables) == 0);
	MUST(message_receive(pair[1], &honest) == 0 && honest.fds_count == 1);
	close(pair[0]);
	close(pair[1]);
}

static struct message_received spoil(struct feed feed)
{
	struct message_received message = honest;
	size_t fds = feed_u8(&feed) % (TP_REGIONS + 1);
	uint8_t shorter = feed_u8(&feed);

	message.len -= shorter < message.len ? shorter : message.len - 1;
	message.is.header.size = (uint32_t)message.len;
	while (feed.len >= 3) {
		uint16_t where = feed_u16(&feed);

		((uint8_t *)&message.is)[where % message.len] = feed_u8(&feed);
	}
	message.fds_count = 0;
	while (message.fds_count < fds)
		message.fds[message.fds_count++] = fcntl(honest.fds[0], F_DUPFD_CLOEXEC, 0);
	return message;
}

static void check_hello(const struct tp_hello *said)
{
	MUST(said->workers > 0 && said->workers <= TP_WORKERS_MAX);
	MUST(said->interfaces_count > 0 && said->interfaces_count <= TP_INTERFACES_MAX);
	MUST(memchr(said->engine, '\0', sizeof(said->engine)));
	for (uint32_t i = 0; i < said->interfaces_count; i++) {
		MUST(memchr(said->interfaces[i].name, '\0', TP_IFNAME_SIZE));
		MUST(said->interfaces[i].mode && said->interfaces[i].ifindex != 0);
	}
}

/* Whatever is mapped can be used from end to end. */
static void use(struct tp_tables *got)
{
	for (int i = 0; tp_tables_map(got) == 0 && i < TP_REGIONS; i++) {
		const struct tp_region_shape *region = &got->memory.shape.regions[i];
		uint8_t *bytes = got->memory.regions[i];

		bytes[0]++;
		bytes[(size_t)region->element_size * region->count - 1]++;
	}
	tp_tables_close(got);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct message_received message;
	struct tp_tables got;
	struct tp_hello said;
	char reason[TP_REASON_SIZE];

	begin();
	message = spoil((struct feed){data, size});
	if (message_check(&message, sizeof(message.is.hello), reason) == 0) {
		if (message_read_hello(&message.is.hello, &said, reason) == 0)
			check_hello(&said);
		if (message_take_tables(&message, &message.is.hello.tables, &got, reason) == 0)
			use(&got);
	}
	message_drop(&message);
	return 0;
}
