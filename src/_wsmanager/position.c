/* Invariant: what was written parses to the same, and nothing else does. */
#include "position.h"

static int
position_digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool
position_seq(const char *text, size_t size, uint64_t *seq)
{
    *seq = 0;
    if (size == 0 || size > WSM_SEQ_DIGITS || (text[0] == '0' && size > 1)) {
        return false;
    }
    for (size_t i = 0; i < size; i++) {
        unsigned digit = (unsigned char)text[i] - (unsigned)'0';
#ifndef WSM_PLANT_WRAP
        if (digit > 9 || *seq > (UINT64_MAX - digit) / 10) {
            return false;
        }
#endif
        *seq = *seq * 10 + digit;
    }
    return true;
}

bool
wsm_position_parse(const char *text, size_t size, WsmPosition *position)
{
    uint64_t epoch = 0;

    if (size < WSM_EPOCH_DIGITS + 2 || size > WSM_POSITION_MAX ||
        text[WSM_EPOCH_DIGITS] != ':') {
        return false;
    }
    for (int i = 0; i < WSM_EPOCH_DIGITS; i++) {
        int digit = position_digit(text[i]);
        if (digit < 0) {
            return false;
        }
        epoch = epoch << 4 | (uint64_t)digit;
    }
    position->epoch = epoch;
    return position_seq(text + WSM_EPOCH_DIGITS + 1,
                        size - WSM_EPOCH_DIGITS - 1, &position->seq);
}

size_t
wsm_position_write(const WsmPosition *position, char *text)
{
    char digits[WSM_SEQ_DIGITS];
    uint64_t rest = position->seq;
    size_t count = 0;

    for (int i = 0; i < WSM_EPOCH_DIGITS; i++) {
        int shift = 4 * (WSM_EPOCH_DIGITS - 1 - i);
        text[i] = "0123456789abcdef"[position->epoch >> shift & 15];
    }
    text[WSM_EPOCH_DIGITS] = ':';
    do {
        digits[count++] = (char)('0' + rest % 10);
        rest /= 10;
    } while (rest != 0);
    for (size_t i = 0; i < count; i++) {
        text[WSM_EPOCH_DIGITS + 1 + i] = digits[count - 1 - i];
    }
    return WSM_EPOCH_DIGITS + 1 + count;
}
