/* The answers as text, one function per command. */
#pragma once

#include "text.h"

void print_status(const json_t *doc);
void print_stats(const json_t *doc);
void print_allocations(const json_t *doc);
void print_allocation(const json_t *doc);
void print_deleted(const json_t *doc);
void print_flows(const json_t *doc);
void print_audit(const json_t *doc);
void print_explanation(const json_t *doc);
void print_credentials(const json_t *doc);
