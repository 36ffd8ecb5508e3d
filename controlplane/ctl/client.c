/* JSON-RPC 2.0 over a Unix socket, one line each way. */
#include "client.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define PATIENCE_S 30

struct client {
	int fd;
	int id;
	char *answer; /* grows to the longest line there was */
	size_t size;
};

int client_open(const char *path, struct client **out)
{
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	struct timeval patience = {.tv_sec = PATIENCE_S};
	struct client *client;
	int err = 0;

	if (!*path) /* for the kernel a name outside of the file system, which anybody may have */
		return -ENOENT;
	if (strlen(path) >= sizeof(sun.sun_path))
		return -ENAMETOOLONG;
	memcpy(sun.sun_path, path, strlen(path) + 1);
	client = calloc(1, sizeof(*client));
	if (!client)
		return -ENOMEM;
	client->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (client->fd < 0 ||
		setsockopt(client->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) < 0 ||
		setsockopt(client->fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) < 0 ||
		connect(client->fd, (const struct sockaddr *)&sun, sizeof(sun)) < 0)
		err = -errno;
	if (err < 0) {
		client_close(client);
		return err;
	}
	*out = client;
	return 0;
}

void client_close(struct client *client)
{
	if (!client)
		return;
	if (client->fd >= 0)
		close(client->fd);
	free(client->answer);
	free(client);
}

static int send_all(int fd, const char *bytes, size_t len)
{
	while (len > 0) {
		ssize_t n = send(fd, bytes, len, MSG_NOSIGNAL);

		if (n < 0)
			return -errno;
		bytes += n;
		len -= (size_t)n;
	}
	return 0;
}

static int send_request(struct client *client, const char *method, json_t *params)
{
	json_t *request = json_pack("{s:s, s:i, s:s, s:O}", "jsonrpc", "2.0", "id", ++client->id,
		"method", method, "params", params);
	char *line = request ? json_dumps(request, JSON_COMPACT) : NULL;
	int err = line ? send_all(client->fd, line, strlen(line)) : -ENOMEM;

	if (err == 0)
		err = send_all(client->fd, "\n", 1);
	free(line);
	json_decref(request);
	/* A server that turns us away has said why before it hung up. */
	return err == -EPIPE ? 0 : err;
}

/* One line; nothing comes behind it, since nothing was asked for. */
static int read_line(struct client *client, size_t *len)
{
	*len = 0;
	do {
		ssize_t n;

		if (client->size - *len < 4096) {
			size_t size = client->size ? client->size * 2 : 16384;
			char *bigger = realloc(client->answer, size);

			if (!bigger)
				return -ENOMEM;
			client->answer = bigger;
			client->size = size;
		}
		n = recv(client->fd, client->answer + *len, client->size - *len, 0);
		if (n < 0)
			return errno == EAGAIN ? -ETIMEDOUT : -errno;
		if (n == 0)
			return -ECONNRESET;
		*len += (size_t)n;
	} while (client->answer[*len - 1] != '\n');
	return 0;
}

static int take_result(json_t *answer, json_t **out, char message[512])
{
	json_t *result = json_object_get(answer, "result");
	const char *refusal =
		json_string_value(json_object_get(json_object_get(answer, "error"), "message"));

	if (result) {
		*out = json_incref(result);
		return 0;
	}
	if (!refusal)
		return -EPROTO;
	snprintf(message, 512, "%s", refusal);
	return -EREMOTEIO;
}

int client_call(
	struct client *client, const char *method, json_t *params, json_t **out, char message[512])
{
	int err = send_request(client, method, params);
	json_t *answer;
	size_t len = 0;

	if (err == 0)
		err = read_line(client, &len);
	if (err < 0)
		return err;
	answer = json_loadb(client->answer, len, 0, NULL);
	err = take_result(answer, out, message);
	json_decref(answer);
	return err;
}
