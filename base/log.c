/* The log: formats into a line on the stack, escapes it, writes it with one call. */
#include "log.h"

#include "clock.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define LINE_SIZE 1024

static const char *const level_names[] = {"error", "warning", "info", "debug"};
static atomic_int log_level = TP_LOG_INFO;
static atomic_bool log_json;

void tp_log_set_level(enum tp_log_level level)
{
	atomic_store_explicit(&log_level, (int)level, memory_order_relaxed);
}

enum tp_log_level tp_log_get_level(void)
{
	return (enum tp_log_level)atomic_load_explicit(&log_level, memory_order_relaxed);
}

void tp_log_set_json(bool json)
{
	atomic_store_explicit(&log_json, json, memory_order_relaxed);
}

int tp_log_level_parse(const char *text, enum tp_log_level *out)
{
	for (size_t i = 0; i < sizeof(level_names) / sizeof(level_names[0]); i++) {
		if (strcmp(text, level_names[i]) == 0) {
			*out = (enum tp_log_level)i;
			return 0;
		}
	}
	return -EINVAL;
}

/* Printable ASCII as it is, the rest as \xNN; in JSON the quote and the backslash too. */
static size_t escape(const char *in, bool json, char *out, size_t size)
{
	size_t len = 0;

	for (; *in && len + 7 < size; in++) {
		unsigned char c = (unsigned char)*in;

		if (json && (c == '"' || c == '\\'))
			len += (size_t)snprintf(out + len, size - len, "\\%c", c);
		else if (c >= 0x20 && c < 0x7f)
			out[len++] = (char)c;
		else
			len += (size_t)snprintf(
				out + len, size - len, json ? "\\u%04x" : "\\x%02x", c);
	}
	out[len] = '\0';
	return len;
}

void tp_log(enum tp_log_level level, const char *format, ...)
{
	bool json = atomic_load_explicit(&log_json, memory_order_relaxed);
	char message[LINE_SIZE], escaped[LINE_SIZE * 2], line[LINE_SIZE * 2 + 128];
	struct pollfd room = {.fd = STDERR_FILENO, .events = POLLOUT};
	va_list args;
	int len;

	if (level > tp_log_get_level())
		return;
	va_start(args, format);
	vsnprintf(message, sizeof(message), format, args);
	va_end(args);
	escape(message, json, escaped, sizeof(escaped));
	if (json)
		len = snprintf(line, sizeof(line),
			"{\"time\":%llu,\"level\":\"%s\",\"message\":\"%s\"}\n",
			(unsigned long long)tp_clock_unix_s(), level_names[level], escaped);
	else
		len = snprintf(line, sizeof(line), "%s: %s\n", level_names[level], escaped);
	/* A log that nobody reads must not stop the relay: what finds no room is left out. */
	if (poll(&room, 1, 0) == 1 && write(STDERR_FILENO, line, (size_t)len) < 0)
		return;
}

bool tp_log_allowed(struct tp_log_limit *limit)
{
	uint64_t now_s = tp_clock_now_ns() / TP_NS_PER_S;

	if (now_s != limit->window_s) {
		if (limit->dropped)
			tp_warning(
				"%u more lines like the last ones were left out", limit->dropped);
		*limit = (struct tp_log_limit){.window_s = now_s};
	}
	if (limit->used < 10) {
		limit->used++;
		return true;
	}
	limit->dropped++;
	return false;
}
