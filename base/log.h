/*
 * One line per event on stderr, as text or JSON. Formats are constants; what strangers chose (user
 * names, packets) is escaped, so that it can never end a line or move a cursor (threat F16).
 * Callable from any thread; does not wait for whoever reads stderr: a line that finds no room there
 * is lost.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum tp_log_level { TP_LOG_ERROR, TP_LOG_WARNING, TP_LOG_INFO, TP_LOG_DEBUG };

void tp_log_set_level(enum tp_log_level level);
enum tp_log_level tp_log_get_level(void);
void tp_log_set_json(bool json);

/* "error", "warning", "info", "debug"; -EINVAL for anything else. */
int tp_log_level_parse(const char *text, enum tp_log_level *out);

__attribute__((format(printf, 2, 3))) void tp_log(enum tp_log_level level, const char *format, ...);

/* A budget for lines that strangers can cause (threat R13): zero it, then ask before each line. */
struct tp_log_limit {
	uint64_t window_s;
	uint32_t used;
	uint32_t dropped;
};

/* True for the first 10 lines of a second; the first line of a later one tells what was left out.
 */
bool tp_log_allowed(struct tp_log_limit *limit);

#define tp_error(...)   tp_log(TP_LOG_ERROR, __VA_ARGS__)
#define tp_warning(...) tp_log(TP_LOG_WARNING, __VA_ARGS__)
#define tp_info(...)    tp_log(TP_LOG_INFO, __VA_ARGS__)
#define tp_debug(...)                                                                              \
	do {                                                                                       \
		if (tp_log_get_level() >= TP_LOG_DEBUG)                                            \
			tp_log(TP_LOG_DEBUG, __VA_ARGS__);                                         \
	} while (0)
