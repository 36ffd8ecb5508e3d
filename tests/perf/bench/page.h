/* The report as an HTML page that needs nothing else: a table and charts. */
#pragma once

#include "report.h"

void page_write(FILE *out, const struct report *report);
