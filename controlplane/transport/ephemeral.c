/* Two files of /proc/sys, compared with a range of ports. No state. */
#include "ephemeral.h"

#include "base/cleanup.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct port_set {
	bool has[65536];
};

static bool read_port(const char **text, uint16_t *port)
{
	char *end;
	unsigned long value = strtoul(*text, &end, 10);

	if (end == *text || value > UINT16_MAX)
		return false;
	*text = end;
	*port = (uint16_t)value;
	return true;
}

/* "8080,9148-9150", possibly empty. */
static void add_list(struct port_set *set, const char *text)
{
	uint16_t first, last;

	while (read_port(&text, &first)) {
		last = first;
		if (*text == '-') {
			text++;
			if (!read_port(&text, &last))
				return;
		}
		for (uint32_t port = first; port <= last; port++)
			set->has[port] = true;
		if (*text != ',')
			return;
		text++;
	}
}

bool ephemeral_among(const char *range, const char *reserved, uint16_t min, uint16_t max,
	struct ephemeral_ports *out)
{
	TP_AUTO_FREE struct port_set *held = calloc(1, sizeof(*held));
	uint16_t first, last;
	bool any = false;

	if (!read_port(&range, &first) || !read_port(&range, &last)) {
		first = 1;
		last = UINT16_MAX;
	}
	if (held)
		add_list(held, reserved);
	for (uint32_t port = min; port <= max; port++) {
		if (port < first || port > last || (held && held->has[port]))
			continue;
		if (!any)
			out->first = (uint16_t)port;
		out->last = (uint16_t)port;
		any = true;
	}
	return any;
}

/* Its first line, "" where there is none; the caller frees it. */
static char *read_line(const char *path)
{
	FILE *file = fopen(path, "re");
	char *line = NULL;
	size_t size = 0;

	if (file) {
		if (getline(&line, &size, file) < 0 && line)
			*line = '\0';
		fclose(file);
	}
	return line ? line : strdup("");
}

bool ephemeral_here(uint16_t min, uint16_t max, struct ephemeral_ports *out)
{
	TP_AUTO_FREE char *range = read_line("/proc/sys/net/ipv4/ip_local_port_range");
	TP_AUTO_FREE char *reserved = read_line("/proc/sys/net/ipv4/ip_local_reserved_ports");

	return ephemeral_among(range ? range : "", reserved ? reserved : "", min, max, out);
}
