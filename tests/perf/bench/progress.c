#include "progress.h"

#include "base/clock.h"

#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#define TERMINAL_S 0.5
#define FILE_S     10.0

static bool on_terminal, is_shown;
static uint64_t every_ns, said_ns;

void progress_begin(double seconds)
{
	on_terminal = isatty(STDERR_FILENO);
	if (seconds < 0)
		seconds = on_terminal ? TERMINAL_S : FILE_S;
	every_ns = (uint64_t)(seconds * (double)TP_NS_PER_S);
	said_ns = tp_clock_now_ns();
}

static bool is_time(void)
{
	uint64_t now_ns = tp_clock_now_ns();

	if (!every_ns || now_ns - said_ns < every_ns)
		return false;
	said_ns = now_ns;
	return true;
}

__attribute__((format(printf, 1, 2))) static void say(const char *format, ...)
{
	va_list arguments;

	if (on_terminal)
		fputs("\r\033[K", stderr);
	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	if (!on_terminal)
		fputc('\n', stderr);
	is_shown = on_terminal;
}

void progress_clients(unsigned done, unsigned of, const char *what)
{
	if (is_time())
		say("%s: %u of %u", what, done, of);
}

void progress_traffic(
	void *arg, const struct step *step, uint64_t offered, uint64_t relayed, double part)
{
	char rate[32] = "flat out";

	if (!is_time())
		return;
	if (step->rate)
		snprintf(rate, sizeof(rate), "%llu/s", (unsigned long long)step->rate);
	say("%s, %u allocations: %3.0f %%, offered %llu, relayed %llu", rate, step->active,
		part < 1 ? 100 * part : 100, (unsigned long long)offered,
		(unsigned long long)relayed);
}

void progress_clear(void)
{
	if (is_shown)
		fputs("\r\033[K", stderr);
	is_shown = false;
}
