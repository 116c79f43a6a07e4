/* The resized position table against torch's, bit for bit (what the cases are: tests/oracle/positions.py). */
#include "golden.h"

#include "../engine/positions.h"

#define OFFSET 0.1

static void check_case(const struct golden *g, const struct fr_tensor *want)
{
	int side = 0, dim = 0, to = 0;
	size_t differ = 0;
	char name[64], label[96];

	sscanf(want->name, "resized.%d.%d.%d", &side, &dim, &to);
	snprintf(name, sizeof name, "table.%d.%d", side, dim);
	snprintf(label, sizeof label, "exact/positions/%d-to-%d", side, to);
	const struct fr_tensor *table = golden_find(g, name);
	const size_t items = (1 + (size_t)to * (size_t)to) * (size_t)dim;
	float *got = malloc(items * sizeof *got);

	if (!table || !got || want->bytes != items * sizeof *got) {
		test_fail(label, "%s does not go with it", name);
	} else if (fr_positions_resize(table->data, side, dim, to, OFFSET, got)) {
		test_fail(label, "refused");
	} else {
		for (size_t i = 0; i < items; i++)
			differ += memcmp(&got[i], (const char *)want->data + 4 * i, 4) != 0;
		CHECK(label, differ == 0, "%zu of %zu values have other bits", differ, items);
	}
	free(got);
}

/* Of the grid's own size the table is used as it is, whatever the offset. */
static void check_same_size(void)
{
	float table[10 * 3], got[10 * 3];

	for (int i = 0; i < 30; i++)
		table[i] = (float)i / 7;
	CHECK("exact/positions/own-size",
	      fr_positions_resize(table, 3, 3, 3, OFFSET, got) == 0 && memcmp(table, got, sizeof got) == 0,
	      "not the table itself");
	CHECK("exact/positions/no-size",
	      fr_positions_resize(table, 0, 3, 3, OFFSET, got) && fr_positions_resize(table, 3, 3, 0, OFFSET, got) &&
		      fr_positions_resize(table, 3, 3, 2, -2, got),
	      "taken");
}

int main(void)
{
	struct fr_error err;
	struct golden g;
	int n = 0;

	check_same_size();
	if (golden_open("tests/golden/positions/resized.safetensors", &g, &err)) {
		test_fail("exact/positions/golden", "%s", err.text);
		return test_done();
	}
	for (size_t i = 0; i < g.t.n; i++)
		if (strncmp(g.t.at[i].name, "resized.", 8) == 0) {
			check_case(&g, &g.t.at[i]);
			n++;
		}
	CHECK("exact/positions/cases", n == 10, "%d cases", n);
	golden_close(&g);
	return test_done();
}
