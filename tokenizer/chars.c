/* UTF-8, and the two character classes that added tokens ask about.
 *
 * The classes are Rust's \s and \w, because the reference uses its regex crate; words.inc was made from the reference
 * itself by asking it about every code point (tests/oracle/tokenizer.py --words). */
#include "parts.h"

static const uint32_t words[][2] = {
#include "words.inc"
};

int fr_utf8_length(const char *text, size_t n)
{
	const unsigned char *s = (const unsigned char *)text;
	unsigned char low = 0x80, high = 0xBF;
	int length;

	if (s[0] < 0x80)
		return 1;
	if (s[0] < 0xC2 || s[0] > 0xF4)
		return 0;
	length = s[0] < 0xE0 ? 2 : s[0] < 0xF0 ? 3 : 4;
	/* The second byte's range keeps out overlong forms, surrogates and what is above U+10FFFF. */
	if (s[0] == 0xE0)
		low = 0xA0;
	else if (s[0] == 0xED)
		high = 0x9F;
	else if (s[0] == 0xF0)
		low = 0x90;
	else if (s[0] == 0xF4)
		high = 0x8F;
	for (int i = 1; i < length; i++) {
		if ((size_t)i == n)
			return -1;
		if (s[i] < low || s[i] > high)
			return 0;
		low = 0x80;
		high = 0xBF;
	}
	return length;
}

int fr_utf8_valid(const char *s, size_t n)
{
	for (size_t i = 0; i < n;) {
		int length = fr_utf8_length(s + i, n - i);

		if (length <= 0)
			return 0;
		i += (size_t)length;
	}
	return 1;
}

uint32_t fr_utf8_code(const char *text, int length)
{
	const unsigned char *s = (const unsigned char *)text;
	static const unsigned char lead[] = {0, 0x7F, 0x1F, 0x0F, 0x07};
	uint32_t code = s[0] & lead[length];

	for (int i = 1; i < length; i++)
		code = code << 6 | (s[i] & 0x3F);
	return code;
}

int fr_is_space(uint32_t c)
{
	return (c >= 9 && c <= 13) || c == 32 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
	       (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

int fr_is_word(uint32_t c)
{
	size_t low = 0, high = sizeof words / sizeof words[0];

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (c > words[middle][1])
			low = middle + 1;
		else
			high = middle;
	}
	return low < sizeof words / sizeof words[0] && c >= words[low][0];
}
