#include "capture.h"

#include "schedule.h"

#include <arpa/inet.h>
#include <err.h>
#include <stdio.h>
#include <stdlib.h>

#define MAGIC    0xa1b2c3d4 /* microseconds */
#define ETHERNET 1
#define SNAPLEN  65535
#define SEED     1 /* the same order each time */

struct file_header {
	uint32_t magic;
	uint16_t major, minor;
	uint32_t zone, accuracy, snaplen, link;
};

struct record_header {
	uint32_t s, us, captured, length;
};

static FILE *create(const char *path)
{
	const struct file_header header = {MAGIC, 2, 4, 0, 0, SNAPLEN, ETHERNET};
	FILE *out = fopen(path, "we");

	if (!out || fwrite(&header, sizeof(header), 1, out) != 1)
		err(1, "%s", path);
	return out;
}

static void put(FILE *out, uint32_t number, const uint8_t *frame, size_t len)
{
	const struct record_header record = {
		number / 1000000, number % 1000000, (uint32_t)len, (uint32_t)len};

	fwrite(&record, sizeof(record), 1, out);
	fwrite(frame, len, 1, out);
}

static void done(FILE *out, const char *path)
{
	if (ferror(out) || fclose(out) != 0)
		err(1, "%s", path);
}

/* Bytes of application data. */
static size_t data_len(const struct capture *c, bool channeldata)
{
	size_t headers = frame_headers_len((enum tp_family)c->locals->first.family) +
			 (channeldata ? CHANNELDATA_HEADER : 0);

	if (!c->options->frame)
		return c->options->size;
	if (c->options->frame < headers + FRAME_FCS)
		errx(1, "--frame: %zu is the least that a packet needs", headers + FRAME_FCS);
	return c->options->frame - headers - FRAME_FCS;
}

static size_t write_up(const struct capture *c, uint32_t client, uint8_t frame[FRAME_MAX])
{
	static uint8_t data[FRAME_MAX];
	size_t len = data_len(c, true);
	const uint16_t header[] = {htons(CLIENTS_FIRST_CHANNEL), htons((uint16_t)len)};
	struct tp_addr from = range_at(c->locals, client);
	const struct tp_addr *to = &c->options->clients.server;

	memcpy(data, header, sizeof(header));
	return frame_write(
		frame, hops_to(c->client_hops, to, NULL), &from, to, data, sizeof(header) + len);
}

static size_t write_down(const struct capture *c, uint32_t client, uint8_t frame[FRAME_MAX])
{
	static const uint8_t data[FRAME_MAX];
	struct tp_addr from = range_at(c->peers, client % c->peers->addresses);
	const struct tp_addr *to = &c->clients->all[client].relay;

	return frame_write(
		frame, hops_to(c->peer_hops, to, NULL), &from, to, data, data_len(c, false));
}

static uint32_t *make_order(const struct capture *c)
{
	uint32_t count = c->options->clients.allocations;
	uint32_t *order = calloc(count, sizeof(*order));
	struct schedule random = {.random = SEED};

	if (!order)
		err(1, "%u flows", count);
	for (uint32_t i = 0; i < count; i++)
		order[i] = i;
	for (uint32_t i = count - 1; c->options->random && i > 0; i--) {
		uint32_t other = schedule_draw(&random, i + 1), kept = order[i];

		order[i] = order[other];
		order[other] = kept;
	}
	return order;
}

static void write_pcap(const struct capture *c, const char *path, const uint32_t *order,
	size_t (*write)(const struct capture *, uint32_t, uint8_t[FRAME_MAX]))
{
	uint8_t frame[FRAME_MAX];
	FILE *out;

	if (!path)
		return;
	out = create(path);
	for (uint32_t i = 0; i < c->options->clients.allocations; i++) {
		size_t len = write(c, order[i], frame);

		if (!len)
			errx(1, "%s: such frames would be longer than %d bytes", path,
				FRAME_MAX + FRAME_FCS);
		put(out, i, frame, len);
	}
	done(out, path);
}

static void write_flows(const struct capture *c, const uint32_t *order)
{
	const char *path = c->options->flows;
	FILE *out;

	if (!path)
		return;
	out = fopen(path, "we");
	if (!out)
		err(1, "%s", path);
	for (uint32_t i = 0; i < c->options->clients.allocations; i++) {
		struct tp_addr peer = range_at(c->peers, order[i] % c->peers->addresses);

		fprintf(out, "%u %u 0\n", peer.port, c->clients->all[order[i]].relay.port);
	}
	done(out, path);
}

void capture_write(const struct capture *c)
{
	uint32_t *order = make_order(c);

	write_pcap(c, c->options->up_pcap, order, write_up);
	write_pcap(c, c->options->down_pcap, order, write_down);
	write_flows(c, order);
	free(order);
}
