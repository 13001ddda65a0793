#include "config/hint.h"

#include <ctype.h>
#include <string.h>

static size_t
smallest(size_t a, size_t b, size_t c)
{
	size_t least = a < b ? a : b;

	return least < c ? least : c;
}

/* How many letters to insert, delete or replace; case doesn't count. Names
 * too long for a key are far from everything. */
static size_t
distance(const char *a, const char *b)
{
	size_t cost[32], length = strlen(b);

	if (length >= 32 || strlen(a) >= 32)
		return 32;
	for (size_t j = 0; j <= length; j++)
		cost[j] = j;
	for (; *a != '\0'; a++) {
		size_t diagonal = cost[0]++;

		for (size_t j = 1; j <= length; j++) {
			size_t same = tolower((unsigned char)*a) ==
				      tolower((unsigned char)b[j - 1]);
			size_t above = cost[j];

			cost[j] = smallest(above + 1, cost[j - 1] + 1,
			    diagonal + (same ? 0 : 1));
			diagonal = above;
		}
	}
	return cost[length];
}

bool
hint_is_nearer(const char *typed, const char *name, size_t *best)
{
	size_t d = distance(typed, name);

	if (d > (strlen(name) + 2) / 3 || d >= *best)
		return false;
	*best = d;
	return true;
}
