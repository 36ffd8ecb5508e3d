/* What is being done, for people who wait: a line on stderr, renewed on a terminal. One thread. */
#pragma once

#include "traffic.h"

/* seconds between lines; below 0: as fits stderr, 0: nothing is said. */
void progress_begin(double seconds);

void progress_clients(unsigned done, unsigned of, const char *what);
void progress_traffic(
	void *arg, const struct step *step, uint64_t offered, uint64_t relayed, double part);

/* Before anything else is written. */
void progress_clear(void);
