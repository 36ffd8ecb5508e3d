/*
 * ctl/: whatever JSON a server sends comes out as printable ASCII, through every command's printer.
 */
#include "fuzz.h"

#include "controlplane/ctl/print.h"

static void (*const printers[])(const json_t *doc) = {print_status, print_stats, print_allocations,
	print_allocation, print_deleted, print_flows, print_audit, print_explanation,
	print_credentials};

static void check_text(const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++)
		MUST(text[i] == '\n' || (text[i] >= 0x20 && text[i] < 0x7f));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	json_t *doc = json_loadb((const char *)data, size, JSON_ALLOW_NUL, NULL);
	FILE *usual = stdout;
	char *text = NULL;
	size_t len = 0;

	if (!doc)
		return 0;
	for (size_t i = 0; i < COUNT(printers); i++) {
		stdout = open_memstream(&text, &len);
		MUST(stdout);
		printers[i](doc);
		fclose(stdout);
		stdout = usual;
		check_text(text, len);
		free(text);
	}
	json_decref(doc);
	return 0;
}
