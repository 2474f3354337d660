/* sprintf for `unicodeobject.c`: one number in decimal, as dates and messages are made of, is written here; all else by the C library,
 * whose machinery takes several times as long. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* Writes what `format` says if it is `%d` or `%u`, with zeros, a width and a size at most; -1 if it is not. */
static int number(char *to, const char *format, va_list args)
{
    if (*format++ != '%') return -1;
    char filling = ' ';
    if (*format == '0') filling = '0', format++;
    int width = 0;
    while (*format >= '0' && *format <= '9' && width < 64) width = 10 * width + *format++ - '0';
    if (width >= 64) return -1;
    int longer = 0;
    if (*format == 'z') format++;
    else while (*format == 'l' && longer < 2) longer++, format++;
    if ((*format != 'd' && *format != 'u') || format[1]) return -1;
    int negative = 0;
    uint64_t value;
    if (*format == 'u') {
        value = longer == 2 ? va_arg(args, unsigned long long) : va_arg(args, unsigned);
    } else {
        int64_t given = longer == 2 ? va_arg(args, long long) : va_arg(args, int);
        negative = given < 0;
        value = negative ? -(uint64_t)given : (uint64_t)given;
    }
    char digits[64], *end = digits + sizeof(digits), *at = end;
    for (; value > UINT32_MAX; value /= 10) *--at = '0' + value % 10;
    uint32_t rest = value;
    do *--at = '0' + rest % 10;
    while (rest /= 10);
    if (filling == '0') {
        while (end - at < width - negative) *--at = '0';
        if (negative) *--at = '-';
    } else {
        if (negative) *--at = '-';
        while (end - at < width) *--at = ' ';
    }
    size_t length = end - at;
    memcpy(to, at, length);
    to[length] = 0;
    return length;
}

int capibara_sprintf(char *restrict to, const char *restrict format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int length = number(to, format, args);
    if (length < 0) length = vsprintf(to, format, again);
    va_end(again);
    va_end(args);
    return length;
}
